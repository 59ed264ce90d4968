"""The PROXY protocol: what a TCP proxy says before a connection's first byte of who is at its other end.

Versions 1 (a line of text) and 2 (binary), as "The PROXY protocol", versions 1 & 2, of HAProxy's documentation says:
https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt. Sans-IO: bytes in, a header out.
"""

import re
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from oxidecast.formats.addresses import address
from oxidecast.media.errors import RemoteProtocolError

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
"""How version 2 begins."""
LINE = 107
"""The longest line of version 1 with its end; the specification (2.1) has counted."""
MOST = 2048
"""Bytes of a header of version 2 after its first 16. The specification (2.2) asks for 536 with addresses; what is more
is TLVs, of which a certificate's names are the longest."""

TLV_SSL, CLIENT_SSL = 0x20, 0x01
_FIXED = 16
_LOCAL, _PROXY = 0x20, 0x21
_UNSPECIFIED, _TCP4, _TCP6, _UNIX = 0x00, 0x11, 0x21, 0x31
_SIZES = {_UNSPECIFIED: 0, _TCP4: 12, _TCP6: 36, _UNIX: 216}

_LINE = re.compile(
    rb"PROXY TCP([46]) ([0-9A-Fa-f:.]{2,45}) ([0-9A-Fa-f:.]{2,45}) ([0-9]{1,5}) ([0-9]{1,5})\r\n"
)


class ProxyHeader(NamedTuple):
    """What was said. Without an address the connection is the proxy's own: a health check, or no TCP behind it."""

    address: str | None = None
    port: int = 0
    secure: bool | None = None
    """Whether the client came to the proxy by TLS; None when that was not said."""


def parse(data: bytes) -> tuple[ProxyHeader, int] | None:
    """The header that `data` begins with and its length; None while it is not complete. Raises RemoteProtocolError
    as soon as it can be none."""
    if data.startswith(SIGNATURE[: len(data)]):
        return _binary(data) if len(data) >= _FIXED else None
    if data.startswith(b"PROXY "[: len(data)]):
        return _line(data)
    raise RemoteProtocolError("the connection does not begin with a header of the PROXY protocol")


def _line(data: bytes) -> tuple[ProxyHeader, int] | None:
    end = data.find(b"\r\n", 0, LINE)
    if end < 0:
        if len(data) >= LINE:
            raise RemoteProtocolError("the line of the PROXY protocol is too long")
        return None
    line = data[: end + 2]
    if line.startswith((b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN ")):
        return ProxyHeader(), len(line)
    match = _LINE.fullmatch(line)
    if match is None:
        raise RemoteProtocolError("the line of the PROXY protocol is malformed")
    kind = IPv4Address if match[1] == b"4" else IPv6Address
    try:
        source, _ = kind(match[2].decode()), kind(match[3].decode())
    except ValueError:
        raise RemoteProtocolError("the line of the PROXY protocol holds no valid addresses")
    if int(match[4]) > 0xFFFF or int(match[5]) > 0xFFFF:
        raise RemoteProtocolError("the line of the PROXY protocol holds no valid ports")
    return ProxyHeader(str(address(str(source))), int(match[4])), len(line)


def _binary(data: bytes) -> tuple[ProxyHeader, int] | None:
    command, family, length = data[12], data[13], int.from_bytes(data[14:16])
    if command not in (_LOCAL, _PROXY):
        raise RemoteProtocolError("the PROXY header has a version or a command that is not known")
    if length > MOST:
        raise RemoteProtocolError(f"the PROXY header is longer than {MOST} bytes")
    end = _FIXED + length
    if len(data) < end:
        return None
    if command == _LOCAL:
        return ProxyHeader(), end
    size = _SIZES.get(family)
    if size is None:
        raise RemoteProtocolError("the PROXY header is for another protocol than TCP")
    if length < size:
        raise RemoteProtocolError("the PROXY header is too short for its addresses")
    secure = _tlvs(data[_FIXED + size : end])
    if family == _TCP4:
        source: IPv4Address | IPv6Address = IPv4Address(data[16:20])
        port = int.from_bytes(data[24:26])
    elif family == _TCP6:
        source = IPv6Address(data[16:32])
        port = int.from_bytes(data[48:50])
    else:
        return ProxyHeader(secure=secure), end
    return ProxyHeader(str(address(str(source))), port, secure), end


def _tlvs(data: bytes) -> bool | None:
    """Whether one of them says that the client came by TLS (2.2.6)."""
    secure = None
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at + 1 : at + 3])
        value = data[at + 3 : at + 3 + length]
        if len(data) < at + 3 or len(value) < length:
            raise RemoteProtocolError("the PROXY header ends within a TLV")
        if data[at] == TLV_SSL and value:
            secure = bool(value[0] & CLIENT_SSL)
        at += 3 + length
    return secure
