"""Datagrams to one multicast group through one interface.

The one idea: the walk of each datagram through the network stack is what sending costs, so the kernel takes a
batch in one call and cuts it itself as late as it can (UDP_SEGMENT, "generic segmentation offload"). Where the
kernel or the device refuses that, datagrams go one by one, and nobody above needs to know.

Sending never raises and never waits. What could not be sent is lost, as on any network, and counted; a socket
that fails for good is opened anew, at growing intervals, until the interface is back.
"""

import errno
import socket
import struct
from collections import Counter
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

import msgspec
from twisted.logger import Logger

from oxidecast.media import LocalProtocolError

_UDP_SEGMENT = 103
"""Linux 4.18 and later; Python has no name for it."""
MAX_BATCH = 49
"""Datagrams of 1316 bytes that fit in the 64 KiB which the kernel cuts at once; it takes no more than 64."""
_MAX_BYTES = 65_507
"""What one call may send: the largest payload of a UDP datagram."""

_REFUSED = frozenset({errno.EINVAL, errno.EIO, errno.EMSGSIZE, errno.EOPNOTSUPP, errno.ENOPROTOOPT})
"""What kernels say that cannot cut this batch for this device: no checksum offload (EIO), datagrams above the
MTU (EINVAL or EMSGSIZE, by version). One by one the same bytes may pass."""
_PASSING = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.ECONNREFUSED, errno.EINTR})
"""The queue of the socket or the device is full, or a neighbour complained: the socket itself is sound."""

FIRST_RETRY, LAST_RETRY = 0.25, 5.0
"""Seconds between attempts to open: short, since a cable is often back at once; then cheap, for hours."""
LOG_INTERVAL = 60.0
"""Seconds between two log lines of one socket's errors."""


class SendOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How the datagrams of a group travel."""

    ttl: int = 1
    """Routers that they may pass, plus one (hop limit in IPv6)."""
    loopback: bool = True
    """Whether receivers on this machine get them."""
    dscp: int = 0
    """Their class of service (RFC 2474); 34 (AF41) is usual for television."""
    buffer_size: int = 0
    """SO_SNDBUF in bytes; 0 leaves the system's. The kernel caps it at net.core.wmem_max."""


class MulticastSocket:
    """The way to `group` and `port` through `interface`: a name, one of our addresses, or "" for the route's choice.

    `seconds` is the reactor's clock. Raises LocalProtocolError for what can never work; an interface that is not
    there yet can.
    """

    log = Logger()

    def __init__(self, group: str, port: int, interface: str, options: SendOptions, seconds: Any) -> None:
        self.group = _multicast(group)
        self.port = port
        self.interface = interface
        self.packets = 0
        self.bytes = 0
        self.dropped = 0
        """Datagrams that could not be sent."""
        self.errors: Counter[str] = Counter()
        """Failed calls by kind: `ENETUNREACH`, `EAGAIN`, ..."""
        self.segmenting = False
        """Whether the kernel cuts batches now."""
        self._options = options
        self._seconds = seconds
        self._address = _own_address(interface, self.group)
        self._socket: socket.socket | None = None
        self._size = 0
        self._closed = False
        self._failing = False
        self._retry_at = 0.0
        self._retry_after = FIRST_RETRY
        self._log_at = 0.0
        self._told_of_refusal = False
        if not 0 < port < 65_536:
            raise LocalProtocolError(f"port {port} is not between 1 and 65535")
        if not 0 <= options.ttl <= 255 or not 0 <= options.dscp <= 63:
            raise LocalProtocolError("ttl goes from 0 to 255, dscp from 0 to 63")
        self._open()

    def __repr__(self) -> str:
        return f"<{self.group} port {self.port} through {self.interface or 'the default route'}>"

    @property
    def source(self) -> str:
        """Our address on the datagrams, which receivers of a source-specific group must name; "" while away."""
        return self._socket.getsockname()[0] if self._socket else ""

    def send(self, data: bytes, size: int) -> None:
        """Send `data` as datagrams of `size` bytes; the last one may be shorter."""
        if self._socket is None and not self._reopen():
            self.dropped += -(-len(data) // size)
        elif self.segmenting and len(data) > size:
            batch = size * min(MAX_BATCH, _MAX_BYTES // size)
            if len(data) <= batch:
                self._send_batch(data, size)
            else:
                for start in range(0, len(data), batch):
                    self._send_batch(data[start : start + batch], size)
        else:
            self._send_singly(data, size)

    def close(self) -> None:
        """Nothing is sent from now on."""
        self._closed = True
        self._away()

    def stats(self) -> Mapping[str, Any]:
        """Figures for the API: JSON values."""
        return {
            "interface": self.interface,
            "source": self.source,
            "packets": self.packets,
            "bytes": self.bytes,
            "dropped": self.dropped,
            "errors": dict(self.errors),
            "segmentation_offload": self.segmenting,
        }

    # -- sending

    def _send_batch(self, data: bytes, size: int) -> None:
        sock = self._socket
        if sock is None:
            self.dropped += -(-len(data) // size)
            return
        try:
            if size != self._size:
                sock.setsockopt(socket.SOL_UDP, _UDP_SEGMENT, size)
                self._size = size
            sock.send(data)
        except OSError as error:
            if error.errno in _REFUSED:
                self._without_segmentation(error)
                self._send_singly(data, size)
            else:
                self._failed(error, -(-len(data) // size))
        else:
            self.packets += -(-len(data) // size)
            self.bytes += len(data)
            if self._failing:
                self._recovered()

    def _send_singly(self, data: bytes, size: int) -> None:
        sock = self._socket
        count = -(-len(data) // size)
        if sock is None:
            self.dropped += count
            return
        for start in range(0, len(data), size):
            datagram = data[start : start + size]
            try:
                sock.send(datagram)
            except OSError as error:
                self._failed(error, count - start // size)
                return
            self.packets += 1
            self.bytes += len(datagram)
            if self._failing:
                self._recovered()

    def _recovered(self) -> None:
        self._failing = False
        self._retry_after = FIRST_RETRY
        self.log.info("{socket!r}: sending again", socket=self)

    def _without_segmentation(self, error: OSError) -> None:
        self.segmenting = False
        if self._socket is not None and self._size:
            self._socket.setsockopt(socket.SOL_UDP, _UDP_SEGMENT, 0)
            self._size = 0
        if not self._told_of_refusal:
            self._told_of_refusal = True
            self.log.info(
                "{socket!r}: no segmentation offload here ({error}); datagrams are sent one by one",
                socket=self,
                error=error.strerror,
            )

    def _failed(self, error: OSError, lost: int) -> None:
        """Count it, and open the socket anew later unless the trouble passes by itself."""
        now = self._seconds()
        self.errors[errno.errorcode.get(error.errno or 0, "EOTHER")] += 1
        self.dropped += lost
        if error.errno not in _PASSING:
            self._failing = True
            self._away()
            self._retry_at = now + self._retry_after
            self._retry_after = min(2 * self._retry_after, LAST_RETRY)
        if now >= self._log_at:
            self._log_at = now + LOG_INTERVAL
            self.log.warn(
                "{socket!r}: sending fails ({error}); {dropped} datagrams lost so far",
                socket=self,
                error=error.strerror or error,
                dropped=self.dropped,
            )

    # -- opening

    def _reopen(self) -> bool:
        if not self._closed and self._seconds() >= self._retry_at:
            self._open()
        return self._socket is not None

    def _away(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _open(self) -> None:
        version = self.group.version
        sock = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            if self._options.buffer_size:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._options.buffer_size)
            self._connect_4(sock) if version == 4 else self._connect_6(sock)
        except OSError as error:
            sock.close()
            self._failed(error, 0)
            return
        self._socket = sock
        self._size = 0
        try:
            sock.setsockopt(socket.SOL_UDP, _UDP_SEGMENT, 0)
        except (OSError, AttributeError):
            self.segmenting = False
        else:
            self.segmenting = True

    def _connect_4(self, sock: socket.socket) -> None:
        options = self._options
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, options.ttl)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, options.loopback)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, options.dscp << 2)
        if self._address is not None:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, self._address.packed)
            sock.bind((str(self._address), 0))
        elif self.interface:
            index = _index(self.interface)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("=4x4xi", index))
        sock.connect((str(self.group), self.port))

    def _connect_6(self, sock: socket.socket) -> None:
        options = self._options
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, options.ttl)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, options.loopback)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, options.dscp << 2)
        index = 0
        if isinstance(self._address, IPv6Address):
            index = _index_of(self._address)
            sock.bind((str(self._address).partition("%")[0], 0, 0, index))
        elif self.interface:
            index = _index(self.interface)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        sock.connect((str(self.group), self.port, 0, index))


def _multicast(group: str) -> IPv4Address | IPv6Address:
    try:
        address = ip_address(group)
    except ValueError:
        raise LocalProtocolError(f"{group!r} is not an address")
    if not address.is_multicast:
        raise LocalProtocolError(f"{group} is not a multicast address")
    return address


def _own_address(interface: str, group: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address | None:
    """The interface's address where that is how it was named."""
    try:
        address = ip_address(interface)
    except ValueError:
        return None
    if address.version != group.version:
        raise LocalProtocolError(
            f"the interface {interface} is named by an IPv{address.version} address, but {group} is IPv{group.version}"
        )
    return address


def _index(name: str) -> int:
    try:
        return socket.if_nametoindex(name)
    except OSError:
        raise OSError(errno.ENODEV, f"there is no interface {name}")


def _index_of(address: IPv6Address) -> int:
    """The interface that has the address: the one its scope names, else as Linux lists them."""
    if address.scope_id:
        return _index(address.scope_id)
    for line in Path("/proc/thread-self/net/if_inet6").read_text().splitlines():
        digits, index, *_ = line.split()
        if bytes.fromhex(digits) == address.packed:
            return int(index, 16)
    raise OSError(errno.EADDRNOTAVAIL, f"no interface has the address {address}")
