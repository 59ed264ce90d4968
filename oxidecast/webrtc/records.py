"""DTLS records and the handshake messages in them, as far as they are readable (RFC 6347 4.1, 4.2.2).

What reaches OpenSSL is chosen here. A memory BIO has no datagrams, so what comes out of it is cut again at
records; and until a handshake is done its records are not protected, so whatever could only be a forgery, or
could end a session without proof, stays outside.
"""

from collections.abc import Iterable, Iterator
from enum import IntEnum
from struct import Struct

import msgspec

MTU = 1_200
"""Bytes of a datagram: what passes through every tunnel, and what browsers use."""

MAX_DATAGRAM = 2_048
"""Bytes of a datagram that is looked at: the record behind the longest path MTU that networks have."""

MAX_MESSAGE = 16_384
"""Bytes of one handshake message. A chain of RSA certificates has 6,000; a peer here sends one certificate."""


class Content(IntEnum):
    """A record's content type."""

    CHANGE_CIPHER_SPEC = 20
    ALERT = 21
    HANDSHAKE = 22
    APPLICATION_DATA = 23


class Message(IntEnum):
    """A handshake message's type."""

    CLIENT_HELLO = 1
    SERVER_HELLO = 2
    HELLO_VERIFY_REQUEST = 3
    CERTIFICATE = 11
    SERVER_KEY_EXCHANGE = 12
    CERTIFICATE_REQUEST = 13
    SERVER_HELLO_DONE = 14
    CERTIFICATE_VERIFY = 15
    CLIENT_KEY_EXCHANGE = 16


OF_CLIENT = frozenset(
    (Message.CLIENT_HELLO, Message.CERTIFICATE, Message.CLIENT_KEY_EXCHANGE, Message.CERTIFICATE_VERIFY)
)
"""What a server is sent in the clear."""

OF_SERVER = frozenset(
    (
        Message.SERVER_HELLO,
        Message.HELLO_VERIFY_REQUEST,
        Message.CERTIFICATE,
        Message.SERVER_KEY_EXCHANGE,
        Message.CERTIFICATE_REQUEST,
        Message.SERVER_HELLO_DONE,
    )
)
"""What a client is sent in the clear."""

_HEADER = 13
_MESSAGE_HEADER = 12
_unpack = Struct(">BHHHIH").unpack_from


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record, whole."""

    content: int
    epoch: int
    data: bytes

    @property
    def body(self) -> bytes:
        """What is behind the header."""
        return self.data[_HEADER:]

    def numbered(self, sequence: int) -> "Record":
        """The same with another sequence number, which in epoch 0 nothing protects."""
        data = self.data[:5] + sequence.to_bytes(6, "big") + self.data[11:]
        return Record(self.content, self.epoch, data)

    def begins(self, message: Message) -> bool:
        """Whether an unprotected record starts with the first fragment of a message of this type."""
        return self.data[_HEADER] == message and self.data[_HEADER + 6 : _HEADER + 9] == b"\x00\x00\x00"

    def messages(self) -> list[int] | None:
        """The types of the handshake messages in an unprotected record; None when their headers lie."""
        body = self.body
        types: list[int] = []
        at, size = 0, len(body)
        while at < size:
            if at + _MESSAGE_HEADER > size:
                return None
            length = int.from_bytes(body[at + 1 : at + 4], "big")
            offset = int.from_bytes(body[at + 6 : at + 9], "big")
            fragment = int.from_bytes(body[at + 9 : at + 12], "big")
            if length > MAX_MESSAGE or offset + fragment > length or (fragment == 0 and length > 0):
                return None
            types.append(body[at])
            at += _MESSAGE_HEADER + fragment
        return types if at == size else None


def split(datagram: bytes) -> Iterator[Record]:
    """The records of a datagram, up to the first that is none (RFC 6347 4.1.2.7: silently discarded)."""
    at, size = 0, len(datagram)
    if size > MAX_DATAGRAM:
        return
    while at + _HEADER <= size:
        content, version, epoch, _, _, length = _unpack(datagram, at)
        end = at + _HEADER + length
        # A first ClientHello may say DTLS 1.0 in its record.
        if not 20 <= content <= 23 or version not in (0xFEFD, 0xFEFF) or not length or end > size:
            return
        yield Record(content, epoch, datagram[at:end])
        at = end


def datagrams(written: bytes) -> list[bytes]:
    """What OpenSSL wrote, cut into datagrams of whole records, each as full as the MTU lets it be."""
    return list(_filled(record.data for record in _all(written)))


def _all(written: bytes) -> Iterator[Record]:
    at = 0
    while at < len(written):
        content, _, epoch, _, _, length = _unpack(written, at)
        yield Record(content, epoch, written[at : at + _HEADER + length])
        at += _HEADER + length


def _filled(records: Iterable[bytes]) -> Iterator[bytes]:
    datagram = b""
    for record in records:
        if datagram and len(datagram) + len(record) > MTU:
            yield datagram
            datagram = b""
        datagram += record
    if datagram:
        yield datagram
