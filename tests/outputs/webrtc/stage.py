"""A browser of our own, in the test's process: an offer, checks, DTLS and SRTP, over a real socket or in memory."""

import itertools
from collections.abc import Callable
from datetime import UTC, datetime

from aiortc.rtp import RtpPacket

from oxidecast.webrtc import stun
from oxidecast.webrtc.certificate import Certificate, Fingerprint
from oxidecast.webrtc.datagrams import READS
from oxidecast.webrtc.dtls import DtlsSession, State, context
from oxidecast.webrtc.ice import Address, Credentials
from oxidecast.webrtc.srtp import Profile, SrtpReceiver, SrtpSender
from tests.formats.test_sdp_offer import FINGERPRINT, OFFER

BROWSER = Certificate.generate(datetime(2026, 11, 22, tzinfo=UTC))
ADDRESS: Address = ("192.0.2.7", 5000)
_contexts = {profile: context(BROWSER, (profile,)) for profile in Profile}


def offer(**changes: str) -> str:
    """What Chromium offers, with our certificate. `changes` are texts to be replaced, by any name, as `old>new`."""
    text = OFFER.replace(FINGERPRINT, str(BROWSER.fingerprint))
    for change in changes.values():
        old, _, new = change.partition(">")
        text = text.replace(old, new)
    return text


class Browser:
    """Datagrams in, datagrams out. `sent` are those that it wants sent."""

    def __init__(
        self, answer: str, profile: Profile = Profile.AES_128_GCM, now: float = 0.0, server: bool = False
    ) -> None:
        values: dict[str, str] = {}
        for line in answer.split("\r\n"):
            name, _, value = line.partition(":")
            values.setdefault(name, value)
        self.remote = Credentials(values["a=ice-ufrag"], values["a=ice-pwd"])
        self.ufrag = "3Xyz"
        fingerprint = Fingerprint.parse(values["a=fingerprint"])
        self.dtls = DtlsSession(_contexts[profile], (fingerprint,), now, server=server)
        self.sender: SrtpSender | None = None
        self.receiver: SrtpReceiver | None = None
        self.rtp: list[RtpPacket] = []
        self.rtcp: list[bytes] = []
        self.answered: list[stun.Message] = []
        self._transactions = itertools.count(1)

    def check(self, nominate: bool = True) -> bytes:
        """A connectivity check."""
        attributes = [
            (stun.USERNAME, f"{self.remote.ufrag}:{self.ufrag}".encode()),
            (stun.PRIORITY, bytes(4)),
            (stun.ICE_CONTROLLING, bytes(8)),
        ]
        if nominate:
            attributes.append((stun.USE_CANDIDATE, b""))
        transaction = next(self._transactions).to_bytes(12, "big")
        return stun.build(
            stun.BINDING_REQUEST, transaction, attributes, stun.IntegrityKey(self.remote.password)
        )

    def start(self, now: float = 0.0) -> list[bytes]:
        """The first flight of the handshake."""
        return self.dtls.start(now)

    def receive(self, datagram: bytes, now: float = 0.0) -> list[bytes]:
        """Take a datagram from the server; returns what is answered."""
        first = datagram[0]
        if first < 4:
            self.answered.append(stun.parse(datagram))
        elif first < 64:
            answers = self.dtls.receive(datagram, now)
            if self.dtls.state is State.ESTABLISHED and self.receiver is None and self.dtls.keys is not None:
                self.sender, self.receiver = self.dtls.keys.open()
            return answers
        elif self.receiver is not None and 192 <= datagram[1] < 224:
            self.rtcp.append(self.receiver.unprotect_rtcp(datagram))
        elif self.receiver is not None:
            self.rtp.append(RtpPacket.parse(self.receiver.unprotect(datagram)))
        return []

    def say(self, packet: bytes) -> bytes:
        """An SRTCP datagram."""
        assert self.sender is not None
        return self.sender.protect_rtcp(packet)


class MemorySocket:
    """What `DatagramSocket` is to the port. Whole datagrams, by whom they are for."""

    has_ipv6 = True
    port = 8189
    segmenting = True
    calls = dropped = 0

    def __init__(self, *address: object) -> None:
        self.sent: list[tuple[Address, bytes]] = []
        self.incoming: list[bytes] = []
        """What has come, and was not read yet."""
        self.full = False
        self.bytes = 0

    def send(self, packets: bytes, size: int, to: Address) -> bool:
        if self.full:
            return False
        self.sent += [(to, packets[at : at + size]) for at in range(0, len(packets), size)]
        return True

    def read(self, take: Callable[[bytes, Address], None]) -> bool:
        now, self.incoming = self.incoming[:READS], self.incoming[READS:]
        for datagram in now:
            take(datagram, ADDRESS)
        return len(now) == READS

    def fileno(self) -> int:
        return -1

    def close(self) -> None: ...
