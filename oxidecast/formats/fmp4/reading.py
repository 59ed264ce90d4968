"""Reading back what `init_segment` and `fragment` wrote: times and keyframes, for a file that was never finished.

Only what a repair needs is understood; every length is checked before it is used. Whatever the bytes are, nothing but
RemoteProtocolError is raised.
"""

import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from oxidecast.media import TICKS, RemoteProtocolError

_DURATION, _FLAGS = 0x08, 0x20
"""Fields of a tfhd, of those that we write."""
_TRUN_DURATIONS, _TRUN_SIZES, _TRUN_FLAGS, _TRUN_OFFSETS = 0x100, 0x200, 0x400, 0x800
_NON_SYNC = 0x00010000


class Movie(NamedTuple):
    """What a `moov` says."""

    scales: Mapping[int, int]
    """Units a second, by track ID."""
    lead: int
    """The track by which the file is cut: the video, or the first where there is none."""
    duration_at: int | None
    """Where in the `moov`'s body the 64 bits of its `mehd`'s duration lie."""


class Run(NamedTuple):
    """A track's samples in one fragment, in ticks."""

    start: int
    end: int
    keyframe: bool


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """The boxes between `start` and `end`: (type, where the body begins, where it ends)."""
    end = len(data) if end is None else end
    while start < end:
        if end - start < 8:
            raise RemoteProtocolError("box header is cut off")
        size, kind = struct.unpack_from(">I4s", data, start)
        if size < 8 or size > end - start:
            raise RemoteProtocolError(f"box {kind!r} has a size of {size} in {end - start} bytes")
        yield kind, start + 8, start + size
        start += size


def read_movie(moov: bytes) -> Movie:
    """The body of a `moov`."""
    scales: dict[int, int] = {}
    lead = duration_at = None
    for kind, start, end in boxes(moov):
        if kind == b"trak":
            track, scale, is_video = _track(moov, start, end)
            scales[track] = scale
            if lead is None or is_video:
                lead = track
        elif kind == b"mvex":
            for inner, first, last in boxes(moov, start, end):
                if inner == b"mehd" and last - first == 12 and moov[first] == 1:
                    duration_at = first + 4
    if lead is None:
        raise RemoteProtocolError("moov has no track")
    return Movie(scales, lead, duration_at)


def read_fragment(moof: bytes, scales: Mapping[int, int]) -> dict[int, Run]:
    """The body of a `moof`, by track ID."""
    runs: dict[int, Run] = {}
    for kind, start, end in boxes(moof):
        if kind == b"traf":
            track, run = _traf(moof, start, end, scales)
            runs[track] = run
    if not runs:
        raise RemoteProtocolError("moof has no track fragment")
    return runs


def _track(data: bytes, start: int, end: int) -> tuple[int, int, bool]:
    """Track ID, units a second, whether it is video."""
    track = _field(data, *_find(data, start, end, b"tkhd"), 12)
    media = _find(data, start, end, b"mdia")
    scale = _field(data, *_find(data, *media, b"mdhd"), 12)
    handler = _field(data, *_find(data, *media, b"hdlr"), 8)
    if not scale:
        raise RemoteProtocolError("mdhd has a timescale of 0")
    return track, scale, handler == int.from_bytes(b"vide", "big")


def _traf(data: bytes, start: int, end: int, scales: Mapping[int, int]) -> tuple[int, Run]:
    first, last = _find(data, start, end, b"tfhd")
    flags, track = _field(data, first, last, 0), _field(data, first, last, 4)
    if flags & 0xFFFFFF & ~0x020000 != _DURATION | _FLAGS or track not in scales:
        raise RemoteProtocolError("tfhd is of a kind that is not written here")
    duration, sample_flags = _field(data, first, last, 8), _field(data, first, last, 12)
    first, last = _find(data, start, end, b"tfdt")
    if last - first != 12:
        raise RemoteProtocolError("tfdt is of a kind that is not written here")
    begin = int.from_bytes(data[first + 4 : last], "big")
    length, keyframe = _trun(data, *_find(data, start, end, b"trun"), duration, sample_flags)
    scale = scales[track]
    return track, Run(begin * TICKS // scale, (begin + length) * TICKS // scale, keyframe)


def _trun(data: bytes, start: int, end: int, duration: int, sample_flags: int) -> tuple[int, bool]:
    """How long the samples last, in the track's units, and whether the first is a keyframe."""
    flags, count = _field(data, start, end, 0) & 0xFFFFFF, _field(data, start, end, 4)
    at = start + 12
    if flags & 0x4:
        sample_flags = _field(data, start, end, 12)
        at += 4
    columns = [bit for bit in (_TRUN_DURATIONS, _TRUN_SIZES, _TRUN_FLAGS, _TRUN_OFFSETS) if flags & bit]
    width = 4 * len(columns)
    if not count or not width or end - at != width * count:
        raise RemoteProtocolError(f"trun of {count} samples has {end - at} bytes")
    if flags & _TRUN_FLAGS:
        sample_flags = _field(data, at, end, 4 * columns.index(_TRUN_FLAGS))
    if flags & _TRUN_DURATIONS:
        length = sum(int.from_bytes(data[row : row + 4], "big") for row in range(at, end, width))
    else:
        length = duration * count
    return length, not sample_flags & _NON_SYNC


def _find(data: bytes, start: int, end: int, wanted: bytes) -> tuple[int, int]:
    for kind, first, last in boxes(data, start, end):
        if kind == wanted:
            return first, last
    raise RemoteProtocolError(f"there is no {wanted.decode()}")


def _field(data: bytes, start: int, end: int, offset: int) -> int:
    """A 32-bit field of a box's body."""
    if end - start < offset + 4:
        raise RemoteProtocolError("a box is cut off")
    return int.from_bytes(data[start + offset : start + offset + 4], "big")
