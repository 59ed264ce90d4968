"""RTMP messages: their types, and what the small ones say (RTMP 1.0, 5.4, 6.2 and 7.1).

A message is a type, a message stream, a time in milliseconds and bytes. Chunks carry it (`chunks.py`); what
audio and video bytes mean is FLV's business (`formats/flv.py`).
"""

from typing import Final

import msgspec

from oxidecast.formats import amf
from oxidecast.media.errors import RemoteProtocolError

SET_CHUNK_SIZE: Final = 1
ABORT: Final = 2
ACKNOWLEDGEMENT: Final = 3
USER_CONTROL: Final = 4
WINDOW_ACK_SIZE: Final = 5
SET_PEER_BANDWIDTH: Final = 6
AUDIO: Final = 8
VIDEO: Final = 9
DATA_AMF3: Final = 15
COMMAND_AMF3: Final = 17
DATA_AMF0: Final = 18
COMMAND_AMF0: Final = 20
AGGREGATE: Final = 22

STREAM_BEGIN: Final = 0
STREAM_EOF: Final = 1
PING_REQUEST: Final = 6
PING_RESPONSE: Final = 7

MAX_AMF_MESSAGE = 256 * 1024
"""Bytes of one command or metadata message. The largest real ones, metadata with a keyframe index, are tens
of kilobytes."""
MAX_AGGREGATED = 1024
"""Messages inside one aggregate: senders gather a few seconds of audio at most."""

_TAG_HEADER = 11
_BACK_POINTER = 4


class Message(msgspec.Struct, frozen=True, gc=False):
    """One whole message. Its repr leaves the payload out, as that may hold a stream key."""

    type_id: int
    stream_id: int
    timestamp: int
    """Milliseconds, 32 bits, absolute: wraps after 49.7 days."""
    payload: bytes
    csid: int = 0
    """The chunk stream it came by."""

    def __repr__(self) -> str:
        return (
            f"Message(type_id={self.type_id}, stream_id={self.stream_id}, timestamp={self.timestamp}, "
            f"{len(self.payload)} bytes)"
        )


def values(message: Message) -> list[amf.Value]:
    """What a command or data message holds. An AMF3 one is an AMF0 body behind a zero byte (7.1.1), which
    some senders forget. Raises RemoteProtocolError."""
    payload = message.payload
    if len(payload) > MAX_AMF_MESSAGE:
        raise RemoteProtocolError(f"command or metadata message is longer than {MAX_AMF_MESSAGE} bytes")
    if message.type_id in (COMMAND_AMF3, DATA_AMF3) and payload[:1] == b"\0":
        payload = payload[1:]
    return amf.decode_all(payload)


def split_aggregate(message: Message) -> list[Message]:
    """The messages inside an aggregate (7.1.6): FLV tags with back pointers. Their message stream is the
    aggregate's; their times are moved so that the first has the aggregate's. Raises RemoteProtocolError."""
    payload = message.payload
    parts: list[Message] = []
    offset, shift = 0, 0
    while offset < len(payload):
        start = offset + _TAG_HEADER
        if start > len(payload):
            raise RemoteProtocolError("aggregate message ends inside a tag header")
        size = int.from_bytes(payload[offset + 1 : offset + 4], "big")
        time = int.from_bytes(payload[offset + 4 : offset + 7], "big") | payload[offset + 7] << 24
        if start + size > len(payload):
            raise RemoteProtocolError("aggregate message announces a tag longer than itself")
        if len(parts) == MAX_AGGREGATED:
            raise RemoteProtocolError(f"aggregate message holds more than {MAX_AGGREGATED} messages")
        if not parts:
            shift = message.timestamp - time
        type_id = payload[offset] & 0x1F
        if type_id not in (AUDIO, VIDEO, DATA_AMF0):
            raise RemoteProtocolError(f"aggregate message holds a message of type {type_id}")
        parts.append(
            Message(
                type_id=type_id,
                stream_id=message.stream_id,
                timestamp=time + shift & 0xFFFFFFFF,
                payload=payload[start : start + size],
                csid=message.csid,
            )
        )
        offset = start + size + _BACK_POINTER
    return parts


def uint32(message: Message, field: str) -> int:
    """The four bytes that most protocol control messages begin with (5.4). Raises RemoteProtocolError."""
    if len(message.payload) < 4:
        raise RemoteProtocolError(f"{field} message is shorter than 4 bytes")
    return int.from_bytes(message.payload[:4], "big")


def user_control(message: Message) -> tuple[int, int, bytes]:
    """Event type, the four bytes behind it as a number (0 where there are fewer), and all that is behind it
    (7.1.7)."""
    if len(message.payload) < 2:
        raise RemoteProtocolError("user control message is shorter than its event type")
    data = message.payload[2:]
    return int.from_bytes(message.payload[:2], "big"), int.from_bytes(data[:4], "big"), data
