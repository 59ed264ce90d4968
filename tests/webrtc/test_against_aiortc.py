"""aiortc's DTLS and SRTP transport as the peer, in memory: its own role logic, key split and libsrtp."""

import asyncio

from aiortc.rtcdtlstransport import (
    RTCCertificate,
    RTCDtlsFingerprint,
    RTCDtlsParameters,
    RTCDtlsTransport,
)
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.formats.rtp_runs import PLAIN
from oxidecast.webrtc.certificate import Fingerprint
from oxidecast.webrtc.demux import Kind, classify
from oxidecast.webrtc.dtls import DtlsSession, State
from oxidecast.webrtc.srtp import Profile, SrtpReceiver, SrtpSender
from tests.webrtc.dtls_wire import SERVER, SERVER_CONTEXT
from tests.webrtc.srtp.peers import report, rtp


class Path:
    """What aiortc takes for an ICE transport: its datagrams go to our session, ours to it."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.session: DtlsSession | None = None
        self.to_aiortc: asyncio.Queue[bytes] = asyncio.Queue()
        self.media: list[bytes] = []

    async def _recv(self) -> bytes:
        return await self.to_aiortc.get()

    async def _send(self, datagram: bytes) -> None:
        assert self.session is not None
        if classify(datagram) is Kind.DTLS:
            for answer in self.session.receive(datagram, 0.0):
                self.to_aiortc.put_nowait(answer)
        else:
            self.media.append(datagram)


class Media:
    """The end of aiortc's router: what it understood."""

    def __init__(self) -> None:
        self.payloads: asyncio.Queue[bytes] = asyncio.Queue()

    async def take(self, data: bytes, arrival_time_ms: int) -> None:
        self.payloads.put_nowait(data)


async def connected(*, server: bool) -> tuple[DtlsSession, RTCDtlsTransport, Path]:
    """Our session, aiortc's transport, both connected."""
    # By its own rule aiortc is the DTLS server where it controls ICE.
    path = Path("controlled" if server else "controlling")
    certificate = RTCCertificate.generateCertificate()
    fingerprints = tuple(
        Fingerprint.parse(f"{each.algorithm} {each.value}") for each in certificate.getFingerprints()
    )
    path.session = DtlsSession(SERVER_CONTEXT, fingerprints, 0.0, server=server)
    transport = RTCDtlsTransport(path, [certificate])  # type: ignore[arg-type]
    if not server:
        for datagram in path.session.start(0.0):
            path.to_aiortc.put_nowait(datagram)
    ours = SERVER.fingerprint
    parameters = RTCDtlsParameters(fingerprints=[RTCDtlsFingerprint(ours.algorithm, ours.value)])
    await asyncio.wait_for(transport.start(parameters), 5)
    assert transport.state == "connected"
    assert path.session.state is State.ESTABLISHED
    return path.session, transport, path


def opened(session: DtlsSession) -> tuple[SrtpSender, SrtpReceiver]:
    assert session.keys is not None
    return session.keys.open()


class Aiortc(SynchronousTestCase):
    def test_both_roles_agree_on_keys_and_read_each_other(self) -> None:
        for server in (True, False):
            with self.subTest(server=server):
                asyncio.run(self._exchange(server=server))

    async def _exchange(self, *, server: bool) -> None:
        session, transport, path = await connected(server=server)
        assert session.keys is not None
        self.assertIs(session.keys.profile, Profile.AES_128_GCM)
        sender, receiver = opened(session)
        media = Media()
        transport._handle_rtp_data = media.take  # type: ignore[method-assign]
        path.to_aiortc.put_nowait(sender.stream(7, 96, 1).protect([(PLAIN, b"picture")], 90))
        packet = await asyncio.wait_for(media.payloads.get(), 5)
        self.assertEqual(packet[12:], b"picture")

        await transport._send_rtp(rtp(5))
        await transport._send_rtp(report())
        self.assertEqual(receiver.unprotect(path.media[0]), rtp(5))
        self.assertEqual(receiver.unprotect_rtcp(path.media[1]), report())
        await transport.stop()
        self.assertIs(session.state, State.CLOSED)
