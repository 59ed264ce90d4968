"""The media side of one viewer: what is sent to it, and what is made of its answers.

The one idea: a viewer is either *live*, and is sent each frame as it comes, or *catching up*: then a pacer sends it the
frames from the last keyframe on, faster than they were made and stamped so that they end where the live ones go on. A
beginning and a keyframe that was asked for are the same thing. Nobody is sent a packet a second time under one number:
what was lost goes out anew on the stream for that (RTX, RFC 4588).
"""

import random
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.interfaces import IDelayedCall

from oxidecast.formats import rtcp
from oxidecast.formats.rtcp import Report
from oxidecast.formats.rtp import nearest
from oxidecast.formats.rtp_runs import PLAIN
from oxidecast.interfaces import IViewer
from oxidecast.media import TICKS, RemoteProtocolError
from oxidecast.media.opus import SAMPLE_RATE
from oxidecast.outputs.webrtc.feed import Feed, Frame, bitrate
from oxidecast.outputs.webrtc.negotiation import Agreed
from oxidecast.webrtc.peer import Peer
from oxidecast.webrtc.srtp import SrtpSender
from oxidecast.webrtc.srtp.streams import SrtpStream

PACE = 0.01
"""Seconds between two bursts of who catches up."""

LEAST_RATE = 10_000_000
RATE_FACTOR = 4
"""Bits a second of who catches up: so many times the stream's own, since who can watch it has more than that; and at
least so many, which nearly every network takes for half a second."""

ROOM_AGAIN = 0.02
"""Seconds until who has no room for a frame is looked at again."""

STEP = 90
"""Ticks between frames of a beginning: a millisecond, as fast as a decoder goes through them."""

MAX_REPLAY = 262_144
"""Bytes of a group of pictures that are sent again to who asks for a keyframe. Beyond it the next keyframe is nearer
than the end of the replay."""

REPLAY_PAUSE = 1.0
"""Seconds between two replays: a receiver repeats its wish until it is met."""

MAX_RESENT = 500
"""Packets that are sent again in a second, at most: 5 Mbit/s. Who loses more has no room for more."""

REPORT = 1.0
"""Seconds between two sender reports, spread a little, so that viewers who came together do not report together."""

SPANS = 32
"""Times that a viewer's numbering left the feed's, of which can be sent again: more than a minute of replays."""


class Figures(msgspec.Struct):
    """What a viewer said, and what was done about it."""

    nacks: int = 0
    """Packets that it missed."""
    resent: int = 0
    keyframes_wanted: int = 0
    replays: int = 0
    dropped: int = 0
    """Sends that failed here."""
    stalls: int = 0
    """How often its connection took no more: by TCP only."""
    loss: float = 0.0
    """Of its last report: 0 to 1."""
    jitter: float = 0.0
    """Seconds."""
    round_trip: float = 0.0
    """Seconds; 0 until it is known."""
    estimate: int = 0
    """What it thinks that its network carries, in bits a second; 0 until it says so."""


class _Span(msgspec.Struct, frozen=True, gc=False):
    """From the packet `own` on, the viewer's numbers and the feed's places go in step."""

    own: int
    place: int
    feed: Feed
    until: int
    """Frames up to this number are stamped from `base` on, a `step` each; later ones bear their own time."""
    start: int
    base: int
    step: int

    def stamp(self, frame: Frame) -> int:
        if frame.number > self.until:
            return frame.timestamp
        return self.base + (frame.number - self.start) * self.step


class Viewer:
    """One viewer; `PeerUser` of its peer, and reader of at most one feed of pictures and one of sound."""

    __slots__ = (
        "_audio",
        "_clock",
        "_cursor",
        "_on_closed",
        "_overhead",
        "_pacer",
        "_place",
        "_replayed_at",
        "_reporter",
        "_resend",
        "_resent_in",
        "_span",
        "_spans",
        "_utc",
        "_video",
        "_waiting",
        "agreed",
        "counted",
        "counts",
        "figures",
        "listens",
        "on_connected",
        "on_gone",
        "opened_at",
        "peer",
        "profile",
        "remote_ufrag",
        "started_after",
        "watches",
    )

    peer: Peer

    def __init__(
        self,
        agreed: Agreed,
        clock: Any,
        utc: Callable[[int], float],
        on_closed: Callable[["Viewer", str], None],
    ) -> None:
        self.figures = Figures()
        self.counted: IViewer | None = None
        """Its session, once it is connected."""
        self.counts = True
        """Whether that session is this one's alone, and ends with it."""
        self.on_connected: Callable[[], None] = _nothing
        self.on_gone: Callable[[], None] = _nothing
        self.remote_ufrag = agreed.ufrag
        """Of its newest offer of ICE."""
        self.profile = ""
        """How its media is encrypted."""
        self.opened_at = clock.seconds()
        self.started_after: float | None = None
        """Seconds from its offer to its first picture."""
        self.watches: Feed | None = None
        self.listens: Feed | None = None
        self.agreed = agreed
        self._clock = clock
        self._utc = utc
        self._on_closed = on_closed
        self._overhead = 0
        self._video: SrtpStream | None = None
        self._resend: SrtpStream | None = None
        self._audio: SrtpStream | None = None
        self._pacer: IDelayedCall | None = None
        self._reporter: IDelayedCall | None = None
        self._cursor: int | None = None
        """The number of the next frame, while catching up."""
        self._waiting = True
        """For a keyframe."""
        self._place = -1
        """In the feed, of the payload that would follow the last one sent."""
        self._span: _Span | None = None
        self._spans: deque[_Span] = deque(maxlen=SPANS)
        self._replayed_at = 0.0
        self._resent_in = (0, 0)

    @property
    def mid(self) -> str:
        """See `webrtc.signalling.Session`."""
        return self.agreed.mid

    # -- what it is sent

    def watch(self, feed: Feed | None) -> None:
        """Take pictures from this feed, from its last keyframe on."""
        if self.watches is not None:
            self.watches.watching.pop(self, None)
        self.watches = feed
        self._stop_pacing()
        self._waiting = True
        if feed is not None and self._video is not None:
            feed.watching[self] = None
            self._begin()

    def listen(self, feed: Feed | None) -> None:
        """Take sound from this feed."""
        if self.listens is not None:
            self.listens.listening.pop(self, None)
        self.listens = feed
        if feed is not None and self._audio is not None:
            feed.listening[self] = None

    def wait(self) -> None:
        """The feed begins anew, with a keyframe."""
        self._stop_pacing()
        self._waiting = True

    def picture(self, frame: Frame) -> None:
        """The feed's next frame."""
        if self._cursor is not None:
            if frame.keyframe:
                self._cursor = frame.number  # Nothing before it is worth catching up with.
        elif frame.keyframe or not self._waiting:
            self._waiting = False
            if self.peer.has_room:
                self._send(frame, frame.timestamp)
            else:
                self._fall_behind(frame)

    def sound(self, payload: bytes, timestamp: int) -> None:
        audio = self._audio
        if audio is not None and self.peer.has_room:
            packet = audio.protect(((PLAIN, payload),), timestamp)
            self._sent(packet, len(packet))

    # -- PeerUser

    def connected(self, sender: SrtpSender, profile: str) -> None:
        self.profile = profile
        self._overhead = sender.overhead
        agreed = self.agreed
        if agreed.video is not None:
            sent = agreed.video
            self._video = sender.stream(sent.ssrc, sent.codec.payload_type, random.randrange(1 << 14))
            if sent.retransmission is not None:
                again = sent.retransmission.payload_type
                self._resend = sender.stream(sent.retransmission_ssrc, again, random.randrange(1 << 14))
        if agreed.audio is not None:
            sent = agreed.audio
            self._audio = sender.stream(sent.ssrc, sent.codec.payload_type, random.randrange(1 << 14))
        self.on_connected()
        # The sound first: it is there when the picture comes.
        self.listen(self.listens)
        self._report()
        self.watch(self.watches)

    def rtp(self, packet: bytes) -> None:
        """A viewer has nothing to send."""

    def rtcp(self, packet: bytes) -> None:
        try:
            items = rtcp.parse(packet)
        except RemoteProtocolError:
            return
        for item in items:
            if isinstance(item, rtcp.Nack):
                self.figures.nacks += len(item.sequences)
                if self._video is not None and item.ssrc == self._video.ssrc:
                    for sequence in item.sequences:
                        self._send_again(sequence)
            elif isinstance(item, rtcp.KeyframeWanted):
                self.figures.keyframes_wanted += 1
                self._replay()
            elif isinstance(item, rtcp.Report):
                self._heard(item)
            elif isinstance(item, rtcp.Estimate):
                self.figures.estimate = item.bitrate

    def closed(self, reason: str) -> None:
        self.watch(None)
        self.listen(None)
        if self._reporter is not None:
            self._reporter.cancel()
            self._reporter = None
        self._on_closed(self, reason)
        self.on_gone()

    def end(self, reason: str) -> None:
        """Tell the viewer that it is over."""
        ssrcs = [stream.ssrc for stream in (self._video, self._audio) if stream is not None]
        if ssrcs and self.peer.is_connected:
            self.peer.send_rtcp(rtcp.goodbye(ssrcs, self.agreed.cname.encode()))
        self.peer.close(reason)

    # -- inside: pictures

    def _begin(self) -> None:
        """Catch up from the last keyframe on, if all since then is there."""
        group = self.watches.group() if self.watches is not None else []
        if group:
            # The newest frame is in its own time, the others close before it.
            self._catch_up(group, group[-1].timestamp - (len(group) - 1) * STEP, STEP)

    def _replay(self) -> None:
        """Give a keyframe to who asks for one, if it is not too late for the last one."""
        now = self._clock.seconds()
        if self._waiting or self._cursor is not None or self.watches is None:
            return
        if now - self._replayed_at < REPLAY_PAUSE:
            return
        group = self.watches.group()
        if not group or sum(frame.size for frame in group) > MAX_REPLAY:
            return
        self._replayed_at = now
        self.figures.replays += 1
        # All of them between the frame that was sent last and the one that comes next.
        step = max(1, group[-1].duration // (len(group) + 1))
        self._catch_up(group, group[-1].timestamp + step, step)

    def _catch_up(self, group: list[Frame], base: int, step: int) -> None:
        if self._video is None or self.watches is None:
            return
        self._waiting = False
        self._cursor = group[0].number
        self._span = _Span(
            own=self._video.next_index,
            place=group[0].first,
            feed=self.watches,
            until=group[-1].number,
            start=group[0].number,
            base=base,
            step=step,
        )
        self._spans.append(self._span)
        self._place = group[0].first
        self._pace(max(LEAST_RATE, RATE_FACTOR * bitrate(group)) * PACE / 8)

    def _fall_behind(self, frame: Frame) -> None:
        """The way takes no more for now: catch up from this frame on, or from a later keyframe."""
        if self._video is None or self.watches is None:
            return
        self.figures.stalls += 1
        self._cursor = frame.number
        self._span = _Span(self._video.next_index, frame.first, self.watches, -1, 0, 0, 0)
        self._spans.append(self._span)
        self._place = frame.first
        self._pace(LEAST_RATE * PACE / 8)

    def _pace(self, budget: float) -> None:
        """Send as many bytes as are due, and go on until there is no frame left."""
        self._pacer = None
        feed, cursor, span = self.watches, self._cursor, self._span
        frames = feed.since(cursor) if feed is not None and cursor is not None else None
        if frames is None or cursor is None or span is None:
            self.wait()
            return
        if not self.peer.has_room:
            self._pacer = self._clock.callLater(ROOM_AGAIN, self._pace, budget)
            return
        left = budget
        for frame in frames:
            if left <= 0 or not self.peer.has_room:
                break
            left -= frame.size
            cursor = frame.number + 1
            self._send(frame, span.stamp(frame))
        if not frames or cursor > frames[-1].number:
            self._cursor = None
            return
        self._cursor = cursor
        # A frame that was larger than its time makes the next one wait.
        pause = PACE * max(1.0, 1.0 - left / budget)
        self._pacer = self._clock.callLater(pause, self._pace, budget)

    def _stop_pacing(self) -> None:
        if self._pacer is not None:
            self._pacer.cancel()
            self._pacer = None
        self._cursor = None

    def _send(self, frame: Frame, timestamp: int) -> None:
        # Once for each viewer and frame: what is done here is what a viewer costs.
        video = self._video
        if video is None or self.watches is None:
            return
        if frame.first != self._place:
            self._span = _Span(video.next_index, frame.first, self.watches, -1, 0, 0, 0)
            self._spans.append(self._span)
        self._place = frame.first + frame.count
        for run in frame.runs:
            packets = video.protect(run.payloads, timestamp)
            self._sent(packets, run.size + self._overhead)
        if self.started_after is None:
            self.started_after = self._clock.seconds() - self.opened_at

    def _sent(self, packets: bytes, size: int) -> None:
        if not self.peer.send(packets, size):
            self.figures.dropped += 1
        if self.counted is not None:
            self.counted.bytes_sent += len(packets)

    def _send_again(self, sequence: int) -> None:
        video, resend = self._video, self._resend
        if video is None or resend is None:
            return
        second, count = int(self._clock.seconds()), 0
        if self._resent_in[0] == second:
            count = self._resent_in[1]
        if count >= MAX_RESENT:
            return
        own = nearest(sequence, video.next_index)
        span = next((span for span in reversed(self._spans) if span.own <= own), None)
        if span is None or own >= video.next_index:
            return
        place = span.place + own - span.own
        frame = span.feed.holding(place)
        if frame is None:
            return
        flags, payload = frame.payload(place)
        original = (own & 0xFFFF).to_bytes(2, "big")
        packet = resend.protect(((flags, original + payload),), span.stamp(frame))
        self._resent_in = (second, count + 1)
        self.figures.resent += 1
        self._sent(packet, len(packet))

    # -- inside: reports

    def _report(self) -> None:
        """Say when what was sent belongs, for lip synchronisation and to measure the way."""
        now = self._clock.seconds()
        cname = self.agreed.cname.encode()
        parts = []
        for stream, newest, rate in (
            (self._video, self.watches.newest if self.watches is not None else None, TICKS),
            (self._audio, self.listens.newest_sound if self.listens is not None else None, SAMPLE_RATE),
        ):
            if stream is None or newest is None:
                continue
            pts, timestamp = newest
            at = timestamp + round((now - self._utc(pts)) * rate)
            parts.append(rtcp.sender_report(stream.ssrc, now, at, stream.packets, stream.octets, cname))
        for part in parts:
            self.peer.send_rtcp(part)
        pause = REPORT * random.uniform(0.8, 1.2) if parts else REPORT / 5
        self._reporter = self._clock.callLater(pause, self._report)

    def _heard(self, report: Report) -> None:
        if self._video is None or report.ssrc != self._video.ssrc:
            return
        self.figures.loss = report.fraction
        self.figures.jitter = report.jitter / TICKS
        if report.last_report:
            now = rtcp.ntp(self._clock.seconds()) >> 16 & 0xFFFFFFFF
            trip = (now - report.last_report - report.delay) & 0xFFFFFFFF
            if trip < 1 << 20:  # 16 s; more is a clock that was set
                self.figures.round_trip = trip / 65_536


def _nothing() -> None:
    """Until somebody wants to hear."""
