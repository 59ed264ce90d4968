"""A movie fragment: a few packets of one or several tracks, playable behind the initialisation segment.

One `traf` with one `trun` a track, one `mdat` for all (ISO/IEC 14496-12, 8.8). What is the same for all
samples is said once, as a default, and what differs is a column of numbers: sound usually needs sizes alone.
The columns are made by list operations and packed in one call, so that a packet costs well under a
microsecond.
"""

import struct
from collections.abc import Mapping, Sequence
from operator import sub

from oxidecast.formats.fmp4.boxes import box
from oxidecast.formats.fmp4.timescale import timescale, to_units
from oxidecast.media import TICKS, LocalProtocolError, Packet, Track

_STYP = box(b"styp", b"msdh", bytes(4), b"msdh", b"cmfs")

_SYNC = 0x02000000
"""sample_depends_on = 2: needs no other sample (8.8.3.1)."""
_NON_SYNC = 0x01010000
"""sample_depends_on = 1, sample_is_non_sync_sample."""

_DATA_OFFSET, _FIRST_FLAGS, _DURATIONS, _SIZES, _FLAGS, _OFFSETS = 0x1, 0x4, 0x100, 0x200, 0x400, 0x800
"""Which fields a trun holds (8.8.8.1)."""
_BASE_IS_MOOF, _DEFAULT_DURATION, _DEFAULT_FLAGS = 0x020000, 0x08, 0x20
"""Which fields a tfhd holds, and that data offsets count from the moof (8.8.7.1)."""

_MOOF = struct.Struct(">I4s I4sII")  # moof, mfhd
_TRAF = struct.Struct(">I4s I4sIIII I4sIQ")  # traf, tfhd, tfdt version 1
_TRUN = struct.Struct(">I4sIIi")
_PRFT = struct.Struct(">I4sIIQQ")
_MDAT = struct.Struct(">I4s")

_NTP_EPOCH = 2_208_988_800
"""Seconds from 1900, where NTP time starts, to 1970."""
_CONSISTENT_CAPTURE_TIME = 24
"""prft flags: a clock of our own choice, but always the same one (8.16.5.1)."""


def fragment(
    sequence: int,
    samples: Mapping[Track, Sequence[Packet]],
    *,
    following: Mapping[Track, int] | None = None,
    styp: bool = False,
    utc: float | None = None,
    origin: int = 0,
) -> bytes:
    """One `moof` and `mdat` holding `samples`, each track's packets in decoding order.

    A sample lasts until the next one's dts; a track's last until `following[track]`, the dts of the packet
    that will begin the next fragment, and where that is not known as long as its `Packet.duration` says.

    `sequence` rises with each fragment of a rendition. `styp` marks the start of a segment. `utc` (Unix
    seconds) is the moment to which the first track's first dts belongs; it is told in a `prft` box.
    `origin` is the dts at which the file's own time begins: for a file that holds a part of a stream's life.

    Raises LocalProtocolError for an empty fragment or track, a dts below `origin` or not rising, and numbers
    beyond their fields (4 GiB of media, 13 hours in one sample).
    """
    try:
        return _fragment(sequence, samples, following or {}, styp, utc, origin)
    except (struct.error, OverflowError) as error:
        raise LocalProtocolError(f"packets do not fit a fragment (is dts rising and above zero?): {error}")


def _fragment(
    sequence: int,
    samples: Mapping[Track, Sequence[Packet]],
    following: Mapping[Track, int],
    styp: bool,
    utc: float | None,
    origin: int,
) -> bytes:
    if not samples or not all(samples.values()):
        raise LocalProtocolError("a fragment needs at least one packet of each of its tracks")
    runs = [_Run(track, packets, following.get(track), origin) for track, packets in samples.items()]
    offset = _MOOF.size + sum(run.size for run in runs)
    parts = [_STYP] if styp else []
    if utc is not None:
        ntp = round((utc + _NTP_EPOCH) * 2**32)
        flags = 1 << 24 | _CONSISTENT_CAPTURE_TIME
        parts.append(_PRFT.pack(_PRFT.size, b"prft", flags, runs[0].track.id, ntp, runs[0].start))
    parts.append(_MOOF.pack(offset, b"moof", 16, b"mfhd", 0, sequence))
    offset += _MDAT.size
    for run in runs:
        parts += run.boxes(offset)
        offset += run.length
    parts.append(_MDAT.pack(_MDAT.size + sum(run.length for run in runs), b"mdat"))
    for run in runs:
        parts += run.payloads
    return b"".join(parts)


class _Run:
    """One track's samples in a fragment: its defaults, its columns, and its bytes."""

    __slots__ = (
        "columns",
        "duration",
        "first",
        "flags",
        "length",
        "payloads",
        "present",
        "size",
        "start",
        "track",
    )

    def __init__(self, track: Track, packets: Sequence[Packet], end: int | None, origin: int) -> None:
        self.track = track
        times = [packet.dts for packet in packets]
        times.append(times[-1] + packets[-1].duration if end is None else end)
        offsets = [packet.pts - packet.dts for packet in packets]
        scale = timescale(track)
        if scale != TICKS:
            times = [to_units(ticks, scale) for ticks in times]
            offsets = [to_units(ticks, scale) for ticks in offsets]
        # Taken off in the track's own units: what was a whole sample apart stays so.
        self.start = times[0] - to_units(origin, scale)
        durations = list(map(sub, times[1:], times))
        self.payloads = [packet.payload for packet in packets]
        sizes = list(map(len, self.payloads))
        self.length = sum(sizes)

        self.present = _DATA_OFFSET | _SIZES
        self.columns: list[list[int]] = []
        self.duration = durations[0]
        if durations.count(self.duration) != len(durations):
            self.present |= _DURATIONS
            self.columns.append(durations)
        self.columns.append(sizes)
        self._tell_keyframes([packet.keyframe for packet in packets])
        if any(offsets):
            self.present |= _OFFSETS
            self.columns.append(offsets)
        self.size = _TRAF.size + self._trun_size()

    def _tell_keyframes(self, keyframes: list[bool]) -> None:
        self.flags, self.first = _NON_SYNC, b""
        if all(keyframes):
            self.flags = _SYNC
        elif True in keyframes[1:]:
            self.present |= _FLAGS
            self.columns.append([_SYNC if keyframe else _NON_SYNC for keyframe in keyframes])
        elif keyframes[0]:
            self.present |= _FIRST_FLAGS
            self.first = _SYNC.to_bytes(4, "big")

    def _trun_size(self) -> int:
        return _TRUN.size + len(self.first) + 4 * len(self.columns) * len(self.payloads)

    def boxes(self, offset: int) -> list[bytes]:
        """The `traf`, whose data lies `offset` bytes behind the start of the `moof`."""
        width, count = len(self.columns), len(self.payloads)
        # Composition offsets, when present, are the last column and alone signed (trun version 1).
        row = "I" * (width - 1) + "i" if self.present & _OFFSETS else "I" * width
        table = [0] * (width * count)
        for index, column in enumerate(self.columns):
            table[index::width] = column
        defaults = _BASE_IS_MOOF | _DEFAULT_DURATION | _DEFAULT_FLAGS
        return [
            _TRAF.pack(
                self.size,
                b"traf",
                24,
                b"tfhd",
                defaults,
                self.track.id,
                self.duration,
                self.flags,
                20,
                b"tfdt",
                1 << 24,
                self.start,
            ),
            _TRUN.pack(self._trun_size(), b"trun", 1 << 24 | self.present, count, offset),
            self.first,
            struct.pack(">" + row * count, *table),
        ]
