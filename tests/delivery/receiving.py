"""A receiver of multicast datagrams that sees what the kernel can tell of them."""

import select
import socket
import struct
from typing import NamedTuple

IP_RECVTTL, IP_MULTICAST_ALL, SO_RCVBUFFORCE, SO_TIMESTAMPNS = 12, 49, 33, 35
MCAST_JOIN_GROUP, MCAST_JOIN_SOURCE_GROUP = 42, 46


class Received(NamedTuple):
    data: bytes
    ttl: int
    dscp: int
    source: str
    at: float
    """When the kernel had it, in seconds since 1970."""


class Receiver:
    """Joined to `group` on `interface`; source-specific where `source` is given. Make it inside a namespace."""

    def __init__(self, group: str, port: int, interface: str, source: str = "") -> None:
        family = socket.AF_INET6 if ":" in group else socket.AF_INET
        self.socket = sock = socket.socket(family, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 32 << 20)
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        if family == socket.AF_INET:
            level = socket.IPPROTO_IP
            sock.setsockopt(level, IP_RECVTTL, 1)
            sock.setsockopt(level, socket.IP_RECVTOS, 1)
            sock.setsockopt(level, IP_MULTICAST_ALL, 0)
        else:
            level = socket.IPPROTO_IPV6
            sock.setsockopt(level, socket.IPV6_RECVHOPLIMIT, 1)
            sock.setsockopt(level, socket.IPV6_RECVTCLASS, 1)
        index = socket.if_nametoindex(interface)
        sock.bind((group, port) if family == socket.AF_INET else (group, port, 0, index))
        join = struct.pack("=I4x", index) + _storage(group)
        if source:
            sock.setsockopt(level, MCAST_JOIN_SOURCE_GROUP, join + _storage(source))
        else:
            sock.setsockopt(level, MCAST_JOIN_GROUP, join)
        sock.setblocking(False)

    def read(self, count: int = 0) -> list[Received]:
        """All that has come, which is at least `count` datagrams unless some take more than two seconds: what is
        sent is here at once, unless the kernel has other things to do."""
        found: list[Received] = []
        while True:
            try:
                data, control, _, sender = self.socket.recvmsg(65_536, 256)
            except BlockingIOError:
                if len(found) >= count or not select.select([self.socket], [], [], 2)[0]:
                    return found
                continue
            ttl = dscp = -1
            at = 0.0
            for level, kind, value in control:
                if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
                    seconds, nanoseconds = struct.unpack("=qq", value)
                    at = seconds + nanoseconds / 1e9
                elif (level, kind) in {
                    (socket.IPPROTO_IP, socket.IP_TTL),
                    (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT),
                }:
                    ttl = int.from_bytes(value, "little")
                elif (level, kind) in {
                    (socket.IPPROTO_IP, socket.IP_TOS),
                    (socket.IPPROTO_IPV6, socket.IPV6_TCLASS),
                }:
                    dscp = value[0] >> 2
            found.append(Received(data, ttl, dscp, sender[0], at))

    def close(self) -> None:
        self.socket.close()


def _storage(address: str) -> bytes:
    """A `struct sockaddr_storage`."""
    if ":" in address:
        start = struct.pack("=HHI16s", socket.AF_INET6, 0, 0, socket.inet_pton(socket.AF_INET6, address))
    else:
        start = struct.pack("=HH4s", socket.AF_INET, 0, socket.inet_aton(address))
    return start.ljust(128, b"\0")
