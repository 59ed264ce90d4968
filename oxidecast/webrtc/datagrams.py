"""The one UDP socket of WebRTC: datagrams from everybody, and packets to each, as few system calls as can be.

The one idea: a frame's packets for one viewer leave in one call, which the kernel cuts (UDP_SEGMENT). What cannot
be cut goes one by one; what cannot be sent is lost, as on any network, and counted. Nothing here raises or waits.
"""

import errno
import ipaddress
import socket
import sys
from collections import Counter
from collections.abc import Callable
from functools import lru_cache

from twisted.logger import Logger

from oxidecast.webrtc.ice import Address

_UDP, _UDP_SEGMENT = 17, 103
"""Linux 4.18 and later; Python has no names for them."""

SEND_BUFFER = 8 << 20
RECEIVE_BUFFER = 4 << 20
"""Bytes that are asked for: a keyframe to some hundred viewers, and their answers. The kernel gives at most
net.core.wmem_max and rmem_max."""

READS = 64
"""Datagrams that are read before others have their turn."""

LARGEST = 2_048
"""Bytes. No datagram that this port understands is larger; more is cut off, and fails its check."""

_NOT_HERE = frozenset({errno.EIO, errno.EOPNOTSUPP, errno.ENOPROTOOPT, errno.ENOTSUP})
"""What kernels say that can cut nothing, or nothing for this device."""
_NOT_SO = frozenset({errno.EINVAL, errno.EMSGSIZE})
"""What they say to a batch that does not fit the way of this one viewer."""


class DatagramSocket:
    """Bound to `host` (empty: all addresses, of both families where the machine has both) and `port`. Raises
    OSError."""

    log = Logger()

    def __init__(self, host: str, port: int) -> None:
        self._socket = _bound(host, port)
        for option, size in ((socket.SO_SNDBUF, SEND_BUFFER), (socket.SO_RCVBUF, RECEIVE_BUFFER)):
            self._socket.setsockopt(socket.SOL_SOCKET, option, size)
        self._send = self._socket.sendto
        self.has_ipv6 = self._socket.family == socket.AF_INET6
        self.segmenting = True
        """Whether the kernel cuts."""
        self.calls = 0
        """System calls that sent something."""
        self.bytes = 0
        """Payload of the datagrams sent."""
        self.dropped = 0
        """Datagrams that could not be sent."""
        self.errors: Counter[str] = Counter()
        """Calls that failed, by the system's error."""

    @property
    def port(self) -> int:
        """The number that it is bound to."""
        return int(self._socket.getsockname()[1])

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def read(self, take: Callable[[bytes, Address], None]) -> bool:
        """Hand on what has come, a bounded number of them; whether there may be more."""
        receive = self._socket.recvfrom
        for _ in range(READS):
            try:
                datagram, source = receive(LARGEST)
            except (BlockingIOError, InterruptedError):
                return False
            except OSError as error:
                self._count(error)  # A peer's ICMP complaint, and no fault of the socket's.
                continue
            take(datagram, source)
        return True

    def send(self, packets: bytes, size: int, to: Address) -> bool:
        """Send `packets` as datagrams of `size` bytes, of which the last may be shorter. False when some could not
        be sent."""
        if len(packets) > size:
            return self._send_many(packets, size, to)
        try:
            self._send(packets, to)
        except OSError as error:
            self.dropped += 1
            self._count(error)
            return False
        self.calls += 1
        self.bytes += len(packets)
        return True

    def _send_many(self, packets: bytes, size: int, to: Address) -> bool:
        if self.segmenting:
            try:
                self._socket.sendmsg((packets,), (_cut(size),), 0, to)
            except OSError as error:
                self._count(error)
                if error.errno in _NOT_HERE:
                    self.segmenting = False
                    self.log.info(
                        "the kernel cuts no datagrams here ({error}): they go one by one", error=error
                    )
                elif error.errno not in _NOT_SO:
                    self.dropped += -(-len(packets) // size)
                    return False
            else:
                self.calls += 1
                self.bytes += len(packets)
                return True
        sent = [self.send(packets[at : at + size], size, to) for at in range(0, len(packets), size)]
        return all(sent)

    def _count(self, error: OSError) -> None:
        self.errors[errno.errorcode.get(error.errno or 0, "other")] += 1


@lru_cache(maxsize=2048)
def _cut(size: int) -> tuple[int, int, bytes]:
    """What tells the kernel where to cut."""
    return _UDP, _UDP_SEGMENT, size.to_bytes(2, sys.byteorder)


def _bound(host: str, port: int) -> socket.socket:
    if host:
        family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
        return _open(family, host, port)
    try:
        return _open(socket.AF_INET6, "::", port)
    except OSError as error:
        if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            raise
        return _open(socket.AF_INET, "0.0.0.0", port)


def _open(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_DGRAM)
    try:
        made.setblocking(False)
        if host == "::":
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind((host, port))
    except OSError:
        made.close()
        raise
    return made


def route_addresses() -> list[str]:
    """This machine's addresses towards the rest of the world, IPv4 first. Nothing is sent to find them."""
    found = []
    for family, target in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((target, 9))
                found.append(str(probe.getsockname()[0]))
        except OSError:
            continue
    return found
