"""What a datagram on the one UDP port is, told by its first octets (RFC 7983 7, RFC 5761 4)."""

from enum import Enum


class Kind(Enum):
    """Who shall read a datagram."""

    STUN = "STUN"
    DTLS = "DTLS"
    RTP = "RTP"
    RTCP = "RTCP"
    OTHER = "other"
    """ZRTP, TURN channels, QUIC, and noise: nothing that this port speaks."""


_BY_FIRST_OCTET = tuple(
    Kind.STUN
    if first < 4
    else Kind.DTLS
    if 20 <= first < 64
    else Kind.RTP
    if 128 <= first < 192
    else Kind.OTHER
    for first in range(256)
)


def classify(datagram: bytes) -> Kind:
    """The kind of a datagram of any size.

    RTP and RTCP share their first octet. The second one parts them: RTCP packet types 192 to 223 stand where
    RTP would have a payload type of 64 to 95 and a marker, which is why SDP never offers those.
    """
    if len(datagram) < 2:
        return Kind.OTHER
    kind = _BY_FIRST_OCTET[datagram[0]]
    if kind is Kind.RTP and 192 <= datagram[1] < 224:
        return Kind.RTCP
    return kind
