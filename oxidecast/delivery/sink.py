"""Where an answer's bytes leave: one queue of shared buffers per connection, without copies.

Two kinds. `SocketSink` writes a plain TCP connection itself: first straight to the socket, and what the
kernel does not take stays a `memoryview` of the shared bytes until the socket is writable again.
`TransportSink` serves whatever else Twisted calls a transport (TLS, a Unix socket, a test's): there a raw
send would go past the encryption, so it hands over small pieces, and only while the transport is not full.
Either way a slow reader costs a few views, not a copy.
"""

from collections import deque
from socket import socket
from typing import Any, Protocol

from twisted.internet import main, tcp
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

PIECE = 65536
"""Bytes handed to a foreign transport at once: with its own buffer of the same size, all it ever copies per
connection."""

MERGE = 4096
"""Bodies up to this many bytes are joined to their head: copying them costs less than a second buffer in
`sendmsg`."""

READ_SIZE = 16_384
"""Bytes asked of the socket at once. Requests are small, and freeing Twisted's 64 KiB each time makes malloc
tidy up."""

BUFFERS = 64
"""Buffers in one `sendmsg`; the kernel takes 1024, and more than a few only occur in cold answers of many
small writes."""


class SinkOwner(Protocol):
    def progressed(self) -> None:
        """The peer took some of what was waiting."""

    def drained(self) -> None:
        """All that was waiting has left."""


def sink_for(transport: Any, owner: SinkOwner) -> "SocketSink | TransportSink":
    """The sink for `transport`. Only exactly a `tcp.Server` without TLS is known to mean its socket by
    `write`."""
    if type(transport) is tcp.Server and not transport.TLS:
        return SocketSink(transport, owner)
    return TransportSink(transport, owner)


class SocketSink:
    """Writes a plain TCP socket. While something waits, it stands in for the transport's own `doWrite`.

    An epoll reactor keeps one object per descriptor, so the transport stays that object. Nobody else writes
    to the transport until `release`.
    """

    __slots__ = ("_owner", "_queue", "_socket", "_transport", "pending")

    def __init__(self, transport: Any, owner: SinkOwner) -> None:
        self._transport = transport
        self._socket: socket = transport.socket
        self._owner = owner
        self._queue: deque[memoryview] = deque()
        self.pending = 0
        transport.setTcpNoDelay(True)
        self.attach()

    def send(self, head: bytes, body: bytes | memoryview) -> bool:
        """Sends at once what the kernel takes; True when that was all, else `drained` follows."""
        if self.pending:
            self.write(head)
            self.write(body)
            return False
        size = len(head) + len(body)
        try:
            if len(body) <= MERGE:
                sent = self._socket.send(head + body)
            else:
                sent = self._socket.sendmsg((head, body))
        except BlockingIOError:
            sent = 0
        except OSError:
            self._transport.abortConnection()
            return False
        if sent == size:
            return True
        if sent < len(head):
            self.write(memoryview(head)[sent:])
            self.write(body)
        else:
            self.write(memoryview(body)[sent - len(head) :])
        return False

    def write(self, data: bytes | memoryview) -> None:
        """Queues `data`; it leaves when the reactor comes round, so that the writes of one turn leave
        together."""
        if not data or not self._transport.connected:
            return
        if not self.pending:
            self._transport.doWrite = self._do_write
            self._transport.startWriting()
        self.pending += len(data)
        self._queue.append(memoryview(data))

    def _do_write(self) -> Any:
        queue = self._queue
        buffers = queue if len(queue) <= BUFFERS else [queue[index] for index in range(BUFFERS)]
        try:
            sent = self._socket.sendmsg(buffers)
        except BlockingIOError:
            return None
        except OSError:
            return main.CONNECTION_LOST
        self.pending -= sent
        while queue and sent >= len(queue[0]):
            sent -= len(queue.popleft())
        if sent:
            queue[0] = queue[0][sent:]
        if self.pending:
            self._owner.progressed()
            return None
        del self._transport.doWrite
        # The transport's own doWrite, with nothing to write, stops the watch or carries out a loseConnection.
        ended = self._transport.doWrite()
        if ended is None:
            self._owner.drained()
        return ended

    def attach(self) -> None:
        """Takes the transport back after a `release` that nobody used."""
        self._transport.bufferSize = READ_SIZE

    def release(self) -> None:
        """Gives up the transport; what still waits becomes its own."""
        self._transport.bufferSize = tcp.Server.bufferSize
        if self.pending:
            del self._transport.doWrite
            self._transport.writeSequence([bytes(view) for view in self._queue])
            self._queue.clear()
            self.pending = 0

    def half_close(self) -> None:
        """No more is said, but the peer may finish: closing with unread input would reset what it has not yet
        read."""
        self._transport.loseWriteConnection()


@implementer(IPushProducer)
class TransportSink:
    """Writes any other transport, piece by piece, as its push producer."""

    __slots__ = ("_attached", "_owner", "_paused", "_pumping", "_queue", "_queued", "_transport")

    def __init__(self, transport: Any, owner: SinkOwner) -> None:
        self._transport = transport
        self._owner = owner
        self._queue: deque[memoryview] = deque()
        self._queued = 0
        self._paused = False
        self._pumping = False
        self._attached = False
        self.attach()

    @property
    def pending(self) -> int:
        """Bytes that wait here, and one for those in a transport that is full."""
        return self._queued + self._paused

    def send(self, head: bytes, body: bytes | memoryview) -> bool:
        if len(body) <= MERGE:
            self.write(head + body)
        else:
            self.write(head)
            self.write(body)
        return not self.pending

    def write(self, data: bytes | memoryview) -> None:
        if data:
            self._queued += len(data)
            self._queue.append(memoryview(data))
            self._pump()

    def _pump(self) -> None:
        if self._pumping:
            return
        self._pumping = True
        queue = self._queue
        while queue and not self._paused:
            piece = queue[0][:PIECE]
            if len(piece) == len(queue[0]):
                queue.popleft()
            else:
                queue[0] = queue[0][PIECE:]
            self._queued -= len(piece)
            self._transport.write(bytes(piece))
        self._pumping = False

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        self._pump()
        if self.pending:
            self._owner.progressed()
        else:
            self._owner.drained()

    def stopProducing(self) -> None:
        """The transport is gone; the protocol's connectionLost says so to all who need it."""

    def attach(self) -> None:
        self._attached = True
        self._transport.registerProducer(self, True)

    def release(self) -> None:
        for view in self._queue:
            self._transport.write(bytes(view))
        self._queue.clear()
        self._queued = 0
        self._paused = False
        if self._attached:
            self._attached = False
            self._transport.unregisterProducer()

    def half_close(self) -> None:
        """Such a transport cannot close one direction; TLS waits for the peer's farewell by itself."""
        self.release()
        self._transport.loseConnection()
