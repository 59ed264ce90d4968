"""One publisher by WHIP: the user of its peer, and the publisher of its publication.

The one idea: what comes goes straight through its medium to the publication; what has to be said back (reports, what
is missing, keyframes, when packets came) is said by one clock that ticks.
"""

import random
import secrets
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from oxidecast.formats import rtcp
from oxidecast.formats.rtp import RTPPacket, element
from oxidecast.ingest.whip.medium import Medium, Pictures, Sound, Target
from oxidecast.ingest.whip.negotiation import TRANSPORT_WIDE, Agreed, payload_types
from oxidecast.ingest.whip.simulcast import Layers, Simulcast
from oxidecast.ingest.whip.timeline import Timeline
from oxidecast.interfaces import IPublication, IPublisher
from oxidecast.media import RemoteProtocolError
from oxidecast.webrtc.feedback import TransportFeedback
from oxidecast.webrtc.peer import Peer
from oxidecast.webrtc.srtp import SrtpSender

TICK: Final = 0.02
"""Seconds between two looks: what is missing is asked for within that."""
FEEDBACK: Final = 5
"""Looks between two feedbacks of when packets came: 0.1 s, as the draft has it."""
REPORT: Final = 50
"""Looks between two reports: 1 s."""
SILENCE: Final = 15.0
"""Seconds without media after which a publisher has gone: what is muted still sends some."""
MOST_BITRATE: Final = 50_000_000
"""Bits a second that a publisher who finds no bitrate by feedback may send: by losses it finds its own."""


@implementer(IPublisher)
class WHIPPublisher:
    """See the module; `PeerUser` as well."""

    log = Logger()
    peer: Peer

    def __init__(self, agreed: Agreed, clock: Any, on_gone: Callable[[], None]) -> None:
        self.agreed = agreed
        self.remote_ufrag = agreed.ufrag
        """Of its newest offer of ICE."""
        self.profile = ""
        """How its media is encrypted."""
        self.unreadable = 0
        """Packets of no medium, or that are none."""
        self._clock = clock
        self._on_gone = on_gone
        self._publication: IPublication | None = None
        timeline = Timeline()
        video = agreed.video
        self.pictures = [Pictures(video, timeline) for _ in video.layers or ("",)] if video else []
        """One for each size that is sent at once."""
        self.sound = Sound(agreed.audio, timeline) if agreed.audio is not None else None
        self.media: list[Medium] = [*self.pictures, *([self.sound] if self.sound is not None else [])]
        self._layers = Layers(video) if video is not None and video.layers else None
        self._by_type = {number: one for one in self.media for number in payload_types(one.received)}
        self._elements = {
            number: place
            for number, one in self._by_type.items()
            for place, name in one.received.extensions
            if name == TRANSPORT_WIDE
        }
        """By payload type: the number of the header extension that has the transport-wide number."""
        self._feedback = TransportFeedback() if self._elements else None
        self._ssrc = secrets.randbits(32)
        self._heard = 0.0
        self._ticks = 0
        self._ticking = LoopingCall(self._tick)
        self._ticking.clock = clock

    @property
    def mid(self) -> str:
        """See `webrtc.signalling.Session`."""
        return self.agreed.mid

    def begin(self, publication: IPublication) -> None:
        """The key was good."""
        self._publication = publication
        targets: list[Target] = [publication] * len(self.media)
        if self._layers is not None:
            simulcast = Simulcast(publication, len(self.pictures))
            targets = [*simulcast.targets, simulcast.sound]
        for medium, target in zip(self.media, targets, strict=False):
            medium.target = target
        publication.expect(bool(self.pictures), self.sound is not None)

    def end(self, reason: str) -> None:
        """It, or the server, ends the session."""
        self.peer.close(reason)

    # -- IPublisher

    def stop(self, code: str, sentence: str) -> None:
        self._let_go()
        self.peer.close(sentence)

    # -- PeerUser

    def connected(self, sender: SrtpSender, profile: str) -> None:
        self.profile = profile
        self._heard = self._clock.seconds()
        for pictures in self.pictures:
            pictures.buffer.want_keyframe()
        self._ticking.start(TICK, now=False).addErrback(self._failed)

    def rtp(self, packet: bytes) -> None:
        try:
            parsed = RTPPacket.parse(packet)
        except RemoteProtocolError:
            self.unreadable += 1
            return
        medium = self._by_type.get(parsed.payload_type)
        if medium is not None and medium is not self.sound and self._layers is not None:
            layer = self._layers.place(parsed)
            medium = self.pictures[layer] if layer is not None else None
        if medium is None:
            self.unreadable += 1
            return
        self._heard = now = self._clock.seconds()
        place = self._elements.get(parsed.payload_type)
        if self._feedback is not None and place is not None:
            number = element(parsed.extension, place)
            if len(number) == 2:
                self._feedback.packet(int.from_bytes(number, "big"), now)
        medium.rtp(parsed, now)

    def rtcp(self, packet: bytes) -> None:
        try:
            items = rtcp.parse(packet)
        except RemoteProtocolError:
            self.unreadable += 1
            return
        now = self._clock.seconds()
        for item in items:
            for medium in self.media:
                if medium.ssrc is None or getattr(item, "ssrc", None) != medium.ssrc:
                    continue
                if isinstance(item, rtcp.SenderReport):
                    medium.report(item.ntp, item.timestamp, now)
                elif isinstance(item, rtcp.Goodbye):
                    medium.goodbye()

    def closed(self, reason: str) -> None:
        if self._ticking.running:
            self._ticking.stop()
        publication = self._let_go()
        if publication is not None:
            publication.close(reason)
        self._on_gone()

    # -- inside

    def _let_go(self) -> IPublication | None:
        publication, self._publication = self._publication, None
        for medium in self.media:
            medium.target = None
        return publication

    def _failed(self, failure: Failure) -> None:
        self.log.failure("a publisher by WHIP could not be answered", failure=failure)
        self.end("something went wrong on the server")

    def _tick(self) -> None:
        now = self._clock.seconds()
        self._ticks += 1
        if now - self._heard > SILENCE:
            self.end(f"nothing came of it for {SILENCE:.0f} s")
            return
        said = []
        for medium in self.media:
            missing = medium.poll(now)
            if missing and medium.ssrc is not None:
                said.append(rtcp.nack(self._ssrc, medium.ssrc, missing))
        due = [pictures for pictures in self.pictures if pictures.keyframe_due(now)]
        if due:
            due += [one for one in self.pictures if one not in due and one.ask_along(now)]
        said += [rtcp.picture_loss(self._ssrc, one.ssrc) for one in due if one.ssrc is not None]
        heard = [medium.ssrc for medium in self.media if medium.ssrc is not None]
        if self._feedback is not None and self._ticks % FEEDBACK == 0 and heard:
            for one in self._feedback.take(self._ssrc, heard[0]):
                self._say([one])
        blocks = []
        if self._ticks % REPORT == 0 and heard:
            blocks = [one.reception.block(one.ssrc, now) for one in self.media if one.ssrc is not None]
            if self._feedback is None:
                said.append(rtcp.estimate(self._ssrc, MOST_BITRATE, heard))
            # Spread a little, so that publishers who came together do not report together.
            self._ticks += random.randrange(FEEDBACK)
        if said or blocks:
            self._say(said, blocks)

    def _say(self, said: list[bytes], blocks: list[bytes] | None = None) -> None:
        head = rtcp.receiver_report(self._ssrc, blocks or [], self.agreed.cname.encode())
        self.peer.send_rtcp(head + b"".join(said))
