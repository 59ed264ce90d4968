"""The RTMP handshake, both sides: three blocks each way before the first chunk. Bytes in, bytes out.

The simple form (RTMP 1.0, 5.2) echoes random bytes. Some encoders and players want the digest form, which the
specification does not tell: C1 and S1 carry an HMAC-SHA256 over the rest of the block, keyed by a well-known
phrase, in one of two places, and C2 and S2 end with an HMAC over themselves keyed by the peer's digest. The
server answers in the form it was asked in. What C2 holds is not checked, as many encoders send anything
there.
"""

import hmac

from oxidecast.media.errors import LocalProtocolError, RemoteProtocolError

VERSION = 3
BLOCK = 1536
"""Bytes of C1, C2, S1 and S2 (5.2.3, 5.2.4)."""
RANDOM = BLOCK - 8
"""Random bytes a side needs: a block less its time and version."""

_DIGEST = 32
_PLACES = (772, 8)
"""Where in the block the digest's four offset bytes stand: the field's schemes 0 and 1."""
_SUFFIX = bytes.fromhex("f0eec24a8068bee82e00d0d1029e7e576eec5d2d29806fab93b8e636cfeb31ae")
_CLIENT_PHRASE = b"Genuine Adobe Flash Player 001"
_SERVER_PHRASE = b"Genuine Adobe Flash Media Server 001"
_SERVER_VERSION = bytes((4, 5, 0, 1))
"""In S1's second field; players check the digest of a server that claims 3 or more."""


class ServerHandshake:
    """C0 C1 in, S0 S1 S2 out, C2 in. `rest` is what came after C2."""

    def __init__(self, random: bytes) -> None:
        """`random` is RANDOM bytes nobody can guess; the same bytes give the same answer."""
        if len(random) != RANDOM:
            raise LocalProtocolError(f"a handshake needs {RANDOM} random bytes")
        self._random = random
        self._buffer = bytearray()
        self._answered = False
        self.done = False
        self.rest = b""

    def receive(self, data: bytes) -> bytes:
        """What is to be sent for what came. Raises RemoteProtocolError for a version that is not 3."""
        self._buffer += data
        answer = b""
        if not self._answered:
            if self._buffer:
                _check_version(self._buffer[0])
            if len(self._buffer) < 1 + BLOCK:
                return b""
            answer = self._answer(bytes(self._buffer[1 : 1 + BLOCK]))
            self._answered = True
        if len(self._buffer) >= 1 + 2 * BLOCK:
            self.rest = bytes(self._buffer[1 + 2 * BLOCK :])
            self._buffer.clear()
            self.done = True
        return answer

    def _answer(self, c1: bytes) -> bytes:
        if c1[4:8] != bytes(4):  # the simple form has zeros here
            for place in _PLACES:
                offset = _offset(c1, place)
                if hmac.compare_digest(
                    _block_digest(_CLIENT_PHRASE, c1, offset), c1[offset : offset + _DIGEST]
                ):
                    s1 = _signed(_SERVER_PHRASE, bytes(4) + _SERVER_VERSION + self._random, place)
                    key = _hmac(_SERVER_PHRASE + _SUFFIX, c1[offset : offset + _DIGEST])
                    body = self._random[: BLOCK - _DIGEST]
                    return bytes((VERSION,)) + s1 + body + _hmac(key, body)
        return bytes((VERSION,)) + bytes(8) + self._random + c1


class ClientHandshake:
    """`start()` gives C0 C1; S0 S1 S2 in, C2 out. The simple form, which every server takes."""

    def __init__(self, random: bytes) -> None:
        if len(random) != RANDOM:
            raise LocalProtocolError(f"a handshake needs {RANDOM} random bytes")
        self._random = random
        self._buffer = bytearray()
        self._answered = False
        self.done = False
        self.rest = b""

    def start(self) -> bytes:
        return bytes((VERSION,)) + bytes(8) + self._random

    def receive(self, data: bytes) -> bytes:
        self._buffer += data
        answer = b""
        if not self._answered:
            if self._buffer:
                _check_version(self._buffer[0])
            if len(self._buffer) < 1 + BLOCK:
                return b""
            answer = bytes(self._buffer[1 : 1 + BLOCK])
            self._answered = True
        if len(self._buffer) >= 1 + 2 * BLOCK:
            self.rest = bytes(self._buffer[1 + 2 * BLOCK :])
            self._buffer.clear()
            self.done = True
        return answer


def _check_version(version: int) -> None:
    if version in (6, 8):
        raise RemoteProtocolError(
            f"handshake version {version} (RTMPE encryption) is not supported; use RTMPS"
        )
    if version != VERSION:
        raise RemoteProtocolError(f"handshake version is {version}, not {VERSION}")


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def _offset(block: bytes, place: int) -> int:
    """Where the digest stands: four bytes summed choose one of 728 places behind them."""
    return sum(block[place : place + 4]) % 728 + place + 4


def _block_digest(phrase: bytes, block: bytes, offset: int) -> bytes:
    return _hmac(phrase, block[:offset] + block[offset + _DIGEST :])


def _signed(phrase: bytes, block: bytes, place: int) -> bytes:
    offset = _offset(block, place)
    return block[:offset] + _block_digest(phrase, block, offset) + block[offset + _DIGEST :]
