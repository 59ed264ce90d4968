"""The last step before the socket: datagrams as they are, or in RTP, with FEC beside them where it is wanted.

What is made here is made once for all interfaces of a group.
"""

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from oxidecast.delivery.udp import MulticastSocket
from oxidecast.formats.fec import COLUMN_PORT, ROW_PORT, FECGenerator, Matrix
from oxidecast.formats.rtp import HEADER_SIZE, TSWrapper
from oxidecast.media import TICKS, LocalProtocolError

OpenSocket = Callable[[int], Sequence[MulticastSocket]]
"""Opens the sockets of a group, one for each interface; the argument is added to the group's port."""


class Sink(Protocol):
    """What a flow sends to, and what is known of it."""

    sockets: Sequence[MulticastSocket]
    """Those of the media, one for each interface."""

    def send(self, data: bytes, size: int) -> None:
        """Send `data` as datagrams of `size` bytes each."""

    def close(self) -> None:
        """Nothing is sent from now on."""


class PlainSink:
    """Transport packets in UDP."""

    def __init__(self, open_sockets: OpenSocket) -> None:
        self.sockets = open_sockets(0)

    def send(self, data: bytes, size: int) -> None:
        for sock in self.sockets:
            sock.send(data, size)

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()


class RTPSink:
    """Transport packets in RTP (RFC 2250), with SMPTE 2022-1 FEC on ports of its own where there is a matrix.

    Time stamps are those of leaving; `seconds` is the reactor's clock.
    """

    def __init__(self, open_sockets: OpenSocket, matrix: Matrix | None, seconds: Callable[[], float]) -> None:
        self.sockets = open_sockets(0)
        self._columns: Sequence[MulticastSocket] = ()
        self._rows: Sequence[MulticastSocket] = ()
        try:
            if matrix is not None:
                self._columns = open_sockets(COLUMN_PORT)
                self._rows = open_sockets(ROW_PORT) if matrix.both else ()
        except LocalProtocolError:
            self.close()
            raise
        self._wrapper = TSWrapper(secrets.randbits(32), secrets.randbits(16))
        self._generator = FECGenerator(matrix) if matrix is not None else None
        self._seconds = seconds
        self._zero = secrets.randbits(32)

    def send(self, data: bytes, size: int) -> None:
        time = int(self._seconds() * TICKS) + self._zero
        packets = self._wrapper.wrap([data[at : at + size] for at in range(0, len(data), size)], time)
        _send(self.sockets, packets, size + HEADER_SIZE)
        if self._generator is not None:
            columns, rows = self._generator.protect(packets)
            _send(self._columns, columns)
            _send(self._rows, rows)

    def close(self) -> None:
        for sock in (*self.sockets, *self._columns, *self._rows):
            sock.close()


def _send(sockets: Iterable[MulticastSocket], packets: Sequence[bytes], size: int = 0) -> None:
    if packets:
        data = b"".join(packets)
        for sock in sockets:
            sock.send(data, size or len(packets[0]))


def totals(sockets: Iterable[MulticastSocket]) -> Mapping[str, Any]:
    """What all the sockets of a group did together."""
    each = list(sockets)
    errors: dict[str, int] = {}
    for sock in each:
        for name, count in sock.errors.items():
            errors[name] = errors.get(name, 0) + count
    return {
        "packets": sum(sock.packets for sock in each),
        "bytes": sum(sock.bytes for sock in each),
        "dropped": sum(sock.dropped for sock in each),
        "errors": errors,
    }
