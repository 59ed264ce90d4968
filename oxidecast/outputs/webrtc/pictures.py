"""The pictures of one viewer: which frames it is sent, when, and what of them again.

The one idea: a viewer is either *live*, and is sent each frame as it comes, or *catching up*: then a pacer sends it the
frames from the last keyframe on, faster than they were made and stamped so that they end where the live ones go on. A
beginning, a keyframe that was asked for and another rendition are the same thing. Who falls behind is sent nothing
until the next keyframe. Nobody is sent a packet a second time under one number: what was lost goes out anew on the
stream for that (RTX, RFC 4588).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.interfaces import IDelayedCall

from oxidecast.formats.rtcp import Nack, Report
from oxidecast.formats.rtp import nearest
from oxidecast.outputs.webrtc.adapting import Adapting
from oxidecast.outputs.webrtc.crossing import Crossing
from oxidecast.outputs.webrtc.extensions import Extensions
from oxidecast.outputs.webrtc.feed import Feed, Frame, bitrate
from oxidecast.outputs.webrtc.network import Network
from oxidecast.outputs.webrtc.numbering import STEP, Span
from oxidecast.outputs.webrtc.quality import Figures
from oxidecast.outputs.webrtc.resending import Resending
from oxidecast.webrtc.peer import Peer
from oxidecast.webrtc.srtp.streams import SrtpStream

PACE = 0.01
"""Seconds between two bursts of who catches up."""

LEAST_RATE = 10_000_000
RATE_FACTOR = 4
"""Bits a second of who catches up: so many times the stream's own, since who can watch it has more than that; and at
least so many, which nearly every network takes for half a second. But no more than is known to get through."""

QUICK = 0.25
"""Seconds in which a group of pictures is sent again, or the keyframe of another rendition: an encoder that is asked
for a keyframe is as fast."""

BEHIND = 0.6
BEHIND_CROSSING = 0.3
"""Seconds that a network takes for what it was sent already: then nothing is sent until a keyframe. Less, when a
keyframe of another rendition is about to come."""

MAX_FAILED = 3
"""Sends in a row for which this machine had no room: what follows cannot be shown any more."""

ROOM_AGAIN = 0.02
"""Seconds until a connection that took no more is looked at again."""

MAX_REPLAY = 262_144
"""Bytes of a group of pictures that are sent again to who asks for a keyframe. Beyond it the next keyframe is nearer
than the end of the replay."""

REPLAY_PAUSE = 1.0
"""Seconds between two replays: a receiver repeats its wish until it is met."""


class Pictures:
    """Reader of at most one feed. `extensions` are those that were agreed, by number; `out` sends packets of a size
    each, the last of at most that, and answers False when some were lost here; `began` is called with the first
    picture."""

    __slots__ = (
        "_began",
        "_clock",
        "_crossing",
        "_cursor",
        "_extensions",
        "_failed",
        "_figures",
        "_latest",
        "_measured_by",
        "_out",
        "_overhead",
        "_pacer",
        "_patience",
        "_peer",
        "_place",
        "_rate",
        "_replayed_at",
        "_resending",
        "_span",
        "_waiting",
        "adapting",
        "feed",
        "network",
        "resend",
        "video",
    )

    _peer: Peer

    def __init__(
        self,
        extensions: Sequence[tuple[int, str]],
        clock: Any,
        figures: Figures,
        out: Callable[[bytes, int], bool],
        began: Callable[[], None],
    ) -> None:
        self.feed: Feed | None = None
        self.video: SrtpStream | None = None
        """None until it is open."""
        self.resend: SrtpStream | None = None
        self.network = Network()
        self.adapting = Adapting(self.network, clock, self.pad)
        self._clock = clock
        self._figures = figures
        self._out = out
        self._began = began
        self._overhead = 0
        self._pacer: IDelayedCall | None = None
        self._cursor: int | None = None
        """The number of the next frame, while catching up."""
        self._waiting = True
        """For a keyframe."""
        self._place = -1
        """In the feed, of the payload that would follow the last one sent."""
        self._span: Span | None = None
        self._resending = Resending()
        self._latest = 0
        """The time of the last frame sent."""
        self._rate = 0.0
        """Bytes a second, while catching up."""
        self._failed = 0
        """Sends in a row."""
        self._crossing: Crossing | None = None
        self._measured_by = 0
        """What its last report says of ours: a round trip counts once."""
        self._extensions = Extensions(extensions)
        self._patience: float | None = None
        """Seconds that it is to hold frames."""
        self._replayed_at = 0.0

    def open(self, peer: Peer, video: SrtpStream, resend: SrtpStream | None, overhead: int) -> None:
        """It is connected; `overhead` is what encryption adds to a packet."""
        self._peer = peer
        self.video, self.resend = video, resend
        self._overhead = overhead

    def close(self) -> None:
        """Nothing is sent any more."""
        self.watch(None)
        self.adapting.stop()

    def watch(self, feed: Feed | None) -> None:
        """Take pictures from this feed, from its last keyframe on."""
        self.stay()
        self._read(feed)
        if feed is not None and self.video is not None:
            self._begin()

    def go_over(self, feed: Feed, then: Callable[[], None]) -> None:
        """Take pictures from this feed as soon as that leaves no gap, and say so by `then`."""

        def cross(key: Frame) -> bool:
            frames = feed.since(key.number)
            if not frames:
                return False
            self.stay()
            self._read(feed)
            if self.network.room < math.inf and self.video is not None:
                self._resending.least = self.video.next_index
            then()
            self._catch_up(frames, self._latest + STEP, STEP)
            return True

        self.stay()
        self._crossing = Crossing(feed, lambda: 0 if self._waiting else self._latest, cross)
        # Up there is time, and what was sent need not be sent again.
        self._crossing.start(self.network.room * QUICK / 8 if self.network.room < math.inf else 0)

    def stay(self) -> None:
        """Go over no more."""
        if self._crossing is not None:
            self._crossing.stop()
            self._crossing = None

    def wait(self) -> None:
        """Nothing is sent until there is a keyframe."""
        self._stop_pacing()
        self._waiting = True

    def anew(self, feed: Feed) -> None:
        """This feed begins anew, with a keyframe."""
        if self._crossing is not None and self._crossing.feed is feed:
            self._crossing.anew()
        elif self.feed is feed:
            self.wait()

    def picture(self, frame: Frame) -> None:
        """The feed's next frame."""
        if self._crossing is not None and self._crossing.passes(frame):
            return
        if self._is_behind():
            if not self._waiting:
                self._figures.skips += 1
                self.wait()
            return
        if self._cursor is not None:
            if frame.keyframe:
                self._cursor = frame.number  # Nothing before it is worth catching up with.
        elif frame.keyframe or not self._waiting:
            self._waiting = False
            if self._peer.has_room:
                self._send(frame)
            else:
                self._fall_behind(frame)

    def pad(self, size: int) -> int:
        """Send about so many bytes of what it has already; the answer is how many it were."""
        sent, own = 0, self.video.next_index if self.video is not None else 0
        while sent < size:
            own -= 1
            one = self._send_again(own)
            if not one:
                break
            sent += one
        return sent

    # -- what it says

    def missed(self, nack: Nack) -> None:
        """It has not got these."""
        video = self.video
        if video is None or nack.ssrc != video.ssrc or self.feed is None:
            return
        now, newest, troubled = self._clock.seconds(), video.next_index, False
        rate = self._bitrate()
        for sequence in nack.sequences:
            own = nearest(sequence, newest)
            if own < newest:
                if own >= self._resending.least:
                    troubled |= self.network.missed(own, rate, now)
                if self._resending.may(own, self.network, now):
                    self._send_again(own)
                    if self.network.is_noisy(now) and not self.network.short:
                        self._send_again(own)  # It gets lost as easily, and is missed much later then.
        if troubled:
            self._troubled()

    def keyframe_wanted(self) -> None:
        """Give a keyframe to who asks for one: the last one again, if little came since; else a new one for all, where
        the server makes the rendition; else the last one, if it is not too late for it."""
        now = self._clock.seconds()
        feed = self.feed
        if self._cursor is not None or feed is None or now - self._replayed_at < REPLAY_PAUSE:
            return
        group = feed.group() if not self._waiting else []
        size = sum(frame.size for frame in group)
        is_quick = group and size <= self._catching_up(group) * QUICK
        if (not is_quick and feed.rendition.want_keyframe()) or not group or size > MAX_REPLAY:
            return
        self._replayed_at = now
        self._figures.replays += 1
        # All of them between the frame that was sent last and the one that comes next.
        step = max(1, group[-1].duration // (len(group) + 1))
        self._catch_up(group, group[-1].timestamp + step, step)

    def estimated(self, room: int) -> None:
        """It thinks that its network carries so many bits a second."""
        self._figures.estimate = room
        if self.network.estimate(room, self._clock.seconds()):
            self._troubled()

    def heard(self, report: Report) -> None:
        """How they came."""
        if self.video is None or report.ssrc != self.video.ssrc:
            return
        now = self._clock.seconds()
        trip = self._figures.heard(report, self.video.packets, now)
        if report.last_report == self._measured_by:
            trip = 0.0  # Several reports may tell of one of ours: the later of them measure nothing anew.
        self._measured_by = report.last_report
        self._patience = self.network.patience(self._figures.round_trip, now)
        if self.feed is not None and self.network.report(
            report.lost, self.video.packets, trip, self._bitrate(), now
        ):
            self._troubled()

    # -- inside

    def _read(self, feed: Feed | None) -> None:
        """Be a reader of this feed alone; what was sent of another is no matter any more."""
        if self.feed is not None:
            self.feed.watching.pop(self, None)
        self.feed = feed
        self.wait()
        self._place = -1
        if feed is not None and self.video is not None:
            feed.watching[self] = None

    def _begin(self) -> None:
        """Catch up from the last keyframe on, if all since then is there."""
        group = self.feed.group() if self.feed is not None else []
        if group:
            # The newest frame is in its own time, the others close before it.
            self._catch_up(group, group[-1].timestamp - (len(group) - 1) * STEP, STEP)

    def _catching_up(self, group: list[Frame]) -> float:
        """Bytes a second."""
        return min(max(LEAST_RATE, RATE_FACTOR * bitrate(group)), self.network.room) / 8

    def _catch_up(self, group: list[Frame], base: int, step: int) -> None:
        if self.video is None or self.feed is None:
            return
        self._stop_pacing()
        self._waiting = False
        self._cursor = group[0].number
        self._begin_span(group[0], base, step)
        self._place = group[0].first
        self._rate = self._catching_up(group)
        self._pace()

    def _fall_behind(self, frame: Frame) -> None:
        """Its connection takes no more for now: catch up from this frame on, or from a later keyframe."""
        self._figures.stalls += 1
        self._cursor = frame.number
        self._rate = LEAST_RATE / 8
        self._pace()

    def _begin_span(self, frame: Frame, base: int, step: int) -> None:
        if self.video is not None and self.feed is not None:
            base = max(base, self._latest + STEP)
            self._span = Span(self.video.next_index, frame.first, self.feed, frame.number, base, step)
            self._resending.begin(self._span)

    def _pace(self) -> None:
        """Send as many bytes as are due, and go on until there is no frame left."""
        self._pacer = None
        feed, cursor = self.feed, self._cursor
        frames = feed.since(cursor) if feed is not None and cursor is not None else None
        if frames is None or cursor is None:
            self.wait()
            return
        if not self._peer.has_room:
            self._pacer = self._clock.callLater(ROOM_AGAIN, self._pace)
            return
        # What is heard meanwhile counts at once: many begin with more than their network takes.
        budget = left = min(self._rate, self.network.room / 8) * PACE
        for frame in frames:
            if left <= 0 or not self._peer.has_room:
                break
            left -= frame.size
            cursor = frame.number + 1
            self._send(frame)
        if not frames or cursor > frames[-1].number:
            self._cursor = None
            return
        self._cursor = cursor
        # A frame that was larger than its time makes the next one wait.
        pause = PACE * max(1.0, 1.0 - left / budget)
        self._pacer = self._clock.callLater(pause, self._pace)

    def _stop_pacing(self) -> None:
        if self._pacer is not None:
            self._pacer.cancel()
            self._pacer = None
        self._cursor = None

    def _send(self, frame: Frame) -> None:
        # Once for each viewer and frame: what is done here is what a viewer costs.
        video = self.video
        if video is None or self.feed is None:
            return
        if frame.first != self._place or self._span is None:
            self._begin_span(frame, 0, STEP)
        assert self._span is not None
        self._place = frame.first + frame.count
        timestamp = self._latest = self._span.stamp(frame)
        extension = self._extensions.at(self._clock.seconds(), self._patience)
        for run in frame.runs:
            packets = video.protect(run.payloads, timestamp, extension)
            if self._out(packets, run.size + self._overhead + len(extension)):
                self._failed = 0
            else:
                self._failed += 1
        if not self._figures.first_picture:
            self._began()

    def _is_behind(self) -> bool:
        """Whether it is no use to send it pictures now."""
        if self._failed >= MAX_FAILED:
            self._failed = 0
            return True
        if not self.network.short:
            return False
        limit = BEHIND_CROSSING if self._crossing is not None else BEHIND
        return self.network.behind(self._clock.seconds()) > limit

    def _send_again(self, own: int) -> int:
        """The answer is how many bytes it was; 0 when it is not there any more."""
        found = self._resending.find(own) if self.resend is not None else None
        if found is None or self.resend is None:
            return 0
        payload, timestamp = found
        extension = self._extensions.at(self._clock.seconds(), self._patience)
        packet = self.resend.protect((payload,), timestamp, extension)
        self._figures.resent += 1
        self._out(packet, len(packet))
        return len(packet)

    def _bitrate(self) -> float:
        """Bits a second that it is sent; 0 where that is not known."""
        return self.adapting.rate_of(self.feed.bitrate) if self.feed is not None else 0.0

    def _troubled(self) -> None:
        """More is sent than its network takes."""
        if self.feed is None:
            return
        self.network.settle(self._bitrate())
        self.network.queued(self._clock.seconds())
        self.adapting.troubled()
