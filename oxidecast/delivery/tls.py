"""TLS in front of the ports: which certificate is shown to whom, how it is renewed, and what is counted.

The one idea: one live set of certificates serves all ports. A connection begins with the set of that moment and keeps
it; a renewed file makes a new set, for those who come later. Twisted carries the bytes (`TLSMemoryBIOFactory`); the
contexts are our own, because of the versions and ciphers.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from OpenSSL import SSL
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import (
    IAddress,
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IProtocolNegotiationFactory,
)
from twisted.internet.protocol import connectionDone
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from oxidecast.delivery.certificates import (
    Certificate,
    CertificateError,
    Source,
    chosen,
    in_use,
    labels,
    utc,
    wildcard,
)

T = TypeVar("T")

CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2 only what is forward secret and authenticated (RFC 9325, 4.2); all of TLS 1.3 is."""

OPTIONS = (
    # Compression tells secrets by its length (CRIME); a renegotiation costs us far more than the client.
    SSL.OP_NO_COMPRESSION
    | SSL.OP_NO_RENEGOTIATION
    | SSL.OP_CIPHER_SERVER_PREFERENCE
    # The keys of tickets would live as long as the process, and with them what TLS 1.2 sent long ago.
    | SSL.OP_NO_TICKET
)

LOOK = 10.0
"""Seconds between two looks at the files. One that changed is read when it is the same at the next look, so that a
certificate and its key, which are written one after the other, are read together."""


def context(certificate: Certificate) -> SSL.Context:
    """What OpenSSL needs for connections with this certificate. Raises CertificateError."""
    made = SSL.Context(SSL.TLS_METHOD)
    made.set_min_proto_version(SSL.TLS1_2_VERSION)
    made.set_options(OPTIONS)
    made.set_mode(SSL.MODE_RELEASE_BUFFERS)  # Idle connections hold no buffers.
    made.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    made.set_alpn_select_callback(_protocol)
    try:
        made.use_certificate(certificate.leaf)
        made.use_privatekey(certificate.key)
        for link in certificate.chain:
            made.add_extra_chain_cert(link)
        made.check_privatekey()
    except SSL.Error as error:
        reason = error.args[0][-1][-1] if error.args and error.args[0] else "no reason given"
        raise CertificateError(f"OpenSSL refuses the certificate in {certificate.file}: {reason}")
    made.set_cipher_list(CIPHERS)
    return made


def _protocol(connection: SSL.Connection, offered: Sequence[bytes]) -> Any:
    """ALPN: what the port speaks, if the client does; else the connection goes on without a word about it."""
    spoken: tuple[bytes, ...] = connection.get_app_data().factory.spoken
    return next((name for name in spoken if name in offered), SSL.NO_OVERLAPPING_PROTOCOLS)


class Shown:
    """A set of certificates, ready to be shown. Making one reads keys and takes time: do it in a thread."""

    def __init__(self, certificates: Sequence[Certificate], now: datetime) -> None:
        self.certificates = in_use(certificates, now)
        contexts = {id(certificate): context(certificate) for certificate in self.certificates}
        by_name = chosen(self.certificates, now)
        self._by_name = {name: contexts[id(certificate)] for name, certificate in by_name.items()}
        self.default = contexts[id(self.certificates[0])]
        self.default.set_tlsext_servername_callback(self._named)

    def find(self, name: bytes | None) -> SSL.Context:
        """The context for a name that a client asked for, which is anybody's text."""
        host = (name or b"").decode("ascii", "replace").lower()
        return self._by_name.get(host) or self._by_name.get(wildcard(host)) or self.default

    def _named(self, connection: SSL.Connection) -> None:
        found = self.find(connection.get_servername())
        if found is not self.default:
            connection.set_context(found)


class Secured(BufferingTLSTransport):
    """The TLS of one connection."""

    factory: "SecuredFactory"

    def makeConnection(self, transport: Any) -> None:
        # Records are written whole: waiting for more would only delay the last one.
        transport.setTcpNoDelay(True)
        super().makeConnection(transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.getHandle().get_peer_finished() is None:
            self.factory.failures += 1
        super().connectionLost(reason)


class SecuredFactory(TLSMemoryBIOFactory):
    """TLS in front of a port's own factory, which keeps its limits, its timeouts and its connections.

    What goes wrong in handshakes is counted and not logged: whoever can connect can make that happen, as often as he
    likes.
    """

    protocol = Secured

    def __init__(self, certificates: "Certificates", wrapped: IProtocolFactory, clock: Any) -> None:
        super().__init__(certificates, False, wrapped, clock)
        negotiation = IProtocolNegotiationFactory(wrapped, None)
        self.spoken = tuple(negotiation.acceptableProtocols()) if negotiation is not None else ()
        self.failures = 0
        """Connections that ended before their handshake was done."""

    def buildProtocol(self, addr: IAddress | None) -> Secured | None:  # type: ignore[override]
        wrapped = self.wrappedFactory.buildProtocol(addr)
        return Secured(self, wrapped) if wrapped is not None else None


@implementer(IOpenSSLServerConnectionCreator)
class Certificates(Service):
    """The live set, and the look-out for renewed files. Raises CertificateError when there is no set to begin with."""

    log = Logger()

    def __init__(self, source: Source, reactor: Any) -> None:
        self._source = source
        self._reactor = reactor
        self._signature = source.signature()
        self._looked = self._signature
        self._shown = self._read()
        self._ports: dict[str, SecuredFactory] = {}
        self._reading: Deferred[Any] | None = None
        self._watch = LoopingCall(self._look)
        self._watch.clock = reactor

    @property
    def certificates(self) -> Sequence[Certificate]:
        return self._shown.certificates

    def wrap(self, port: str, factory: IProtocolFactory) -> SecuredFactory:
        """TLS in front of `factory`; `port` is its name in the metrics."""
        self._ports[port] = secured = SecuredFactory(self, factory, self._reactor)
        return secured

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        return SSL.Connection(self._shown.default, None)

    def startService(self) -> None:
        super().startService()
        self._warn()
        self._watch.start(LOOK, now=False)

    def stopService(self) -> None:
        super().stopService()
        if self._watch.running:
            self._watch.stop()
        if self._reading is not None:
            self._reading.cancel()

    def reload(self) -> Deferred[None]:
        """Read the files again, whether they seem to have changed or not. New connections get what is in them; when
        they cannot be used, the log says why and the certificates stay as they are."""
        self._signature = self._looked = self._source.signature()
        if self._reading is not None:
            self._reading.cancel()
        reading = self._in_thread(self._read)
        self._reading = reading
        return reading.addCallbacks(self._renewed, self._kept)

    def metrics(self) -> Iterable[Metric]:
        expiry = GaugeMetricFamily(
            "oxidecast_tls_certificate_expiry_timestamp_seconds",
            "When a certificate expires, seconds since 1970",
            labels=["name"],
        )
        for name, certificate in labels(self.certificates).items():
            expiry.add_metric([name], certificate.not_after.timestamp())
        yield expiry
        failures = CounterMetricFamily(
            "oxidecast_tls_handshake_failures",
            "Connections that ended before their TLS handshake was done",
            labels=["port"],
        )
        for port, factory in self._ports.items():
            failures.add_metric([port], factory.failures)
        yield failures

    # -- inside

    def _now(self) -> datetime:
        return utc(self._reactor.seconds())

    def _read(self) -> Shown:
        return Shown(self._source.read(), self._now())

    def _in_thread(self, work: Callable[[], T]) -> "Deferred[T]":
        # Keys are checked when they are read: that takes long enough for live media to notice.
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), work)

    def _look(self) -> "Deferred[None]":
        return self._in_thread(self._source.signature).addCallbacks(self._looked_at, self._kept)

    def _looked_at(self, signature: Any) -> "Deferred[None] | None":
        settled = signature == self._looked
        self._looked = signature
        return self.reload() if settled and self.running and signature != self._signature else None

    def _renewed(self, shown: Shown) -> None:
        self._reading = None
        self._shown = shown
        self.log.info("certificates read: {names}", names=", ".join(labels(shown.certificates)))
        self._warn()

    def _kept(self, failure: Failure) -> None:
        self._reading = None
        if failure.check(CertificateError):
            self.log.error(
                "the certificates stay as they were, because the new ones cannot be used: {error}",
                error=failure.value,
            )
        elif not failure.check(CancelledError):
            self.log.failure("looking at the certificates failed", failure=failure)

    def _warn(self) -> None:
        now = self._now()
        for certificate in self.certificates:
            trouble = certificate.trouble(now) or certificate.doubt(now)
            if trouble:
                self.log.warn("{trouble}", trouble=trouble)
