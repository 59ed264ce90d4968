"""Master keys, and the session keys that they give (RFC 3711 4.3, with a key derivation rate of zero)."""

from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

RTP_ENCRYPTION: Final = 0
RTP_AUTHENTICATION: Final = 1
RTP_SALT: Final = 2
RTCP_ENCRYPTION: Final = 3
RTCP_AUTHENTICATION: Final = 4
RTCP_SALT: Final = 5

_SALT_SIZE = 14


class MasterKey:
    """A master key and its salt. It has no repr: what logs it, logs nothing."""

    __slots__ = ("key", "salt")

    def __init__(self, key: bytes, salt: bytes) -> None:
        self.key = key
        self.salt = salt

    def derive(self, label: int, size: int) -> bytes:
        """`size` bytes of session key or salt. A salt of 12 bytes stands for one with two zeros behind it
        (RFC 7714 11)."""
        salt = bytearray(self.salt.ljust(_SALT_SIZE, b"\x00"))
        salt[7] ^= label
        counter = bytes(salt) + b"\x00\x00"
        return Cipher(algorithms.AES(self.key), modes.CTR(counter)).encryptor().update(bytes(size))
