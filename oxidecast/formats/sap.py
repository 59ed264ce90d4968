"""Announcements that a session exists, and that it ends (Session Announcement Protocol, RFC 2974).

A packet is a small header and a description. An announcement is known by its source and a 16-bit hash, which
must change with the description: `Announcement` chooses one that no other of the same source has.

Announcers share a little bandwidth: the more there is to say, the seldomer each is said (`interval`).
"""

import ipaddress
import struct
import zlib
from collections.abc import Container
from dataclasses import dataclass
from typing import Self

from oxidecast.formats.sdp import CONTENT_TYPE, Session
from oxidecast.media import LocalProtocolError, RemoteProtocolError

PORT = 9875
GLOBAL = "224.2.127.254"
"""Where sessions of global scope are announced."""
LOCAL = "239.255.255.255"
"""Where those of the administratively scoped IPv4 local scope are: its highest address (RFC 2365, 6.1)."""
ORGANISATION = "239.195.255.255"
"""The same for 239.192.0.0/14 (RFC 2365, 6.2), and for what was left for it to grow into."""

BANDWIDTH = 4000
"""Bits a second for all announcements of one scope together (3.1)."""
SHORTEST_INTERVAL = 300.0
"""Seconds (3.1)."""

_VERSION = 1
_IPV6, _DELETE, _ENCRYPTED, _COMPRESSED = 0x10, 0x04, 0x02, 0x01
_HEADER = struct.Struct(">BBH")
_TYPE = CONTENT_TYPE.encode() + b"\0"
_LONGEST_TYPE = 255
"""Bytes of a payload type; real ones have fifteen."""


def address(group: str) -> str:
    """Where the session of a multicast `group` is announced: in the same scope (RFC 2974, 3)."""
    try:
        parsed = ipaddress.ip_address(group)
    except ValueError as error:
        raise LocalProtocolError(f"nothing can be announced of {group[:60]!r}: {error}")
    if isinstance(parsed, ipaddress.IPv6Address):
        return f"ff0{parsed.packed[1] & 0x0F:x}::2:7ffe"
    if parsed in ipaddress.ip_network("239.255.0.0/16"):
        return LOCAL
    return ORGANISATION if parsed in ipaddress.ip_network("239.0.0.0/8") else GLOBAL


def interval(count: int, size: int, bandwidth: int = BANDWIDTH, shortest: float = SHORTEST_INTERVAL) -> float:
    """Seconds between two announcements of one session (3.1).

    `count` announcements, ours and others', are sent in this scope, of `size` bytes on average.
    """
    return max(shortest, 8 * count * size / bandwidth)


def delay(interval: float, draw: float) -> float:
    """Seconds to the next announcement: a third more or less than `interval`, by `draw` in [0, 1) (3.1)."""
    return interval * (2 / 3 + draw * 2 / 3)


@dataclass(frozen=True, slots=True)
class SAPPacket:
    """One packet: `bytes(packet)` is its wire form, `SAPPacket.parse` the way back."""

    source: str
    """The announcer's address."""
    hash: int
    payload: bytes
    delete: bool = False
    payload_type: str = CONTENT_TYPE
    authentication: bytes = b""
    """Whole 32-bit words; nobody checks them."""

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a datagram; raises RemoteProtocolError, for what is encrypted or compressed too."""
        if len(data) < _HEADER.size:
            raise RemoteProtocolError(f"a SAP packet has {len(data)} bytes, less than its header")
        flags, words, number = _HEADER.unpack_from(data)
        if flags >> 5 != _VERSION:
            raise RemoteProtocolError(f"the SAP version is {flags >> 5}, not {_VERSION}")
        if flags & (_ENCRYPTED | _COMPRESSED):
            raise RemoteProtocolError("a SAP packet is encrypted or compressed")
        start = _HEADER.size + (16 if flags & _IPV6 else 4)
        if len(data) < start + 4 * words:
            raise RemoteProtocolError("a SAP packet has a truncated source or authentication data")
        source = ipaddress.ip_address(bytes(data[_HEADER.size : start]))
        authentication = bytes(data[start : start + 4 * words])
        payload, kind = bytes(data[start + 4 * words :]), CONTENT_TYPE
        # Old announcers leave the type out (6).
        if not payload.startswith((b"v=0", b"o=")):
            name, end, rest = payload.partition(b"\0")
            if not end or not name.isascii() or len(name) > _LONGEST_TYPE:
                raise RemoteProtocolError("a SAP packet's payload type has no end")
            kind, payload = name.decode() or CONTENT_TYPE, rest
        return cls(str(source), number, payload, bool(flags & _DELETE), kind, authentication)

    def __bytes__(self) -> bytes:
        try:
            source = ipaddress.ip_address(self.source)
            flags = _VERSION << 5 | (source.version == 6) * _IPV6 | self.delete * _DELETE
            words, rest = divmod(len(self.authentication), 4)
            if rest:
                raise LocalProtocolError("SAP authentication data is made of whole 32-bit words")
            kind = self.payload_type.encode("ascii")
            if b"\0" in kind or len(kind) > _LONGEST_TYPE:
                raise LocalProtocolError(f"{self.payload_type[:60]!r} is no payload type")
            head = _HEADER.pack(flags, words, self.hash)
        except (ValueError, struct.error) as error:
            raise LocalProtocolError(f"no SAP header can say this: {error}")
        return b"".join((head, source.packed, self.authentication, kind, b"\0", self.payload))


class Announcement:
    """The two packets of one session, made once: `announce` again and again, `delete` at its end.

    `taken` holds the hashes of the other announcements from the same address. A session that changes is a new
    announcement: delete the old one first.
    """

    __slots__ = ("address", "announce", "delete", "hash")

    def __init__(self, session: Session, taken: Container[int] = ()) -> None:
        description = bytes(session)
        self.address = address(session.group)
        """Where the packets go, with the TTL of the session, to `PORT`."""
        self.hash = _hash(description, taken)
        self.announce = bytes(SAPPacket(session.origin, self.hash, description))
        # The payload of a deletion is the origin line alone (6).
        self.delete = bytes(SAPPacket(session.origin, self.hash, session.origin_line.encode(), delete=True))


def _hash(description: bytes, taken: Container[int]) -> int:
    """A hash of the description; 0 means "none" to old listeners (6), and is not used."""
    first = zlib.crc32(description) % 0xFFFF
    for step in range(0xFFFF):
        number = (first + step) % 0xFFFF + 1
        if number not in taken:
            return number
    raise LocalProtocolError("one address cannot announce more than 65,535 sessions")
