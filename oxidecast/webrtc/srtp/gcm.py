"""AES-128-GCM (RFC 7714) by `cryptography`: one call a packet, no state beside the index."""

from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from oxidecast.formats.rtp_runs import Payload
from oxidecast.media.errors import LocalProtocolError, RemoteProtocolError
from oxidecast.webrtc.srtp.derivation import (
    RTCP_ENCRYPTION,
    RTCP_SALT,
    RTP_ENCRYPTION,
    RTP_SALT,
    MasterKey,
)
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
from oxidecast.webrtc.srtp.window import ReplayWindow

_TAG = 16
_ENCRYPTED = 1 << 31


def _key_and_salt(master: MasterKey, key_label: int, salt_label: int) -> tuple[AESGCM, int]:
    """The session key and, as a number to be XORed with SSRC and index, the session salt (8.1)."""
    return AESGCM(master.derive(key_label, 16)), int.from_bytes(master.derive(salt_label, 12), "big")


class GcmStream(SrtpStream):
    """One SSRC."""

    __slots__ = ("_key", "_salt")

    def __init__(self, key: AESGCM, salt: int, ssrc: int, payload_type: int, sequence: int) -> None:
        super().__init__(ssrc, payload_type, sequence)
        self._key = key
        self._salt = salt ^ ssrc << 48

    def protect(self, payloads: Sequence[Payload], timestamp: int, extension: bytes = b"") -> bytes:
        # Per packet and viewer: nothing costs more in the whole server, so nothing here is for show. Gathering
        # and one join beats writing into a buffer: slicing a memoryview costs more than the copy.
        count = len(payloads)
        index = self._reserve(count)
        timestamp &= 0xFFFFFFFF
        ssrc, salt, encrypt = self.ssrc, self._salt, self._key.encrypt
        second = self.payload_type | EXTENSION if extension else self.payload_type
        parts: list[bytes] = []
        append = parts.append
        for first, payload in payloads:
            header = pack_header(first | second, index & 0xFFFF, timestamp, ssrc) + extension
            append(header)
            append(encrypt((salt ^ index).to_bytes(12, "big"), payload, header))
            index += 1
        packets = b"".join(parts)
        self.packets += count
        self.octets += len(packets) - count * (12 + len(extension) + _TAG)
        return packets


class GcmSender(SrtpSender):
    """All streams under one key, and its SRTCP."""

    __slots__ = ("_key", "_rtcp_index", "_rtcp_key", "_rtcp_salt", "_salt")

    overhead = 12 + _TAG

    def __init__(self, master: MasterKey) -> None:
        super().__init__()
        self._key, self._salt = _key_and_salt(master, RTP_ENCRYPTION, RTP_SALT)
        self._rtcp_key, self._rtcp_salt = _key_and_salt(master, RTCP_ENCRYPTION, RTCP_SALT)
        self._rtcp_index = 0

    def _stream(self, ssrc: int, payload_type: int, sequence: int) -> SrtpStream:
        return GcmStream(self._key, self._salt, ssrc, payload_type, sequence)

    def protect_rtcp(self, packet: bytes) -> bytes:
        index = self._rtcp_index
        if index >= _ENCRYPTED:
            raise LocalProtocolError("SRTCP key has no index left")
        # One counter for all SSRCs: more than RFC 3711 3.2.3 asks for.
        self._rtcp_index = index + 1
        trailer = (_ENCRYPTED | index).to_bytes(4, "big")
        nonce = self._rtcp_salt ^ int.from_bytes(packet[4:8], "big") << 48 ^ index
        sealed = self._rtcp_key.encrypt(nonce.to_bytes(12, "big"), packet[8:], packet[:8] + trailer)
        return packet[:8] + sealed + trailer


class GcmReceiver(SrtpReceiver):
    """All that comes under one key."""

    __slots__ = ("_key", "_rtcp_key", "_rtcp_salt", "_rtcp_windows", "_salt", "_windows")

    def __init__(self, master: MasterKey) -> None:
        self._key, self._salt = _key_and_salt(master, RTP_ENCRYPTION, RTP_SALT)
        self._rtcp_key, self._rtcp_salt = _key_and_salt(master, RTCP_ENCRYPTION, RTCP_SALT)
        self._windows: dict[int, ReplayWindow] = {}
        self._rtcp_windows: dict[int, ReplayWindow] = {}

    def unprotect(self, datagram: bytes) -> bytes:
        header = datagram[: rtp_header_size(datagram, _TAG)]
        ssrc = int.from_bytes(header[8:12], "big")
        window = self._windows.get(ssrc) or ReplayWindow()
        index = window.estimate(int.from_bytes(header[2:4], "big"))
        window.check(index)
        nonce = (self._salt ^ ssrc << 48 ^ index).to_bytes(12, "big")
        try:
            payload = self._key.decrypt(nonce, datagram[len(header) :], header)
        except InvalidTag:
            raise RemoteProtocolError("SRTP packet is not authentic") from None
        _accept(self._windows, ssrc, window, index)
        return header + payload

    def unprotect_rtcp(self, datagram: bytes) -> bytes:
        check_rtcp(datagram, _TAG + 4)
        trailer = datagram[-4:]
        index = int.from_bytes(trailer, "big")
        if index < _ENCRYPTED:
            # Browsers never send it, and without it there is one way in.
            raise RemoteProtocolError("SRTCP packet is not encrypted")
        index -= _ENCRYPTED
        header = datagram[:8]
        ssrc = int.from_bytes(header[4:8], "big")
        window = self._rtcp_windows.get(ssrc) or ReplayWindow()
        window.check(index)
        nonce = (self._rtcp_salt ^ ssrc << 48 ^ index).to_bytes(12, "big")
        try:
            body = self._rtcp_key.decrypt(nonce, datagram[8:-4], header + trailer)
        except InvalidTag:
            raise RemoteProtocolError("SRTCP packet is not authentic") from None
        _accept(self._rtcp_windows, ssrc, window, index)
        return header + body


def _accept(windows: dict[int, ReplayWindow], ssrc: int, window: ReplayWindow, index: int) -> None:
    if ssrc not in windows:
        check_room(len(windows))
        windows[ssrc] = window
    window.accept(index)
