"""Tracks, packets and messages over a pipe, between a child process and the server.

The house's own format, for one machine and one version: a frame is a kind (1 byte), a body length (4) and a body; a
packet's body is a fixed head and its payload. Sans-IO: bytes in, tracks, packets and messages out.
"""

import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import msgspec

from oxidecast.formats.framed_messages import Message
from oxidecast.media import RemoteProtocolError, Track

_FRAME = struct.Struct(">cI")
_PACKET = struct.Struct(">B?qqI")

LONGEST_FRAME = 16 * 1024 * 1024
"""Bytes: above the largest picture that any profile makes."""


class FramedPacket(msgspec.Struct, frozen=True, gc=False):
    """A packet as it travels: its track by number, its times in ticks."""

    track_id: int
    dts: int
    pts: int
    keyframe: bool
    payload: bytes
    samples: int
    """Samples per channel, for audio."""


def _encode_other(value: Any) -> Any:
    if isinstance(value, Fraction):
        return [value.numerator, value.denominator]
    raise TypeError(f"{type(value).__name__} does not travel")


def _decode_other(type: type, value: Any) -> Any:
    if type is Fraction:
        numerator, denominator = value
        return Fraction(numerator, denominator)
    raise TypeError(f"{type.__name__} does not travel")


_encoder = msgspec.msgpack.Encoder(enc_hook=_encode_other)
_decoder = msgspec.msgpack.Decoder(Track, dec_hook=_decode_other)
_messages: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def track(value: Track) -> bytes:
    """A frame that announces a track."""
    body = _encoder.encode(value)
    return _FRAME.pack(b"T", len(body)) + body


def packet(track_id: int, dts: int, pts: int, keyframe: bool, payload: bytes, samples: int = 0) -> bytes:
    """A frame with one access unit."""
    head = _PACKET.pack(track_id, keyframe, dts, pts, samples)
    return b"".join((_FRAME.pack(b"P", len(head) + len(payload)), head, payload))


def message(value: Message) -> bytes:
    """A frame with a message."""
    body = _encoder.encode(value)
    return _FRAME.pack(b"M", len(body)) + body


class FrameReader:
    """Puts frames together again."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def receive(self, data: bytes) -> Iterator[Track | FramedPacket | Message]:
        """Take bytes as they come; raises RemoteProtocolError for what the functions above never make."""
        buffer = self._buffer
        buffer += data
        offset = 0
        try:
            while len(buffer) - offset >= _FRAME.size:
                kind, length = _FRAME.unpack_from(buffer, offset)
                if length > LONGEST_FRAME:
                    raise RemoteProtocolError("a frame is longer than any packet can be")
                end = offset + _FRAME.size + length
                if len(buffer) < end:
                    break
                body = bytes(memoryview(buffer)[offset + _FRAME.size : end])
                offset = end
                yield self._parse(kind, body)
        finally:
            del buffer[:offset]

    @staticmethod
    def _parse(kind: bytes, body: bytes) -> Track | FramedPacket | Message:
        if kind == b"T":
            try:
                return _decoder.decode(body)
            except (msgspec.MsgspecError, ValueError, TypeError, ArithmeticError, RecursionError):
                raise RemoteProtocolError("a track frame does not hold a track")
        if kind == b"P" and len(body) >= _PACKET.size:
            track_id, keyframe, dts, pts, samples = _PACKET.unpack_from(body)
            return FramedPacket(track_id, dts, pts, keyframe, body[_PACKET.size :], samples)
        if kind == b"M":
            try:
                return _messages.decode(body)
            except (msgspec.MsgspecError, ValueError, RecursionError):
                raise RemoteProtocolError("a message frame does not hold a message")
        raise RemoteProtocolError("a frame is of an unknown kind")
