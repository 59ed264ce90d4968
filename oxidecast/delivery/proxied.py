"""The proxies before a port: who the client is when the peer is one of them.

The one idea: who a client is, is settled before anybody asks. On a port that speaks the PROXY protocol a connection
from a trusted proxy gets its protocol only when its header has come: the factory is then told the client's address
instead of the proxy's, and the transport goes to the protocol as it is, with nothing between. So limits by address,
TLS and the direct way to the socket work as ever. What a proxy says in header fields belongs to single requests, and
is the HTTP channel's to ask: `Proxies.look_behind`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocolFactory, IReactorTime
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from oxidecast.delivery.hot import HotRequest
from oxidecast.formats import forwarded, proxy_header
from oxidecast.formats.addresses import Networks
from oxidecast.formats.forwarded import Origin
from oxidecast.formats.proxy_header import ProxyHeader
from oxidecast.media.errors import RemoteProtocolError

HEADER_TIMEOUT = 5.0
"""Seconds for the whole header. A proxy sends it with the connection's first packet."""

MOST_WAITING = 1024
"""Connections whose header has not come. They count with no other limit yet, and a header takes milliseconds."""


@implementer(IAddress)
@dataclass(frozen=True)
class ClientAddress:
    """A client behind a proxy."""

    host: str
    port: int = 0
    """0 when the proxy does not say it."""
    secure: bool | None = None
    """Whether the client came by TLS, if the proxy says so."""
    type: str = "TCP"


class Proxies:
    """Those that are believed, and how they say things: `headers` is `x-forwarded` or `forwarded`."""

    def __init__(self, networks: Sequence[str] = (), headers: str = "x-forwarded") -> None:
        self.change(networks, headers)

    def change(self, networks: Sequence[str], headers: str) -> None:
        """Believe these from now on; connections that are there stay what they are."""
        self._networks = Networks(networks)
        self._read = forwarded.forwarded if headers == "forwarded" else forwarded.x_forwarded

    @property
    def known(self) -> bool:
        """Whether there are any."""
        return bool(self._networks)

    def __contains__(self, peer: IAddress | None) -> bool:
        return bool(self._networks) and getattr(peer, "host", "") in self._networks

    def look_behind(self, request: HotRequest, peer: IAddress) -> Origin:
        """Make who sent a request its `client`, by the word of `peer`, who is one of them.

        Raises RemoteProtocolError for a word that means nothing, which has to be refused: who then counted as the
        proxy itself could do what only the proxy's network may.
        """
        origin = self._read(request.headers, self._networks.__contains__)
        if origin.address is None:
            request.client = peer
        else:
            request.client = ClientAddress(str(origin.address), secure=origin.secure)
        return origin


class ProxyProtocolFactory(ServerFactory[Any]):
    """Stands before another factory, where proxies speak the PROXY protocol. Others are as if it were not there."""

    noisy = False

    def __init__(self, factory: IProtocolFactory, proxies: Proxies, clock: IReactorTime) -> None:
        self.proxies = proxies
        self.clock = clock
        self.factory = factory
        self.waiting: set[_HeaderReader] = set()

    def startFactory(self) -> None:
        self.factory.doStart()

    def stopFactory(self) -> None:
        self.factory.doStop()

    def buildProtocol(self, addr: IAddress | None) -> Any:
        assert addr is not None
        if addr not in self.proxies:
            return self.factory.buildProtocol(addr)
        if len(self.waiting) >= MOST_WAITING:
            return None
        return _HeaderReader(self, addr)


class _HeaderReader(Protocol):
    """Reads the header, and is gone."""

    log = Logger()
    transport: Any

    def __init__(self, port: ProxyProtocolFactory, peer: IAddress) -> None:
        self._port = port
        self._peer = peer
        self._data = b""
        self._timer: IDelayedCall | None = None

    def connectionMade(self) -> None:
        self._port.waiting.add(self)
        self._timer = self._port.clock.callLater(HEADER_TIMEOUT, self._refuse, "it did not come in time")

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        try:
            parsed = proxy_header.parse(self._data)
        except RemoteProtocolError as error:
            self._refuse(str(error))
            return
        if parsed is not None:
            header, length = parsed
            self._hand_over(header, self._data[length:])

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._done()

    def _hand_over(self, header: ProxyHeader, rest: bytes) -> None:
        self._done()
        client: IAddress = self._peer
        if header.address is not None:
            # A proxy that passes on the client's own TLS says that there is none: that is for this server to know.
            client = ClientAddress(header.address, header.port, header.secure or None)
        protocol = self._port.factory.buildProtocol(client)
        transport = self.transport
        if protocol is None:
            transport.abortConnection()
            return
        transport.protocol = protocol
        protocol.makeConnection(transport)
        if rest:
            protocol.dataReceived(rest)

    def _refuse(self, reason: str) -> None:
        self._done()
        self.log.info("a connection of a trusted proxy had no PROXY header: {reason}", reason=reason)
        self.transport.abortConnection()

    def _done(self) -> None:
        self._port.waiting.discard(self)
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
