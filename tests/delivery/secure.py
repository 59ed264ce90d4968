"""An authority that signs certificates for tests, and a TLS client in memory."""

import ssl
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from oxidecast.delivery.tls import SecuredFactory

CLIENT = IPv4Address("TCP", "192.0.2.7", 40000)
DAY = timedelta(days=1)


class Authority:
    """A root, or with `above` an intermediate below another authority."""

    def __init__(self, name: str = "Test root", above: "Authority | None" = None) -> None:
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        signer = above or self
        start = datetime.now(UTC) - 1000 * DAY
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(signer.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + 10_000 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key()), critical=False
            )
            .sign(signer.key, hashes.SHA256())
        )

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def issue(
        self, *names: str, begins: float = -1, ends: float = 90, key: Any = None, san: bool = True
    ) -> "Issued":
        """A certificate for these hosts, valid from and to so many days from now."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])]))
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begins * DAY)
            .not_valid_after(now + ends * DAY)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        )
        if san:
            builder = builder.add_extension(x509.SubjectAlternativeName(_names(names)), critical=False)
        return Issued(builder.sign(self.key, hashes.SHA256()), key)


class Issued:
    def __init__(self, certificate: x509.Certificate, key: Any) -> None:
        self.certificate = certificate
        self.key = key

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        pem: bytes = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return pem

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    def write(self, file: Path, *more: bytes) -> Path:
        """Certificate, key and what else there is in one file."""
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"".join((self.pem, self.key_pem, *more)))
        file.chmod(0o600)
        return file


def _names(names: Iterable[str]) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = []
    for name in names:
        try:
            found.append(x509.IPAddress(ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return found


class HouseClock(Clock):
    """A clock whose threads work at once."""

    def getThreadPool(self) -> "HouseClock":
        return self

    def callInThreadWithCallback(self, done: Any, work: Any, *arguments: Any) -> None:
        try:
            result = work(*arguments)
        except Exception:
            done(False, Failure())
        else:
            done(True, result)

    def callFromThread(self, work: Any, *arguments: Any) -> None:
        work(*arguments)


def trusting(*authorities: Authority) -> ssl.SSLContext:
    """A client's context that trusts these authorities alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for authority in authorities:
        context.load_verify_locations(cadata=authority.pem.decode())
    return context


class TCP(StringTransport):
    """A transport in memory that TLS can stand on."""

    def setTcpNoDelay(self, enabled: bool) -> None: ...

    def setTcpKeepAlive(self, enabled: bool) -> None: ...


class Client:
    """One connection in memory, from Python's own TLS to a port of ours."""

    def __init__(self, factory: SecuredFactory, context: ssl.SSLContext, host: str | None) -> None:
        self.clock: Any = factory._clock
        self.server = factory.buildProtocol(CLIENT)
        assert self.server is not None
        self.transport = TCP(peerAddress=CLIENT)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=host)
        self.received = b""
        self.closed = False
        """Whether the server said goodbye, as TLS has it."""
        self.lost = False
        self.server.makeConnection(self.transport)

    def handshake(self) -> "Client":
        """Raises ssl.SSLError as the client would."""
        for _ in range(10):
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.exchange()
            else:
                self.exchange()
                return self
        raise AssertionError("the handshake comes to no end")

    def send(self, data: bytes) -> bytes:
        """What the server answers."""
        self.tls.write(data)
        return self.answer()

    def answer(self) -> bytes:
        self.exchange()
        before = len(self.received)
        self.read()
        return self.received[before:]

    def read(self) -> None:
        while True:
            try:
                data = self.tls.read(1 << 16)
            except ssl.SSLWantReadError:
                return
            except ssl.SSLZeroReturnError:
                data = b""
            if not data:
                self.closed = True
                return
            self.received += data

    def exchange(self) -> None:
        """Carry bytes both ways until there are none."""
        while True:
            out = self.outgoing.read()
            if out and not self.lost:
                assert self.server is not None
                self.server.dataReceived(out)
            self.clock.advance(0)
            back = self.transport.value()
            self.transport.clear()
            if back:
                self.incoming.write(back)
            if not out and not back:
                return

    @property
    def ended(self) -> bool:
        return bool(self.transport.disconnecting or self.aborted)

    @property
    def aborted(self) -> bool:
        return bool(self.transport.disconnected or getattr(self.transport, "aborting", False))

    def lose(self, reason: Failure) -> None:
        """The connection is cut."""
        assert self.server is not None
        self.lost = True
        self.server.connectionLost(reason)
