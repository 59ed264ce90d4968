"""VP8 in RTP (RFC 7741): frames to payloads of equal size, and back.

A payload is a descriptor and a piece of a frame. Where the pieces are cut does not matter to a receiver, so
the partitions of a frame are not looked at. The descriptor has no picture id: pictures are sent again to who has lost
some, behind newer ones, and a receiver that saw an old id there would drop them.
"""

from oxidecast.formats.rtp_frames import Depacketizer
from oxidecast.formats.rtp_runs import Run, runs
from oxidecast.media import vp8
from oxidecast.media.errors import LocalProtocolError, RemoteProtocolError

_EXTENDED, _START, _PARTITION = 0x80, 0x10, 0x07  # X, S and PID of 4.2
_HAS_PICTURE, _HAS_TL0, _HAS_TID, _HAS_KEY = 0x80, 0x40, 0x20, 0x10  # I, L, T and K
_LONG = 0x80
"""M: a picture id of 15 bits."""
_DESCRIPTOR = 1
"""Bytes of ours."""

SMALLEST_LIMIT = 64
"""Bytes of payload: below it payloads are mostly headers."""


def packetize(payload: bytes, limit: int) -> list[Run]:
    """A frame as runs of payloads of at most `limit` bytes."""
    if limit < SMALLEST_LIMIT:
        raise LocalProtocolError(f"RTP payloads of {limit} bytes are too small for VP8")
    if not payload:
        return []
    count = -(-len(payload) // (limit - _DESCRIPTOR))
    size = -(-len(payload) // count)
    return runs(
        [bytes((0 if at else _START,)) + payload[at : at + size] for at in range(0, len(payload), size)]
    )


def _descriptor(payload: bytes) -> int:
    """Where the frame's bytes begin."""
    at = 1
    try:
        if payload[0] & _EXTENDED:
            flags, at = payload[1], 2
            if flags & _HAS_PICTURE:
                at += 2 if payload[at] & _LONG else 1
            at += (flags & _HAS_TL0 > 0) + (flags & (_HAS_TID | _HAS_KEY) > 0)
    except IndexError:
        at = len(payload)
    if at >= len(payload):
        raise RemoteProtocolError("VP8 RTP payload ends in its descriptor")
    return at


class VP8Depacketizer(Depacketizer):
    """Packets to frames."""

    __slots__ = ("_pieces",)

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []

    def _begins_frame(self, payload: bytes) -> bool:
        return bool(payload[0] & _START) and not payload[0] & _PARTITION

    def _take(self, payload: bytes) -> None:
        at = _descriptor(payload)
        # Only the first piece may be a beginning, and it must be.
        if self._begins_frame(payload) == bool(self._pieces):
            self._broken = True
        self._pieces.append(payload[at:])

    def _taken(self) -> tuple[bytes, bool] | None:
        frame, self._pieces = b"".join(self._pieces), []
        if self._broken or not frame:
            return None
        return frame, vp8.is_keyframe(frame)
