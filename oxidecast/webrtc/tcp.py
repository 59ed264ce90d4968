"""ICE-TCP (RFC 6544), the passive side: for networks that let no UDP through, on the same number as UDP.

The one idea: a connection is an address like any other. What comes in its frames is read as if it were datagrams, and
makes nothing until a check proves whose it is; so a connection of which no check came is a stranger's, and is dropped
soon, the oldest first. What is sent is bounded, too: who reads slowly has no `room` for another frame, and goes on from
a later one.
"""

import socket
from typing import Any, Protocol

from twisted.internet.interfaces import IAddress, IPushProducer
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from oxidecast.media.errors import RemoteProtocolError
from oxidecast.webrtc.demux import Kind, classify
from oxidecast.webrtc.framing import Unframer, frame
from oxidecast.webrtc.ice import TcpAddress

CHECK_WITHIN = 10.0
"""Seconds in which a check must have come. A peer sends it as soon as it is connected."""

GOODBYE = 5.0
"""Seconds in which what is left is still sent to a peer whose session is over."""

IDLE = 60.0
"""Seconds of silence. Peers ask for consent every five seconds on the way in use, and every 25 on others."""

MAX_STRANGERS = 250
"""Connections at once of which no check has come: as many as peers that are not connected yet."""

MAX_STRANGE = 8
"""Messages of a stranger: a check may be answered by an error, and be repeated as that says."""

UNSENT = 131_072
"""Bytes that the kernel takes beyond what is on its way: more would be a delay that nothing here can take back."""

OVERFLOW = 1 << 20
"""Bytes that are still taken of who has no room: the rest of the frame that was being sent."""

PER_SESSION = 2
"""Connections for each session that there may be: a peer with two networks tries both."""

BACKLOG = 128


class Owner(Protocol):
    """Who has the sessions: the port."""

    @property
    def most(self) -> int:
        """Sessions at once."""

    def datagram(self, datagram: bytes, source: TcpAddress) -> None:
        """One has come."""

    def owns(self, source: TcpAddress) -> bool:
        """Whether it is the address of a session."""

    def lost(self, source: TcpAddress) -> None:
        """Nothing can be sent there any more."""


@implementer(IPushProducer)
class Connection(TwistedProtocol):
    """One peer's, or one stranger's."""

    transport: Any

    def __init__(self, connections: "Connections", address: TcpAddress, now: float) -> None:
        self.address = address
        self.since = self.heard = now
        self.is_known = False
        """Whether a valid check came by it."""
        self.is_open = True
        self.has_room = True
        """Whether another frame may be begun: what was sent before has left."""
        self._connections = connections
        self._unframer = Unframer()
        self._strange = 0
        self._behind = 0
        """Bytes taken since there is no room."""

    def connectionMade(self) -> None:
        try:
            self.transport.setTcpNoDelay(True)
            self.transport.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
        except OSError:
            pass  # It is gone again.
        self.transport.registerProducer(self, True)
        self._connections.came(self)

    def dataReceived(self, data: bytes) -> None:
        try:
            datagrams = self._unframer.receive(data)
        except RemoteProtocolError:
            self.drop()
            return
        for datagram in datagrams:
            if not self.is_open:
                return
            if not self.is_known:
                self._strange += 1
                if self._strange > MAX_STRANGE or classify(datagram) is not Kind.STUN:
                    self.drop()
                    return
            self._connections.took(self, datagram)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._over()

    def send(self, packets: bytes, size: int) -> bool:
        """As `DatagramSocket.send`."""
        if not self.has_room:
            self._behind += len(packets)
            if self._behind > OVERFLOW:
                return False
        if self.is_open:
            self.transport.write(frame(packets, size))
        return self.is_open

    def end(self, now: float) -> None:
        """Close, once all was sent."""
        if self.is_open:
            self.is_open = False
            self.since = now
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def drop(self) -> None:
        """Close at once."""
        self._over()
        self.transport.abortConnection()

    def _over(self) -> None:
        self.is_open = False
        self._connections.gone(self)

    # -- IPushProducer: the transport says when it holds too much

    def pauseProducing(self) -> None:
        self.has_room = False
        self._behind = 0

    def resumeProducing(self) -> None:
        self.has_room = True

    def stopProducing(self) -> None:
        """The connection is lost."""


class Connections(Factory):
    """All of them."""

    noisy = False

    def __init__(self, reactor: Any, owner: Owner) -> None:
        self.strangers_dropped = 0
        """Connections that ended here before a valid check came by them."""
        self._reactor = reactor
        self._owner = owner
        self._all: dict[TcpAddress, Connection] = {}
        self._strangers: dict[Connection, None] = {}
        """Those of which no valid check came, oldest first."""
        self._serial = 0
        self._port: Any = None

    def __len__(self) -> int:
        return len(self._all)

    def listen(self, host: str, port: int) -> None:
        """Raises CannotListenError."""
        self._port = self._reactor.listenTCP(port, self, backlog=BACKLOG, interface=host)

    def stop(self) -> Any:
        """End all; the answer is of the listening port's end."""
        for connection in list(self._all.values()):
            connection.drop()
        port, self._port = self._port, None
        return port.stopListening() if port is not None else None

    def buildProtocol(self, addr: IAddress | None) -> Connection | None:
        if len(self._all) >= PER_SESSION * self._owner.most + MAX_STRANGERS:
            return None
        self._serial += 1
        host, port = str(getattr(addr, "host", "")), int(getattr(addr, "port", 0))
        return Connection(self, TcpAddress(host, port, self._serial), self._reactor.seconds())

    # -- what the port calls

    def send(self, packets: bytes, size: int, to: TcpAddress) -> bool:
        """As `DatagramSocket.send`."""
        connection = self._all.get(to)
        return connection is not None and connection.send(packets, size)

    def has_room(self, to: TcpAddress) -> bool:
        """Whether another frame may be begun. There is always room where nobody is: what is sent there is lost."""
        connection = self._all.get(to)
        return connection is None or connection.has_room

    def end(self, address: TcpAddress) -> None:
        """Its session is over."""
        connection = self._all.get(address)
        if connection is not None:
            connection.end(self._reactor.seconds())

    def look(self) -> None:
        """Drop who is silent, who sent no check, and whose session does without it."""
        now = self._reactor.seconds()
        for connection in list(self._all.values()):
            since = now - connection.since
            if not connection.is_open:
                over = since > GOODBYE
            elif connection.is_known:
                over = now - connection.heard > IDLE or not self._owner.owns(connection.address)
            else:
                over = since > CHECK_WITHIN
            if over:
                connection.drop()

    # -- what connections call

    def came(self, connection: Connection) -> None:
        if len(self._strangers) >= MAX_STRANGERS:
            next(iter(self._strangers)).drop()
        self._all[connection.address] = connection
        self._strangers[connection] = None

    def took(self, connection: Connection, datagram: bytes) -> None:
        connection.heard = self._reactor.seconds()
        self._owner.datagram(datagram, connection.address)
        if not connection.is_known and self._owner.owns(connection.address):
            connection.is_known = True
            self._strangers.pop(connection, None)

    def gone(self, connection: Connection) -> None:
        if self._all.pop(connection.address, None) is not None:
            if self._strangers.pop(connection, self) is None:
                self.strangers_dropped += 1
            self._owner.lost(connection.address)
