"""STUN messages (RFC 5389, with the attributes of ICE, RFC 8445 16.1): bytes to `Message` and back.

Only what ICE needs: Binding, short-term credentials, FINGERPRINT. A message is checked whole before anything
in it is believed, and its integrity is checked apart, because the key depends on its USERNAME.
"""

import hashlib
import hmac
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from struct import Struct
from typing import Final
from zlib import crc32

import msgspec

from oxidecast.media.errors import LocalProtocolError, RemoteProtocolError

BINDING_REQUEST: Final = 0x0001
BINDING_INDICATION: Final = 0x0011
BINDING_RESPONSE: Final = 0x0101
BINDING_ERROR: Final = 0x0111

USERNAME: Final = 0x0006
MESSAGE_INTEGRITY: Final = 0x0008
ERROR_CODE: Final = 0x0009
UNKNOWN_ATTRIBUTES: Final = 0x000A
XOR_MAPPED_ADDRESS: Final = 0x0020
PRIORITY: Final = 0x0024
USE_CANDIDATE: Final = 0x0025
FINGERPRINT: Final = 0x8028
ICE_CONTROLLED: Final = 0x8029
ICE_CONTROLLING: Final = 0x802A

MAX_MESSAGE = 1_280
"""Bytes. A message without path MTU discovery stays below 576 (IPv4) or 1280 (IPv6) (RFC 5389 7.1)."""

MAX_ATTRIBUTES = 32
"""In one message. Browsers send eight; FINGERPRINT and MESSAGE-INTEGRITY are among them."""

MAGIC_COOKIE: Final = 0x2112A442

_HEADER = Struct(">HHI12s")
_ATTRIBUTE = Struct(">HH")
_INTEGRITY_SIZE = 4 + 20
_FINGERPRINT_SIZE = 4 + 4
_FINGERPRINT_XOR = 0x5354554E


class Message(msgspec.Struct, frozen=True, gc=False):
    """A STUN message whose form is right. Its integrity is yet to be verified."""

    kind: int
    transaction: bytes
    attributes: dict[int, bytes]
    """By type, the first of each (RFC 5389 15), up to and without MESSAGE-INTEGRITY and FINGERPRINT."""
    integrity: bytes | None
    """The HMAC, as sent."""
    covered: bytes
    """What the HMAC is over: all before it, with the length in the header as if it were the last."""


class IntegrityKey:
    """A short-term password, ready to sign and verify (RFC 5389 15.4)."""

    __slots__ = ("_keyed",)

    def __init__(self, password: str) -> None:
        self._keyed = hmac.new(password.encode(), digestmod=hashlib.sha1)

    def digest(self, covered: bytes | bytearray) -> bytes:
        """The MESSAGE-INTEGRITY of what it covers."""
        keyed = self._keyed.copy()
        keyed.update(covered)
        return keyed.digest()

    def verifies(self, message: Message) -> bool:
        """Whether the message was made by one who has the password; in constant time."""
        return message.integrity is not None and hmac.compare_digest(
            self.digest(message.covered), message.integrity
        )


def parse(datagram: bytes) -> Message:
    """The one message in a datagram. Raises RemoteProtocolError on whatever is not wholly STUN."""
    size = len(datagram)
    if not 20 <= size <= MAX_MESSAGE:
        raise RemoteProtocolError(f"STUN message has {size} bytes, not 20 to {MAX_MESSAGE}")
    kind, length, cookie, transaction = _HEADER.unpack_from(datagram)
    if kind & 0xC000:
        raise RemoteProtocolError("STUN message type does not begin with two zero bits")
    if cookie != MAGIC_COOKIE:
        raise RemoteProtocolError(f"STUN magic cookie is {cookie:#010x}")
    if length != size - 20 or length & 3:
        raise RemoteProtocolError(f"STUN message length is {length} in a datagram with {size - 20} behind it")

    attributes: dict[int, bytes] = {}
    integrity: bytes | None = None
    covered = b""
    at = 20
    for _ in range(MAX_ATTRIBUTES):
        if at == size:
            break
        # The length is a multiple of four and so is `at`: four bytes are there.
        name, length = _ATTRIBUTE.unpack_from(datagram, at)
        start = at + 4
        end = start + length
        if end > size:
            raise RemoteProtocolError(
                f"STUN attribute {name:#06x} leads {end - size} bytes out of the message"
            )
        following = end + (-length & 3)
        if name == FINGERPRINT:
            _check_fingerprint(datagram, at, length)
            at = following
            break
        if integrity is None:
            if name == MESSAGE_INTEGRITY:
                if length != 20:
                    raise RemoteProtocolError(f"STUN MESSAGE-INTEGRITY has {length} bytes, not 20")
                integrity = datagram[start:end]
                covered = datagram[:2] + (following - 20).to_bytes(2, "big") + datagram[4:at]
            elif name not in attributes:
                attributes[name] = datagram[start:end]
        # Behind MESSAGE-INTEGRITY only FINGERPRINT counts: the rest is not protected by it.
        at = following
    else:
        if at != size:
            raise RemoteProtocolError(f"STUN message has more than {MAX_ATTRIBUTES} attributes")
    if at != size:
        raise RemoteProtocolError("STUN FINGERPRINT is not the last attribute")
    return Message(kind, transaction, attributes, integrity, covered)


def _check_fingerprint(datagram: bytes, at: int, length: int) -> None:
    if length != 4:
        raise RemoteProtocolError(f"STUN FINGERPRINT has {length} bytes, not 4")
    if int.from_bytes(datagram[at + 4 : at + 8], "big") != crc32(datagram[:at]) ^ _FINGERPRINT_XOR:
        raise RemoteProtocolError("STUN FINGERPRINT is not that of the message")


def build(
    kind: int, transaction: bytes, attributes: list[tuple[int, bytes]], key: IntegrityKey | None = None
) -> bytes:
    """A message with its FINGERPRINT, and with MESSAGE-INTEGRITY when there is a key."""
    body = bytearray(20)
    for name, value in attributes:
        body += _ATTRIBUTE.pack(name, len(value))
        body += value
        body += bytes(-len(value) & 3)
    if key is not None:
        _HEADER.pack_into(body, 0, kind, len(body) - 20 + _INTEGRITY_SIZE, MAGIC_COOKIE, transaction)
        body += _ATTRIBUTE.pack(MESSAGE_INTEGRITY, 20) + key.digest(body)
    _HEADER.pack_into(body, 0, kind, len(body) - 20 + _FINGERPRINT_SIZE, MAGIC_COOKIE, transaction)
    body += _ATTRIBUTE.pack(FINGERPRINT, 4) + (crc32(body) ^ _FINGERPRINT_XOR).to_bytes(4, "big")
    return bytes(body)


def error_code(code: int, reason: str = "") -> tuple[int, bytes]:
    """An ERROR-CODE attribute (RFC 5389 15.6)."""
    return ERROR_CODE, bytes((0, 0, code // 100, code % 100)) + reason.encode()


def xor_mapped_address(host: str, port: int, transaction: bytes) -> tuple[int, bytes]:
    """An XOR-MAPPED-ADDRESS attribute (RFC 5389 15.2)."""
    packed = _packed(host)
    mask = MAGIC_COOKIE.to_bytes(4, "big") + transaction
    xored = int.from_bytes(packed, "big") ^ int.from_bytes(mask[: len(packed)], "big")
    head = (1 if len(packed) == 4 else 2) << 16 | (port ^ MAGIC_COOKIE >> 16)
    return XOR_MAPPED_ADDRESS, head.to_bytes(4, "big") + xored.to_bytes(len(packed), "big")


@lru_cache(maxsize=1024)
def _packed(host: str) -> bytes:
    """An address in its own family: a dual-stack socket writes IPv4 ones as ::ffff:192.0.2.1."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError as error:
        raise LocalProtocolError(f"{host!r} is no IP address") from error
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.packed
