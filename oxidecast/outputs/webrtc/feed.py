"""One rendition as RTP, made once for all viewers.

The one idea: a frame becomes payloads when it comes, and stays for a while: who begins takes the frames since the last
keyframe from here, and who misses a packet has it sent again from here. Viewers have sequence numbers of their own;
what they share is the place of a payload in this feed, which counts on for ever.
"""

from bisect import bisect_right
from collections.abc import Callable
from operator import attrgetter
from typing import Protocol

import msgspec
from zope.interface import implementer

from oxidecast.formats.rtp_opus import SampleClock
from oxidecast.formats.rtp_runs import Payload, Run
from oxidecast.interfaces import IRendition, ISubscriber, ISubscription
from oxidecast.media import TICKS, Codec, Packet, RemoteProtocolError, Track
from oxidecast.outputs.webrtc.payloads import packetize
from oxidecast.outputs.webrtc.sound import CatchingUp

LIMIT = 1_158
"""Bytes of payload: with RTP header (12), its extension (12), GCM tag (16) and the number in a retransmission (2) the
1,200 that browsers use, too, which pass every tunnel."""

MAX_HISTORY = 2_048
"""Payloads behind the newest that can be sent again: a second of 20 Mbit/s. The current group of pictures is kept
whole besides, for who begins."""

MAX_BYTES = 16 << 20
"""Of frames kept, whatever else: half a minute of 4 Mbit/s. A group that outgrows it gives new viewers no beginning."""


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One picture in RTP."""

    number: int
    """Counts this feed's frames."""
    first: int
    """The place of its first payload in the feed."""
    count: int
    size: int
    """Bytes of payload."""
    timestamp: int
    """Of RTP, not wrapped."""
    duration: int
    keyframe: bool
    runs: tuple[Run, ...]

    def payload(self, place: int) -> Payload:
        """One of its payloads, by its place in the feed."""
        place -= self.first
        for run in self.runs:
            if place < len(run.payloads):
                return run.payloads[place]
            place -= len(run.payloads)
        raise IndexError(place)


class Watches(Protocol):
    """Who is sent a feed's pictures."""

    def picture(self, frame: Frame) -> None: ...


class Listens(Protocol):
    """Who is sent a feed's sound."""

    def sound(self, payload: bytes, timestamp: int) -> None: ...


_FIRST = attrgetter("first")


@implementer(ISubscriber)
class Feed:
    """See the module. `seconds` is the clock; `zero` are what the RTP timestamps of pictures and sound begin at, the
    same for all feeds of a stream; `on_change` hears that it does not go on as it was, `on_end` that it ends."""

    def __init__(
        self,
        rendition: IRendition,
        seconds: Callable[[], float],
        zero: tuple[int, int],
        on_change: Callable[["Feed"], None],
        on_end: Callable[["Feed", str], None],
    ) -> None:
        self.name = rendition.name
        self.rendition = rendition
        self.watching: dict[Watches, None] = {}
        self.listening: dict[Listens, None] = {}
        self.has_b_frames = False
        """Whether pictures came in another order than they are shown: browsers' receivers cannot show those."""
        self.frames: list[Frame] = []
        self.newest: tuple[int, int] | None = None
        """Media time of the last picture, and its timestamp."""
        self.newest_sound: tuple[int, int] | None = None
        self._seconds = seconds
        self._zero = zero
        self._on_change = on_change
        self._on_end = on_end
        self._clock = SampleClock()
        self._catching_up = CatchingUp()
        self._count = 0
        self._place = 0
        self._bytes = 0
        self._latest_pts = 0
        self._group: int | None = None
        """The number of the last keyframe, while it and all after it are here."""
        self._subscription: ISubscription | None = None

    @property
    def is_used(self) -> bool:
        return bool(self.watching or self.listening)

    @property
    def bitrate(self) -> float:
        """Bits a second, lately; 0 while that is not known."""
        if self.rendition.bitrate or not self.frames:
            return self.rendition.bitrate
        # A keyframe, and little more, says nothing.
        lasts = self.frames[-1].timestamp - self.frames[0].timestamp
        return self._bytes * 8 * TICKS / lasts if lasts >= TICKS else 0.0

    def start(self, owner: object) -> None:
        """Subscribe: the frames since the last keyframe come at once."""
        self._subscription = self.rendition.subscribe(self, owner)

    def stop(self) -> None:
        if self._subscription is not None:
            self._subscription.cancel()
        self._forget()

    def track(self, video: bool) -> Track | None:
        """The picture's or the sound's track, as it is now."""
        return next((track for track in self.rendition.tracks if track.is_video is video), None)

    def group(self) -> list[Frame]:
        """The frames since the last keyframe; empty when they are not all here."""
        if self._group is None or not self.frames:
            return []
        return self.frames[self._group - self.frames[0].number :]

    def since(self, number: int) -> list[Frame] | None:
        """The frames from this one on; None when it is gone."""
        if not self.frames or number < self.frames[0].number:
            return None
        return self.frames[number - self.frames[0].number :]

    def holding(self, place: int) -> Frame | None:
        """The frame with the payload at this place, while it is kept."""
        at = bisect_right(self.frames, place, key=_FIRST) - 1
        if at < 0 or place >= self.frames[at].first + self.frames[at].count:
            return None
        return self.frames[at]

    # -- ISubscriber

    def packet(self, packet: Packet) -> None:
        if packet.track.is_video:
            self._picture(packet)
        elif packet.track.codec is Codec.OPUS and len(packet.payload) <= LIMIT:
            # More would be 470 kbit/s in frames of 20 ms: nobody sends that, and no datagram takes it.
            try:
                timestamp = self._clock.timestamp(packet.pts, packet.payload) + self._zero[1]
            except RemoteProtocolError:
                return  # An empty packet, or none of Opus: nothing can be heard of it.
            if not self._catching_up.is_live(packet.pts, self._seconds()):
                return
            self.newest_sound = (packet.pts, timestamp)
            for reader in tuple(self.listening):
                reader.sound(packet.payload, timestamp)

    def restarted(self, reason: str) -> None:
        self._forget()
        self._catching_up = CatchingUp()
        self._on_change(self)

    def ended(self, reason: str) -> None:
        self._subscription = None
        self._on_end(self, reason)

    # -- inside

    def _picture(self, packet: Packet) -> None:
        if packet.pts < self._latest_pts and not self.has_b_frames:
            self.has_b_frames = True
            self._on_change(self)
        self._latest_pts = packet.pts
        try:
            made = packetize(packet, LIMIT)
        except RemoteProtocolError:
            return  # No picture of its codec: a receiver could do nothing with it.
        if not made:
            return
        count = sum(len(run.payloads) for run in made)
        size = sum(len(payload) for run in made for _, payload in run.payloads)
        frame = Frame(
            self._count,
            self._place,
            count,
            size,
            packet.pts + self._zero[0],
            packet.duration,
            packet.keyframe,
            made,
        )
        self.newest = (packet.pts, frame.timestamp)
        self._count += 1
        self._place += count
        self._bytes += size
        if packet.keyframe:
            self._group = frame.number
        self.frames.append(frame)
        self._trim()
        for reader in tuple(self.watching):
            reader.picture(frame)

    def _trim(self) -> None:
        """Let go of what nobody can want any more."""
        frames, dropped = self.frames, 0
        while dropped < len(frames) - 1:
            oldest = frames[dropped]
            in_group = self._group is not None and oldest.number >= self._group
            old = self._place - oldest.first > MAX_HISTORY
            if self._bytes <= MAX_BYTES and (in_group or not old):
                break
            if in_group:
                self._group = None
            self._bytes -= oldest.size
            dropped += 1
        if dropped:
            del frames[:dropped]

    def _forget(self) -> None:
        """What came before is no beginning, and nobody's loss."""
        self.frames = []
        self._bytes = 0
        self._group = None
        self.has_b_frames = False


def bitrate(frames: list[Frame]) -> float:
    """Bits a second of a group of pictures."""
    duration = sum(frame.duration for frame in frames)
    return sum(frame.size for frame in frames) * 8 * TICKS / max(duration, 1)
