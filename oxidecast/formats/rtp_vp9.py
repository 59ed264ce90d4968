"""VP9 in RTP (RFC 9628): pictures to payloads of equal size, and back.

We send one layer, and no picture ids, for the reason that VP8 has. A picture of several spatial layers that comes
becomes a superframe (VP9 specification, annex B), which decoders take as one.
"""

from oxidecast.formats.rtp_frames import Depacketizer
from oxidecast.formats.rtp_runs import Run, runs
from oxidecast.media import vp9
from oxidecast.media.errors import LocalProtocolError, RemoteProtocolError

_PICTURE, _PREDICTED, _LAYERS, _FLEXIBLE, _BEGIN, _END, _STRUCTURE = 0x80, 0x40, 0x20, 0x10, 8, 4, 2
"""I, P, L, F, B, E and V of 4.2."""
_LONG = 0x80
"""M: a picture id of 15 bits."""
_DESCRIPTOR = 1
"""Bytes of ours."""
_MOST_REFERENCES = 3
MOST_LAYERS = 8
"""Frames that a superframe can have."""

SMALLEST_LIMIT = 64
"""Bytes of payload: below it payloads are mostly headers."""


def packetize(payload: bytes, limit: int) -> list[Run]:
    """A picture as runs of payloads of at most `limit` bytes."""
    if limit < SMALLEST_LIMIT:
        raise LocalProtocolError(f"RTP payloads of {limit} bytes are too small for VP9")
    if not payload:
        return []
    flags = 0 if vp9.is_keyframe(payload) else _PREDICTED
    count = -(-len(payload) // (limit - _DESCRIPTOR))
    size = -(-len(payload) // count)
    made = []
    for at in range(0, len(payload), size):
        ends = _END if at + size >= len(payload) else 0
        made.append(bytes((flags | (0 if at else _BEGIN) | ends,)) + payload[at : at + size])
    return runs(made)


def _descriptor(payload: bytes) -> tuple[int, int]:
    """Where the frame's bytes begin, and the spatial layer."""
    at, layer = 1, 0
    try:
        flags = payload[0]
        if flags & _PICTURE:
            at += 2 if payload[at] & _LONG else 1
        if flags & _LAYERS:
            layer = payload[at] >> 1 & 7
            at += 1 if flags & _FLEXIBLE else 2
        if flags & _FLEXIBLE and flags & _PREDICTED:
            for reference in range(_MOST_REFERENCES):
                more, at = payload[at] & 1, at + 1
                if not more:
                    break
                if reference == _MOST_REFERENCES - 1:
                    raise RemoteProtocolError("VP9 RTP payload has more than 3 reference indices")
        if flags & _STRUCTURE:
            at = _after_structure(payload, at)
    except IndexError:
        at = len(payload)
    if at >= len(payload):
        raise RemoteProtocolError("VP9 RTP payload ends in its descriptor")
    return at, layer


def _after_structure(payload: bytes, at: int) -> int:
    """Where the scalability structure at `at` ends (4.2.1); raises IndexError where it leads out."""
    head, at = payload[at], at + 1
    if head & 0x10:  # Y: a size for each layer
        at += 4 * ((head >> 5) + 1)
    if head & 0x08:  # G: a description of the group of pictures
        pictures, at = payload[at], at + 1
        for _ in range(pictures):
            at += 1 + (payload[at] >> 2 & 3)
    return at


class VP9Depacketizer(Depacketizer):
    """Packets to pictures."""

    __slots__ = ("_frames", "_pieces")

    def __init__(self) -> None:
        super().__init__()
        self._frames: list[bytes] = []
        """Layers of the open picture that are whole."""
        self._pieces: list[bytes] = []

    def _begins_frame(self, payload: bytes) -> bool:
        if not payload[0] & _BEGIN:
            return False
        return not payload[0] & _LAYERS or _descriptor(payload)[1] == 0

    def _take(self, payload: bytes) -> None:
        at, _ = _descriptor(payload)
        if bool(payload[0] & _BEGIN) == bool(self._pieces):
            self._broken = True
        self._pieces.append(payload[at:])
        if payload[0] & _END:
            self._frames.append(b"".join(self._pieces))
            self._pieces = []
            if len(self._frames) > MOST_LAYERS:
                raise RemoteProtocolError(f"VP9 picture in RTP has more than {MOST_LAYERS} layers")

    def _taken(self) -> tuple[bytes, bool] | None:
        frames, unfinished = self._frames, bool(self._pieces)
        self._frames, self._pieces = [], []
        self._broken = self._broken or unfinished
        if self._broken or not frames:
            return None
        keyframe = vp9.is_keyframe(frames[0])
        return (frames[0] if len(frames) == 1 else _superframe(frames)), keyframe


def _superframe(frames: list[bytes]) -> bytes:
    width = max((len(frame).bit_length() + 7) // 8 for frame in frames)
    mark = bytes((0xC0 | width - 1 << 3 | len(frames) - 1,))
    sizes = b"".join(len(frame).to_bytes(width, "little") for frame in frames)
    return b"".join((*frames, mark, sizes, mark))
