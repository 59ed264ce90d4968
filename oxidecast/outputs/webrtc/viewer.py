"""The media side of one viewer: what is sent to it, and what is made of its answers.

The one idea: a viewer is either *live*, and is sent each frame as it comes, or *catching up*: then a pacer sends it the
frames from the last keyframe on, faster than they were made and stamped so that they end where the live ones go on. A
beginning, a keyframe that was asked for and another rendition are the same thing. Who falls behind is sent nothing
until the next keyframe. Nobody is sent a packet a second time under one number: what was lost goes out anew on the
stream for that (RTX, RFC 4588).
"""

import math
import random
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall

from oxidecast.formats import rtcp
from oxidecast.formats.rtcp import Nack, Report
from oxidecast.formats.rtp import nearest
from oxidecast.formats.rtp_runs import PLAIN
from oxidecast.interfaces import IViewer
from oxidecast.media import TICKS, RemoteProtocolError
from oxidecast.media.opus import SAMPLE_RATE
from oxidecast.outputs.webrtc.adapting import Adapting
from oxidecast.outputs.webrtc.crossing import Crossing
from oxidecast.outputs.webrtc.extensions import Extensions
from oxidecast.outputs.webrtc.feed import Feed, Frame, bitrate
from oxidecast.outputs.webrtc.negotiation import Agreed
from oxidecast.outputs.webrtc.network import Network
from oxidecast.outputs.webrtc.numbering import STEP, Span
from oxidecast.outputs.webrtc.quality import Figures
from oxidecast.outputs.webrtc.resending import Resending
from oxidecast.webrtc.peer import Peer
from oxidecast.webrtc.srtp import SrtpSender
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

REPORT = 1.0
"""Seconds between two sender reports, spread a little, so that viewers who came together do not report together."""

TOGETHER = 0.05
"""Seconds between two moments at which reports leave: to be woken for each costs as much as the report."""


class Viewer:
    """One viewer; `PeerUser` of its peer, and reader of at most one feed of pictures and one of sound."""

    __slots__ = (
        "_audio",
        "_clock",
        "_crossing",
        "_cursor",
        "_extensions",
        "_failed",
        "_latest",
        "_measured_by",
        "_on_closed",
        "_overhead",
        "_pacer",
        "_patience",
        "_place",
        "_rate",
        "_replayed_at",
        "_reporter",
        "_resend",
        "_resending",
        "_span",
        "_utc",
        "_video",
        "_waiting",
        "adapting",
        "agreed",
        "counted",
        "counts",
        "figures",
        "listens",
        "network",
        "on_connected",
        "on_gone",
        "opened_at",
        "peer",
        "profile",
        "remote_ufrag",
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
        self.watches: Feed | None = None
        self.listens: Feed | None = None
        self.network = Network()
        self.adapting = Adapting(self.network, clock, self.pad)
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
        self._extensions = Extensions(agreed.video.extensions if agreed.video is not None else ())
        self._patience: float | None = None
        """Seconds that it is to hold frames."""
        self._replayed_at = 0.0

    @property
    def mid(self) -> str:
        """See `webrtc.signalling.Session`."""
        return self.agreed.mid

    # -- what it is sent

    def watch(self, feed: Feed | None) -> None:
        """Take pictures from this feed, from its last keyframe on."""
        self.stay()
        self._read(feed)
        if feed is not None and self._video is not None:
            self._begin()

    def go_over(self, feed: Feed, then: Callable[[], None]) -> None:
        """Take pictures from this feed as soon as that leaves no gap, and say so by `then`."""

        def cross(key: Frame) -> bool:
            frames = feed.since(key.number)
            if not frames:
                return False
            self.stay()
            self._read(feed)
            if self.network.room < math.inf and self._video is not None:
                self._resending.least = self._video.next_index
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

    def listen(self, feed: Feed | None) -> None:
        """Take sound from this feed."""
        if self.listens is not None:
            self.listens.listening.pop(self, None)
        self.listens = feed
        if feed is not None and self._audio is not None:
            feed.listening[self] = None

    def wait(self) -> None:
        """Nothing is sent until there is a keyframe."""
        self._stop_pacing()
        self._waiting = True

    def anew(self, feed: Feed) -> None:
        """This feed begins anew, with a keyframe."""
        if self._crossing is not None and self._crossing.feed is feed:
            self._crossing.anew()
        elif self.watches is feed:
            self.wait()

    def picture(self, frame: Frame) -> None:
        """The feed's next frame."""
        if self._crossing is not None and self._crossing.passes(frame):
            return
        if self._is_behind():
            if not self._waiting:
                self.figures.skips += 1
                self.wait()
            return
        if self._cursor is not None:
            if frame.keyframe:
                self._cursor = frame.number  # Nothing before it is worth catching up with.
        elif frame.keyframe or not self._waiting:
            self._waiting = False
            if self.peer.has_room:
                self._send(frame)
            else:
                self._fall_behind(frame)

    def switched(self, name: str) -> None:
        """From now on it is sent another rendition, of this name."""
        self.figures.switches += 1
        self.adapting.arrived(name)
        if self.counted is not None:
            self.counted.rendition = name

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
                self._missed(item)
            elif isinstance(item, rtcp.KeyframeWanted):
                self.figures.keyframes_wanted += 1
                self._keyframe_wanted()
            elif isinstance(item, rtcp.Report):
                self._heard(item)
            elif isinstance(item, rtcp.Estimate):
                self.figures.estimate = item.bitrate
                if self.network.estimate(item.bitrate, self._clock.seconds()):
                    self._troubled()

    def closed(self, reason: str) -> None:
        self.watch(None)
        self.listen(None)
        if self._reporter is not None:
            self._reporter.cancel()
            self._reporter = None
        self.adapting.stop()
        self._on_closed(self, reason)
        self.on_gone()

    def end(self, reason: str) -> None:
        """Tell the viewer that it is over."""
        ssrcs = [stream.ssrc for stream in (self._video, self._audio) if stream is not None]
        if ssrcs and self.peer.is_connected:
            self.peer.send_rtcp(rtcp.goodbye(ssrcs, self.agreed.cname.encode()))
        self.peer.close(reason)

    # -- inside: pictures

    def _read(self, feed: Feed | None) -> None:
        """Be a reader of this feed alone; what was sent of another is no matter any more."""
        if self.watches is not None:
            self.watches.watching.pop(self, None)
        self.watches = feed
        self.wait()
        self._place = -1
        if feed is not None and self._video is not None:
            feed.watching[self] = None

    def _begin(self) -> None:
        """Catch up from the last keyframe on, if all since then is there."""
        group = self.watches.group() if self.watches is not None else []
        if group:
            # The newest frame is in its own time, the others close before it.
            self._catch_up(group, group[-1].timestamp - (len(group) - 1) * STEP, STEP)

    def _keyframe_wanted(self) -> None:
        """Give a keyframe to who asks for one: the last one again, if little came since; else a new one for all, where
        the server makes the rendition; else the last one, if it is not too late for it."""
        now = self._clock.seconds()
        feed = self.watches
        if self._cursor is not None or feed is None or now - self._replayed_at < REPLAY_PAUSE:
            return
        group = feed.group() if not self._waiting else []
        size = sum(frame.size for frame in group)
        is_quick = group and size <= self._catching_up(group) * QUICK
        if (not is_quick and feed.rendition.want_keyframe()) or not group or size > MAX_REPLAY:
            return
        self._replayed_at = now
        self.figures.replays += 1
        # All of them between the frame that was sent last and the one that comes next.
        step = max(1, group[-1].duration // (len(group) + 1))
        self._catch_up(group, group[-1].timestamp + step, step)

    def _catching_up(self, group: list[Frame]) -> float:
        """Bytes a second."""
        return min(max(LEAST_RATE, RATE_FACTOR * bitrate(group)), self.network.room) / 8

    def _catch_up(self, group: list[Frame], base: int, step: int) -> None:
        if self._video is None or self.watches is None:
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
        self.figures.stalls += 1
        self._cursor = frame.number
        self._rate = LEAST_RATE / 8
        self._pace()

    def _begin_span(self, frame: Frame, base: int, step: int) -> None:
        if self._video is not None and self.watches is not None:
            base = max(base, self._latest + STEP)
            self._span = Span(self._video.next_index, frame.first, self.watches, frame.number, base, step)
            self._resending.begin(self._span)

    def _pace(self) -> None:
        """Send as many bytes as are due, and go on until there is no frame left."""
        self._pacer = None
        feed, cursor = self.watches, self._cursor
        frames = feed.since(cursor) if feed is not None and cursor is not None else None
        if frames is None or cursor is None:
            self.wait()
            return
        if not self.peer.has_room:
            self._pacer = self._clock.callLater(ROOM_AGAIN, self._pace)
            return
        # What is heard meanwhile counts at once: many begin with more than their network takes.
        budget = left = min(self._rate, self.network.room / 8) * PACE
        for frame in frames:
            if left <= 0 or not self.peer.has_room:
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
        video = self._video
        if video is None or self.watches is None:
            return
        if frame.first != self._place or self._span is None:
            self._begin_span(frame, 0, STEP)
        assert self._span is not None
        self._place = frame.first + frame.count
        timestamp = self._latest = self._span.stamp(frame)
        extension = self._extensions.at(self._clock.seconds(), self._patience)
        for run in frame.runs:
            packets = video.protect(run.payloads, timestamp, extension)
            self._sent(packets, run.size + self._overhead + len(extension))
        if not self.figures.first_picture:
            self._began()

    def _began(self) -> None:
        self.figures.first_picture = self._clock.seconds() - self.opened_at
        if self.counted is not None:
            self.counted.startup_time = self.figures.first_picture

    def _sent(self, packets: bytes, size: int) -> None:
        if self.peer.send(packets, size):
            self._failed = 0
        else:
            self._failed += 1
            self.figures.dropped += 1
        if self.counted is not None:
            self.counted.bytes_sent += len(packets)
        if self.network.short:
            self.network.sent(len(packets), self._clock.seconds())

    def _is_behind(self) -> bool:
        """Whether it is no use to send it pictures now."""
        if self._failed >= MAX_FAILED:
            self._failed = 0
            return True
        if not self.network.short:
            return False
        limit = BEHIND_CROSSING if self._crossing is not None else BEHIND
        return self.network.behind(self._clock.seconds()) > limit

    # -- inside: what was missed

    def _missed(self, nack: Nack) -> None:
        video = self._video
        self.figures.nacks += len(nack.sequences)
        if video is None or nack.ssrc != video.ssrc or self.watches is None:
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

    def _send_again(self, own: int) -> int:
        """The answer is how many bytes it was; 0 when it is not there any more."""
        found = self._resending.find(own) if self._resend is not None else None
        if found is None or self._resend is None:
            return 0
        payload, timestamp = found
        extension = self._extensions.at(self._clock.seconds(), self._patience)
        packet = self._resend.protect((payload,), timestamp, extension)
        self.figures.resent += 1
        self._sent(packet, len(packet))
        return len(packet)

    def pad(self, size: int) -> int:
        """Send about so many bytes of what it has already; the answer is how many it were."""
        sent, own = 0, self._video.next_index if self._video is not None else 0
        while sent < size:
            own -= 1
            one = self._send_again(own)
            if not one:
                break
            sent += one
        return sent

    # -- inside: its network

    def _bitrate(self) -> float:
        """Bits a second that it is sent; 0 where that is not known."""
        return self.adapting.rate_of(self.watches.bitrate) if self.watches is not None else 0.0

    def _troubled(self) -> None:
        """More is sent than its network takes."""
        if self.watches is None:
            return
        self.network.settle(self._bitrate())
        self.network.queued(self._clock.seconds())
        self.adapting.troubled()

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
        if parts:
            self.peer.send_rtcp(b"".join(parts))  # in one packet: RFC 8108 5.3
        if self.counted is not None:
            self.figures.measure(now, self.counted.bytes_sent)
            self.counted.figures = self.figures.told()
        self.adapting.look()
        pause = REPORT * random.uniform(0.8, 1.2) if parts else REPORT / 5
        # Those of several viewers in one turn of the reactor.
        pause += -(now + pause) % TOGETHER
        self._reporter = self._clock.callLater(pause, self._report)

    def _heard(self, report: Report) -> None:
        if self._video is None or report.ssrc != self._video.ssrc:
            return
        now = self._clock.seconds()
        trip = self.figures.heard(report, self._video.packets, now)
        if report.last_report == self._measured_by:
            trip = 0.0  # Several reports may tell of one of ours: the later of them measure nothing anew.
        self._measured_by = report.last_report
        self._patience = self.network.patience(self.figures.round_trip, now)
        if self.watches is not None and self.network.report(
            report.lost, self._video.packets, trip, self._bitrate(), now
        ):
            self._troubled()


def _nothing() -> None:
    """Until somebody wants to hear."""
