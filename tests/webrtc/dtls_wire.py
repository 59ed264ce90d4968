"""Two DTLS peers and the wire between them: time is counted, losses are drawn from a seed."""

import random
from datetime import UTC, datetime
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from OpenSSL import SSL

from oxidecast.webrtc.certificate import Certificate, Fingerprint
from oxidecast.webrtc.dtls import DtlsSession, State, context
from oxidecast.webrtc.records import MTU

NOW = datetime(2026, 11, 22, tzinfo=UTC)
SERVER = Certificate.generate(NOW)
CLIENT = Certificate.generate(NOW)
SERVER_CONTEXT = context(SERVER)
CLIENT_CONTEXT = context(CLIENT)


def server(*fingerprints: Fingerprint, shared: SSL.Context = SERVER_CONTEXT) -> DtlsSession:
    """Our server, which expects `CLIENT`."""
    return DtlsSession(shared, fingerprints or (CLIENT.fingerprint,), 0.0)


def client(*fingerprints: Fingerprint, shared: SSL.Context = CLIENT_CONTEXT) -> DtlsSession:
    """Our client, which expects `SERVER`."""
    return DtlsSession(shared, fingerprints or (SERVER.fingerprint,), 0.0, server=False)


class Wire:
    """Datagrams under way, in order, unless a seed says otherwise."""

    def __init__(
        self, one: DtlsSession, other: DtlsSession, seed: int | None = None, loss: float = 0.0
    ) -> None:
        self.one, self.other = one, other
        self.now = 0.0
        self.passed: list[tuple[DtlsSession, bytes]] = []
        self._noise = random.Random(seed) if seed is not None else None
        self._loss = loss
        self._under_way: list[tuple[DtlsSession, bytes]] = []

    def send(self, origin: DtlsSession, datagrams: list[bytes]) -> None:
        """Take what one of the two wants sent."""
        target = self.other if origin is self.one else self.one
        for datagram in datagrams:
            assert len(datagram) <= MTU
            if self._noise is None or self._noise.random() >= self._loss:
                self._under_way.append((target, datagram))
                if self._noise is not None and self._noise.random() < 0.1:
                    self._under_way.append((target, datagram))

    def run(self) -> None:
        """Deliver everything, and what comes of it."""
        while self._under_way:
            at = self._noise.randrange(len(self._under_way)) if self._noise else 0
            target, datagram = self._under_way.pop(at)
            self.passed.append((target, datagram))
            self.send(target, target.receive(datagram, self.now))

    def handshake(self) -> None:
        """From the client's start to the end of what both want to do, timers included."""
        for side in (self.one, self.other):
            if not side._server:
                self.send(side, side.start(self.now))
        self.run()
        while (due := self.due()) is not None:
            self.now = due
            for side in (self.one, self.other):
                self.send(side, side.timeout(self.now))
            self.run()

    def due(self) -> float | None:
        """When the next timer of either is due."""
        return min(
            (t for t in (self.one.next_timeout, self.other.next_timeout) if t is not None), default=None
        )


def established() -> tuple[DtlsSession, DtlsSession, Wire]:
    """A server and a client that are done."""
    wire = Wire(server(), client())
    wire.handshake()
    assert (wire.one.state, wire.other.state) == (State.ESTABLISHED, State.ESTABLISHED)
    return wire.one, wire.other, wire


@cache
def rsa_certificate() -> tuple[rsa.RSAPrivateKey, x509.Certificate]:
    """One that needs several datagrams, as some native clients have."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "RSA")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2001, 1, 1))
        .not_valid_after(datetime(2002, 1, 1))
        .add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), bytes(1500)), False)
        .sign(key, hashes.SHA256())
    )
    return key, certificate


class Plain:
    """pyOpenSSL used as its documentation says, without anything of ours: the independent peer."""

    def __init__(self, *, server: bool, profiles: bytes, certificate: bool = True) -> None:
        shared = SSL.Context(SSL.DTLS_METHOD)
        if certificate:
            key, own = rsa_certificate()
            shared.use_privatekey(key)
            shared.use_certificate(own)
        shared.set_verify(SSL.VERIFY_PEER, lambda *_: True)
        shared.set_options(SSL.OP_NO_QUERY_MTU)
        if profiles:
            shared.set_tlsext_use_srtp(profiles)
        self.connection = SSL.Connection(shared, None)
        self.connection.set_ciphertext_mtu(1200)
        if server:
            self.connection.set_accept_state()
        else:
            self.connection.set_connect_state()
        self.done = False
        self.error: SSL.Error | None = None

    @staticmethod
    def fingerprint() -> Fingerprint:
        """Of its certificate."""
        _, own = rsa_certificate()
        return Fingerprint("sha-512", own.fingerprint(hashes.SHA512()).hex(":").upper())

    def step(self, datagram: bytes = b"") -> list[bytes]:
        """Give it a datagram, take its records, each as a datagram of its own."""
        if datagram:
            self.connection.bio_write(datagram)
        try:
            if self.done:
                self.connection.recv(2048)
            else:
                self.connection.do_handshake()
                self.done = True
        except SSL.WantReadError:
            pass
        except SSL.Error as error:
            self.error = error
        try:
            written = self.connection.bio_read(65536)
        except SSL.WantReadError:
            return []
        cut: list[bytes] = []
        while written:
            end = 13 + int.from_bytes(written[11:13], "big")
            cut.append(written[:end])
            written = written[end:]
        return cut

    def talk(self, ours: DtlsSession) -> None:
        """A handshake with our session."""
        to_ours = self.step()
        to_plain = [] if ours._server else ours.start(0.0)
        while to_ours or to_plain:
            if to_ours:
                to_plain += ours.receive(to_ours.pop(0), 0.0)
            else:
                to_ours += self.step(to_plain.pop(0))
