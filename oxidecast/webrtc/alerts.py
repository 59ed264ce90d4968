"""What is left of DTLS when the keys are exported: one alert in each direction (RFC 5246 7.2, RFC 6347 4.1).

OpenSSL keeps 90 KB a connection, for as long as it lives, and a viewer needs none of it for media. So after the
handshake its connection goes, and this reads and writes the alerts: AES-128-GCM (RFC 5288 3), the one cipher
that is offered, since every WebRTC peer must have it (RFC 8827 6.5).
"""

import hmac
import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

CLOSE_NOTIFY: Final = 0
_WARNING, _FATAL = 1, 2
_ALERT = 21
_VERSION = b"\xfe\xfd"
_HEADER = 13
_EXPLICIT = 8
_TAG = 16
_SIZE = _HEADER + _EXPLICIT + 2 + _TAG

_OURS = 1 << 40
"""The record number of our alert: OpenSSL wrote Finished under the first few, and each only once."""


class Alerts:
    """The protected alerts of one established session."""

    __slots__ = ("_local", "_local_salt", "_remote", "_remote_salt")

    def __init__(self, master: bytes, client_random: bytes, server_random: bytes, *, server: bool) -> None:
        block = _prf(master, b"key expansion" + server_random + client_random, 40)
        client, of_server = (block[:16], block[32:36]), (block[16:32], block[36:40])
        local, remote = (of_server, client) if server else (client, of_server)
        self._local, self._local_salt = AESGCM(local[0]), local[1]
        self._remote, self._remote_salt = AESGCM(remote[0]), remote[1]

    def read(self, record: bytes) -> int | None:
        """The description in a record of epoch 1, when it is an alert that the peer sent and that ends the
        session; else None."""
        if len(record) != _SIZE or record[0] != _ALERT:
            return None
        explicit = record[_HEADER : _HEADER + _EXPLICIT]
        try:
            level, description = self._remote.decrypt(
                self._remote_salt + explicit, record[_HEADER + _EXPLICIT :], _associated(record[3:11])
            )
        except InvalidTag:
            return None
        return description if level == _FATAL or description == CLOSE_NOTIFY else None

    def close_notify(self) -> bytes:
        """Our goodbye, as a record; to be made once."""
        number = (1 << 48 | _OURS).to_bytes(8, "big")
        # OpenSSL counts its explicit nonces from a random number of 64 bits: another one does not meet it.
        explicit = secrets.token_bytes(_EXPLICIT)
        body = self._local.encrypt(
            self._local_salt + explicit, bytes((_WARNING, CLOSE_NOTIFY)), _associated(number)
        )
        length = (_EXPLICIT + len(body)).to_bytes(2, "big")
        return bytes((_ALERT,)) + _VERSION + number + length + explicit + body


def _associated(number: bytes) -> bytes:
    """What GCM authenticates beside the two octets (RFC 5246 6.2.3.3)."""
    return number + bytes((_ALERT,)) + _VERSION + b"\x00\x02"


def _prf(secret: bytes, seed: bytes, size: int) -> bytes:
    """P_SHA256 (RFC 5246 5); the label is in the seed."""
    made, chained = b"", seed
    while len(made) < size:
        chained = hmac.digest(secret, chained, "sha256")
        made += hmac.digest(secret, chained + seed, "sha256")
    return made[:size]
