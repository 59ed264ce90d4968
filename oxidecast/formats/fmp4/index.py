"""The segment index: where the fragments of a finished file lie (`sidx`, ISO/IEC 14496-12, 8.16.3).

A player that seeks reads it at the start of the file and asks for the right bytes at once; without it, it has to look
at every fragment. The index is known only at the end, so a file is begun with `free` room for it, of a fixed size:
where there are more fragments than fit, one reference stands for several in a row.
"""

import struct
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from oxidecast.formats.fmp4.boxes import box, full_box
from oxidecast.formats.fmp4.timescale import to_units

_HEADER, _REFERENCE, _FREE = 40, 12, 8
_LARGEST_SIZE, _LONGEST = 0x7FFFFFFF, 0xFFFFFFFF
_STARTS_WITH_SAP = 0x80000000
"""Of the type 0, unknown: whether leading pictures follow the keyframe differs from encoder to encoder."""


class Reference(NamedTuple):
    """One fragment: its `moof` and `mdat` in bytes, its length in ticks, and whether it begins with a keyframe."""

    size: int
    duration: int
    keyframe: bool


def segment_index(track_id: int, scale: int, references: Sequence[Reference], room: int) -> bytes:
    """Exactly `room` bytes to stand right before the first fragment: the index and filling, or only filling where
    nothing can be said (no fragment, or one beyond the fields' 2 GiB and 13 hours).

    Times are those of the track `track_id`, in its own units of 1/`scale` second (FFmpeg takes them for nothing else),
    and begin at 0. Raises ValueError for room below 60 bytes.
    """
    most = (room - _HEADER - _FREE) // _REFERENCE
    if most < 1:
        raise ValueError(f"an index needs more room than {room} bytes")
    several = -(-len(references) // most) or 1
    merged = [_merged(references[index : index + several]) for index in range(0, len(references), several)]
    if not merged or any(one.size > _LARGEST_SIZE or one.duration > _LONGEST for one in merged):
        return _filling(room)
    rest = room - _HEADER - _REFERENCE * len(merged)
    ends = [to_units(ticks, scale) for ticks in accumulate(one.duration for one in merged)]
    table = b"".join(
        struct.pack(">III", one.size, end - start, _STARTS_WITH_SAP if one.keyframe else 0)
        for one, start, end in zip(merged, [0, *ends], ends, strict=False)
    )
    # Version 1: 64-bit times; the offset counts from the end of this box.
    fields = struct.pack(">IIQQHH", track_id, scale, 0, rest, 0, len(merged))
    return full_box(b"sidx", 1, 0, fields, table) + _filling(rest)


def _merged(references: Sequence[Reference]) -> Reference:
    return Reference(
        sum(one.size for one in references),
        sum(one.duration for one in references),
        references[0].keyframe,
    )


def _filling(room: int) -> bytes:
    return box(b"free", bytes(room - _FREE))
