"""AES-128 in counter mode with HMAC-SHA1-80 (RFC 3711 4.1.1, 4.2.1) by libsrtp, for peers without AES-GCM."""

from collections.abc import Sequence

from pylibsrtp import Error, Policy, Session

from oxidecast.formats.rtp_runs import Payload
from oxidecast.media.errors import LocalProtocolError, RemoteProtocolError
from oxidecast.webrtc.srtp.derivation import MasterKey
from oxidecast.webrtc.srtp.streams import (
    EXTENSION,
    SrtpReceiver,
    SrtpSender,
    SrtpStream,
    check_room,
    check_rtcp,
    pack_header,
    rtp_header_size,
)
from oxidecast.webrtc.srtp.window import WINDOW

_TAG = 10
_MAX_DATAGRAM = 1_500
"""What the binding takes: more than fits in an Ethernet frame is no media packet."""
_MAX_PACKET = _MAX_DATAGRAM - 144
"""What it leaves to us: it keeps room for the longest tag and MKI there are."""


def _session(master: MasterKey, ssrc_type: int) -> Session:
    policy = Policy(
        key=master.key + master.salt,
        ssrc_type=ssrc_type,
        srtp_profile=Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    )
    policy.window_size = WINDOW
    return Session(policy)


class CmStream(SrtpStream):
    """One SSRC."""

    __slots__ = ("_protect",)

    def __init__(self, session: Session, ssrc: int, payload_type: int, sequence: int) -> None:
        super().__init__(ssrc, payload_type, sequence)
        self._protect = session.protect

    def protect(self, payloads: Sequence[Payload], timestamp: int, extension: bytes = b"") -> bytes:
        count = len(payloads)
        index = self._reserve(count)
        timestamp &= 0xFFFFFFFF
        second = self.payload_type | EXTENSION if extension else self.payload_type
        parts: list[bytes] = []
        for first, payload in payloads:
            header = pack_header(first | second, index & 0xFFFF, timestamp, self.ssrc)
            packet = b"".join((header, extension, payload))
            if len(packet) > _MAX_PACKET:
                raise LocalProtocolError(f"RTP packet has {len(packet)} bytes, more than {_MAX_PACKET}")
            parts.append(self._protect(packet))
            index += 1
        packets = b"".join(parts)
        self.packets += count
        self.octets += len(packets) - count * (12 + len(extension) + _TAG)
        return packets


class CmSender(SrtpSender):
    """All streams under one key, and its SRTCP."""

    __slots__ = ("_session",)

    overhead = 12 + _TAG

    def __init__(self, master: MasterKey) -> None:
        super().__init__()
        self._session = _session(master, Policy.SSRC_ANY_OUTBOUND)

    def _stream(self, ssrc: int, payload_type: int, sequence: int) -> SrtpStream:
        return CmStream(self._session, ssrc, payload_type, sequence)

    def protect_rtcp(self, packet: bytes) -> bytes:
        return self._session.protect_rtcp(packet)


class CmReceiver(SrtpReceiver):
    """All that comes under one key. libsrtp makes a stream for each new SSRC: the count is kept here."""

    __slots__ = ("_session", "_ssrcs")

    def __init__(self, master: MasterKey) -> None:
        self._session = _session(master, Policy.SSRC_ANY_INBOUND)
        self._ssrcs: set[bytes] = set()

    def unprotect(self, datagram: bytes) -> bytes:
        rtp_header_size(datagram, _TAG)
        ssrc = datagram[8:12]
        self._check(datagram, ssrc)
        try:
            packet = self._session.unprotect(datagram)
        except Error as error:
            raise RemoteProtocolError(f"SRTP packet: {error}") from None
        self._ssrcs.add(ssrc)
        return packet

    def unprotect_rtcp(self, datagram: bytes) -> bytes:
        check_rtcp(datagram, _TAG + 4)
        if not datagram[-_TAG - 4] & 0x80:
            raise RemoteProtocolError("SRTCP packet is not encrypted")
        ssrc = datagram[4:8]
        self._check(datagram, ssrc)
        try:
            packet = self._session.unprotect_rtcp(datagram)
        except Error as error:
            raise RemoteProtocolError(f"SRTCP packet: {error}") from None
        self._ssrcs.add(ssrc)
        return packet

    def _check(self, datagram: bytes, ssrc: bytes) -> None:
        if len(datagram) > _MAX_DATAGRAM:
            raise RemoteProtocolError(f"SRTP packet has {len(datagram)} bytes, more than {_MAX_DATAGRAM}")
        if ssrc not in self._ssrcs:
            check_room(len(self._ssrcs))
