"""VP8: the frame tag, and the header of a keyframe, which alone tells the picture's size (RFC 6386 9.1)."""

import msgspec

from oxidecast.media.errors import RemoteProtocolError
from oxidecast.media.picture import check_size
from oxidecast.media.track import Codec, Track

_START_CODE = b"\x9d\x01\x2a"
_TAG, _HEADER = 3, 10
"""Bytes of the frame tag, and of all that stands before the compressed data of a keyframe."""


def is_keyframe(payload: bytes) -> bool:
    """Whether the frame is a keyframe: the first bit is 0."""
    if len(payload) < _TAG:
        raise RemoteProtocolError(f"VP8 frame has {len(payload)} bytes, fewer than its tag")
    return payload[0] & 1 == 0


def size(payload: bytes) -> tuple[int, int]:
    """Width and height that a keyframe says, in pixels, without its hints for scaling."""
    if not is_keyframe(payload):
        raise RemoteProtocolError("VP8 frame is no keyframe")
    if len(payload) < _HEADER or payload[_TAG:6] != _START_CODE:
        raise RemoteProtocolError("VP8 keyframe is without its start code 9d012a")
    width = int.from_bytes(payload[6:8], "little") & 0x3FFF
    height = int.from_bytes(payload[8:10], "little") & 0x3FFF
    check_size(width, height, "VP8 frame")
    return width, height


def track(payload: bytes, id: int = 1) -> Track:
    """The track that begins with this keyframe."""
    width, height = size(payload)
    return Track(id=id, codec=Codec.VP8, extradata=b"", codec_string="vp8", width=width, height=height)


def in_band(payload: bytes, track: Track) -> Track | None:
    """The track that goes on from this frame where a keyframe changes the size, else None."""
    if not is_keyframe(payload):
        return None
    width, height = size(payload)
    if (width, height) == (track.width, track.height):
        return None
    return msgspec.structs.replace(track, width=width, height=height)
