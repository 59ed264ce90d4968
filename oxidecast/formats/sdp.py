"""Session descriptions of multicast streams (SDP, RFC 8866), to be announced or downloaded.

One session is one group: a transport stream over plain UDP or over RTP. The writer is for what this server
sends and nothing else; titles come from outside, and cannot leave their line.

FEC has no media lines of its own: no registered format names SMPTE 2022-1, receivers find it on the ports that
it defines, and players that know only one medium a session (VLC among them) would refuse the stream. An
attribute says it, which those that do not know it pass over (RFC 8866, 5.13).
"""

import ipaddress
from dataclasses import dataclass
from hashlib import sha256

from oxidecast.formats.fec import ROW_PORT, Matrix
from oxidecast.formats.lines import one_line
from oxidecast.formats.rtp import MP2T
from oxidecast.media import LocalProtocolError

CONTENT_TYPE = "application/sdp"

_LONGEST_TEXT = 200
"""Bytes of a title or a description: VLC reads 255 bytes a line, and an announcement should stay below 1 KB."""
_LONGEST_NUMBER = 1 << 63


def session_id(key: str) -> int:
    """A number for the session of `key`, the same at every start and on every machine (o=, sess-id)."""
    return int.from_bytes(sha256(key.encode(errors="replace")).digest()[:7], "big")


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What is sent, where and by whom: `bytes(session)` is its description."""

    id: int
    """See `session_id`."""
    version: int
    """Grows with every change, across restarts: the Unix time of the last change does."""
    origin: str
    """Our address, as receivers see it."""
    title: str
    group: str
    port: int
    information: str = ""
    ttl: int = 1
    rtp: bool = False
    """RTP, and not plain UDP."""
    source_specific: bool = False
    """Receivers must join by our address (RFC 4570)."""
    fec: Matrix | None = None

    def __post_init__(self) -> None:
        try:
            group, origin = ipaddress.ip_address(self.group), ipaddress.ip_address(self.origin)
        except ValueError as error:
            raise LocalProtocolError(f"a session needs addresses: {error}")
        if not group.is_multicast or origin.is_multicast or group.version != origin.version:
            raise LocalProtocolError(f"{self.origin} cannot send to {self.group} as a multicast group")
        if "%" in self.group + self.origin:
            raise LocalProtocolError(
                f"{self.origin} or {self.group} has a zone, which means nothing elsewhere"
            )
        if not (0 < self.port < 0x10000 and 0 <= self.ttl < 256):
            raise LocalProtocolError(f"port {self.port} or TTL {self.ttl} is out of range")
        if not (0 <= self.id < _LONGEST_NUMBER and 0 <= self.version < _LONGEST_NUMBER):
            raise LocalProtocolError(f"session id {self.id} or version {self.version} is out of range")
        if self.fec is not None and not self.rtp:
            raise LocalProtocolError("FEC protects RTP packets; plain UDP has none")
        beside = ROW_PORT if self.fec is not None else 1 if self.rtp else 0
        if self.port + beside >= 0x10000:
            raise LocalProtocolError(f"port {self.port} leaves no room for what belongs to RTP beside it")

    @property
    def origin_line(self) -> str:
        """The line that identifies the session and its version (5.2), line end included."""
        return f"o=- {self.id} {self.version} IN {_family(self.origin)} {self.origin}\r\n"

    def __bytes__(self) -> bytes:
        family = _family(self.group)
        # Only IPv4 has a TTL in its connection line; in IPv6 the address says its scope (5.7).
        scope = f"/{self.ttl}" if family == "IP4" else ""
        information = one_line(self.information, _LONGEST_TEXT)
        lines = [
            "v=0\r\n",
            self.origin_line,
            # A session without a name is called by one dash (5.3).
            f"s={one_line(self.title, _LONGEST_TEXT) or '-'}\r\n",
            f"i={information}\r\n" if information else "",
            f"c=IN {family} {self.group}{scope}\r\n",
            "t=0 0\r\n",
            "a=tool:OxideCast\r\n",
            "a=type:broadcast\r\n",
            "a=recvonly\r\n",
            f"a=source-filter: incl IN {family} {self.group} {self.origin}\r\n"
            if self.source_specific
            else "",
            f"m=video {self.port} {'RTP/AVP' if self.rtp else 'udp'} {MP2T}\r\n",
            f"a=rtpmap:{MP2T} MP2T/90000\r\n",
        ]
        if self.rtp and self.port % 2:
            # RTP ports are even unless RTCP's is named (RFC 3605): VLC would listen on the next one.
            lines.append(f"a=rtcp:{self.port + 1}\r\n")
        if self.fec is not None:
            kind = "both" if self.fec.both else "columns"
            lines.append(f"a=x-smpte2022-1:L={self.fec.columns} D={self.fec.rows} {kind}\r\n")
        return "".join(lines).encode()


def _family(address: str) -> str:
    return f"IP{ipaddress.ip_address(address).version}"
