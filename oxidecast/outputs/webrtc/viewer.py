"""One viewer's session: who it is, its sound, and what is made of its answers. Its pictures are `pictures.py`'s.

The one idea: a peer has one of these, which counts what it is sent, and says once a second when that belongs.
"""

import random
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall

from oxidecast.formats import rtcp
from oxidecast.formats.rtp_runs import PLAIN
from oxidecast.interfaces import IViewer
from oxidecast.media import TICKS, RemoteProtocolError
from oxidecast.media.opus import SAMPLE_RATE
from oxidecast.outputs.webrtc.feed import Feed
from oxidecast.outputs.webrtc.negotiation import Agreed
from oxidecast.outputs.webrtc.pictures import Pictures
from oxidecast.outputs.webrtc.quality import Figures
from oxidecast.webrtc.peer import Peer
from oxidecast.webrtc.srtp import SrtpSender
from oxidecast.webrtc.srtp.streams import SrtpStream

REPORT = 1.0
"""Seconds between two sender reports, spread a little, so that viewers who came together do not report together."""

TOGETHER = 0.05
"""Seconds between two moments at which reports leave: to be woken for each costs as much as the report."""


class Viewer:
    """One viewer; `PeerUser` of its peer, and reader of at most one feed of sound."""

    __slots__ = (
        "_audio",
        "_clock",
        "_on_closed",
        "_reporter",
        "_utc",
        "agreed",
        "counted",
        "counts",
        "figures",
        "listens",
        "on_connected",
        "on_gone",
        "opened_at",
        "peer",
        "pictures",
        "profile",
        "remote_ufrag",
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
        self.listens: Feed | None = None
        self.agreed = agreed
        extensions = agreed.video.extensions if agreed.video is not None else ()
        self.pictures = Pictures(extensions, clock, self.figures, self._sent, self._began)
        self._clock = clock
        self._utc = utc
        self._on_closed = on_closed
        self._audio: SrtpStream | None = None
        self._reporter: IDelayedCall | None = None

    @property
    def mid(self) -> str:
        """See `webrtc.signalling.Session`."""
        return self.agreed.mid

    # -- what it is sent

    def listen(self, feed: Feed | None) -> None:
        """Take sound from this feed."""
        if self.listens is not None:
            self.listens.listening.pop(self, None)
        self.listens = feed
        if feed is not None and self._audio is not None:
            feed.listening[self] = None

    def switched(self, name: str) -> None:
        """From now on it is sent another rendition, of this name."""
        self.figures.switches += 1
        self.pictures.adapting.arrived(name)
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
        agreed = self.agreed
        if agreed.video is not None:
            sent, resend = agreed.video, None
            video = sender.stream(sent.ssrc, sent.codec.payload_type, random.randrange(1 << 14))
            if sent.retransmission is not None:
                again = sent.retransmission.payload_type
                resend = sender.stream(sent.retransmission_ssrc, again, random.randrange(1 << 14))
            self.pictures.open(self.peer, video, resend, sender.overhead)
        if agreed.audio is not None:
            sent = agreed.audio
            self._audio = sender.stream(sent.ssrc, sent.codec.payload_type, random.randrange(1 << 14))
        self.on_connected()
        # The sound first: it is there when the picture comes.
        self.listen(self.listens)
        self._report()
        self.pictures.watch(self.pictures.feed)

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
                self.pictures.missed(item)
            elif isinstance(item, rtcp.KeyframeWanted):
                self.figures.keyframes_wanted += 1
                self.pictures.keyframe_wanted()
            elif isinstance(item, rtcp.Report):
                self.pictures.heard(item)
            elif isinstance(item, rtcp.Estimate):
                self.pictures.estimated(item.bitrate)

    def closed(self, reason: str) -> None:
        self.pictures.close()
        self.listen(None)
        if self._reporter is not None:
            self._reporter.cancel()
            self._reporter = None
        self._on_closed(self, reason)
        self.on_gone()

    def end(self, reason: str) -> None:
        """Tell the viewer that it is over."""
        ssrcs = [stream.ssrc for stream in (self.pictures.video, self._audio) if stream is not None]
        if ssrcs and self.peer.is_connected:
            self.peer.send_rtcp(rtcp.goodbye(ssrcs, self.agreed.cname.encode()))
        self.peer.close(reason)

    # -- inside

    def _began(self) -> None:
        self.figures.first_picture = self._clock.seconds() - self.opened_at
        if self.counted is not None:
            self.counted.startup_time = self.figures.first_picture

    def _sent(self, packets: bytes, size: int) -> bool:
        went = self.peer.send(packets, size)
        if not went:
            self.figures.dropped += 1
        if self.counted is not None:
            self.counted.bytes_sent += len(packets)
        network = self.pictures.network
        if network.short:
            network.sent(len(packets), self._clock.seconds())
        return went

    def _report(self) -> None:
        """Say when what was sent belongs, for lip synchronisation and to measure the way."""
        now, pictures = self._clock.seconds(), self.pictures
        cname = self.agreed.cname.encode()
        parts = []
        for stream, newest, rate in (
            (pictures.video, pictures.feed.newest if pictures.feed is not None else None, TICKS),
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
        pictures.adapting.look()
        pause = REPORT * random.uniform(0.8, 1.2) if parts else REPORT / 5
        # Those of several viewers in one turn of the reactor.
        pause += -(now + pause) % TOGETHER
        self._reporter = self._clock.callLater(pause, self._report)


def _nothing() -> None:
    """Until somebody wants to hear."""
