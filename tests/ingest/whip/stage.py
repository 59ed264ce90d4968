"""A hub with WHIP before it, and a publisher of our own: an offer, checks, DTLS and SRTP in memory."""

from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactor

from oxidecast.formats import rtcp
from oxidecast.formats.rtp_h264 import packetize
from oxidecast.formats.rtp_runs import MARKER, PADDING, PLAIN
from oxidecast.formats.sdp_offer import parse
from oxidecast.ingest.whip import negotiation
from oxidecast.ingest.whip.ingest import WHIPIngest
from oxidecast.ingest.whip.publisher import TICK, WHIPPublisher
from oxidecast.interfaces import PublishRequest
from oxidecast.media import Codec
from oxidecast.media.h264 import parse_configuration
from oxidecast.webrtc import port as port_module
from oxidecast.webrtc.port import WebRTCPort
from oxidecast.webrtc.settings import WebrtcSettings
from oxidecast.webrtc.srtp import Profile, SrtpStream
from tests.formats.material import stream as material
from tests.outputs.webrtc.stage import ADDRESS, Browser, MemorySocket, offer
from tests.streams.stage import PICTURE, HubCase

TRACK, PACKETS = material(Codec.H264, frames=24, size=128)
OPUS, SOUNDS = material(Codec.OPUS, frames=24)

VIDEO, RESENT, AUDIO = 102, 103, 111
LIMIT = 300
"""Bytes of a payload: so that a frame has several."""
SOUND = 960
"""Samples of a packet of sound."""

TRANSPORT_WIDE = f"a=extmap:3 {negotiation.TRANSPORT_WIDE}\r\n"


def whip_offer(**changes: str) -> str:
    """What Chromium offers when it publishes. `changes` as those of `offer`."""
    text = offer(
        direction="a=recvonly>a=sendonly",
        extension=f"a=rtcp-mux\r\n>{TRANSPORT_WIDE}a=rtcp-mux\r\n",
        feedback="a=rtcp-fb:102 nack pli\r\n>a=rtcp-fb:102 nack pli\r\na=rtcp-fb:102 transport-cc\r\n",
    )
    for change in changes.values():
        old, _, new = change.partition(">")
        text = text.replace(old, new)
    return text


class WHIPCase(HubCase):
    """A port on a socket in memory; `show` can be published to."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(port_module, "DatagramSocket", MemorySocket)
        self.patch(port_module, "route_addresses", lambda: ["192.0.2.1"])
        reactor: Any = SimpleNamespace(
            seconds=self.clock.seconds,
            callLater=self.clock.callLater,
            addReader=lambda reader: None,
            removeReader=lambda reader: None,
            listenTCP=MemoryReactor().listenTCP,
        )
        self.port = WebRTCPort(WebrtcSettings(), reactor)
        services: Any = SimpleNamespace(reactor=reactor, hub=self.hub, ports={"webrtc": self.port})
        self.whip = WHIPIngest(WebrtcSettings(), services)
        self.port.startService()
        self.addCleanup(self.port.stopService)
        self.gone = 0
        self.ssrcs = {VIDEO: 1111, RESENT: 1112, AUDIO: 2222}
        self.streams: dict[int, SrtpStream] = {}
        self.pictures = self.sounds = 0
        self.transport_wide = 65_500
        self.kept: dict[int, tuple[bytes, int, bool]] = {}
        """Pictures' packets, by sequence number: payload, timestamp, marker."""

    @property
    def socket(self) -> MemorySocket:
        return self.port.socket  # type: ignore[return-value]

    def join(self, profile: Profile = Profile.AES_128_GCM, **changes: str) -> WHIPPublisher:
        """A publisher that has its answer; `self.browser` is its other end."""
        offered = parse(whip_offer(**changes))
        negotiation.check(offered)
        agreed = negotiation.agree(offered)
        publisher = WHIPPublisher(agreed, self.port.reactor, self._went)
        request = PublishRequest(protocol="whip", address="192.0.2.7", key="key-of-show")
        publisher.begin(
            self.successResultOf(Deferred.fromCoroutine(self.hub.publish(request, publisher)))  # type: ignore[arg-type]
        )
        publisher.peer = self.port.open(
            agreed.ufrag, agreed.fingerprints, publisher, "192.0.2.7", agreed.active
        )
        self.answer = agreed.answer(self.port.transport(publisher.peer))
        self.browser = Browser(self.answer, profile, self.clock.seconds(), server=agreed.active)
        return publisher

    def connect(self, profile: Profile = Profile.AES_128_GCM, **changes: str) -> WHIPPublisher:
        """A publisher that may send."""
        publisher = self.join(profile, **changes)
        self.port.datagram(self.browser.check(), ADDRESS)
        if not publisher.peer.active:
            for datagram in self.browser.start(self.clock.seconds()):
                self.port.datagram(datagram, ADDRESS)
        self.deliver()
        self.assertTrue(publisher.peer.is_connected)
        return publisher

    def _went(self) -> None:
        self.gone += 1

    def deliver(self) -> None:
        """To the publisher, and back what it answers."""
        while self.socket.sent:
            _, datagram = self.socket.sent.pop(0)
            for answer in self.browser.receive(datagram, self.clock.seconds()):
                self.port.datagram(answer, ADDRESS)

    def pass_by(self, seconds: float) -> None:
        whole = int(seconds / TICK)
        self.clock.pump([TICK] * whole + [seconds - whole * TICK])
        self.deliver()

    # -- media

    def rtp(
        self, payload_type: int, payload: bytes, timestamp: int, marker: bool = True, lost: bool = False
    ) -> int:
        """A packet of this payload type, with the next number of its stream, which is returned."""
        sender = self.browser.sender
        assert sender is not None
        if payload_type not in self.streams:
            ssrc = self.ssrcs.get(payload_type, 9000 + payload_type)
            self.streams[payload_type] = sender.stream(ssrc, payload_type, 100 * payload_type)
        stream = self.streams[payload_type]
        self.transport_wide += 1
        extension = b"\xbe\xde\0\x01\x31" + (self.transport_wide & 0xFFFF).to_bytes(2, "big") + b"\0"
        sequence = stream.next_index & 0xFFFF
        datagram = stream.protect(((PLAIN | MARKER if marker else PLAIN, payload),), timestamp, extension)
        if not lost:
            self.port.datagram(datagram, ADDRESS)
        return sequence

    def say(self, packet: bytes) -> None:
        self.port.datagram(self.browser.say(packet), ADDRESS)

    def picture(self, payload: bytes, timestamp: int, lose: frozenset[int] = frozenset()) -> list[int]:
        """A frame; of its packets those of `lose` do not come. Their sequence numbers."""
        sets, sequences = parse_configuration(TRACK.extradata), []
        for run in packetize(payload, LIMIT, (*sets.sps, *sets.pps)):
            for first, body in run.payloads:
                body = body[: -body[-1]] if first & PADDING else body
                lost = len(sequences) in lose
                sequence = self.rtp(VIDEO, body, timestamp, bool(first & MARKER), lost)
                self.kept[sequence] = body, timestamp, bool(first & MARKER)
                sequences.append(sequence)
        return sequences

    def sound(self, timestamp: int) -> None:
        self.rtp(AUDIO, SOUNDS[0].payload, timestamp)

    def again(self, sequence: int) -> None:
        """By RTX."""
        body, timestamp, marker = self.kept[sequence]
        self.rtp(RESENT, sequence.to_bytes(2, "big") + body, timestamp, marker)

    def send(self, pictures: int, gop: int = 12, at: int = 0xFFFFF000) -> None:
        """As a browser would, in real time, with timestamps that soon wrap."""
        for _ in range(pictures):
            keyframe = self.pictures % gop == 0
            payload = PACKETS[0 if keyframe else 1 + self.pictures % 11].payload
            self.picture(payload, at + self.pictures * PICTURE)
            while self.sounds * SOUND * 90_000 // 48_000 <= self.pictures * PICTURE:
                self.sound(5 + self.sounds * SOUND)
                self.sounds += 1
            self.pictures += 1
            self.pass_by(1 / 30)

    # -- what is said back

    def said(self, kind: type) -> list[Any]:
        """Feedback of a kind that `rtcp.parse` knows."""
        return [item for packet in self.browser.rtcp for item in rtcp.parse(packet) if isinstance(item, kind)]
