"""The initialisation segment: what a player must know before a fragment (ISO/IEC 14496-12, 8.2 and 8.8.1).

It holds no samples: every sample table is empty, `mvex` says that fragments follow, and durations are zero
because a live stream's is unknown; that of a recording, which ends, stands in `mehd`. Parameter sets travel
here, in the sample entries `avc1` and `hvc1`; a change of them is a new initialisation segment.
"""

import struct
from collections.abc import Callable, Sequence

from oxidecast.formats.fmp4.boxes import box, full_box
from oxidecast.formats.fmp4.timescale import timescale
from oxidecast.media import TICKS, Codec, LocalProtocolError, Track

_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_UNDETERMINED = 0x55C4
"""The language `und`, as three letters of five bits (8.4.2.3)."""

_AAC, _MPEG2_AUDIO, _MPEG1_AUDIO = 0x40, 0x69, 0x6B
"""objectTypeIndication (14496-1, table 5): AAC of any profile, MP3 below 32 kHz, MP3."""


def carries(codec: Codec) -> bool:
    """Whether fragments can hold this codec: all but VP8, which no player takes in MP4."""
    return codec in _SAMPLE_ENTRIES


def init_segment(tracks: Sequence[Track], duration: int | None = None) -> bytes:
    """`ftyp` and `moov` for these tracks, whose ids become the track IDs.

    `duration` (ticks, of all fragments together) is for files; the same tracks give as many bytes with any number, so
    that it can be written when it is known.

    Raises LocalProtocolError for no track, an id that is not a positive number of its own, a codec that MP4
    does not carry here, or a codec configuration that is missing.
    """
    ids = [track.id for track in tracks]
    if not ids or min(ids) < 1 or len(set(ids)) < len(ids):
        raise LocalProtocolError(f"MP4 track IDs must be positive and distinct, not {ids}")
    # A CMAF track file holds one track (23000-19, 7.3.1); a muxed one claims no more than iso6's fragments.
    brands = [b"iso6", b"mp41", b"cmfc"] if len(tracks) == 1 else [b"iso6", b"mp41"]
    return box(b"ftyp", b"iso6", bytes(4), *brands) + box(
        b"moov",
        _movie_header(max(ids) + 1),
        *[_track(track) for track in tracks],
        box(
            b"mvex",
            *([full_box(b"mehd", 1, 0, struct.pack(">Q", duration))] if duration is not None else ()),
            *[full_box(b"trex", 0, 0, struct.pack(">5I", i, 1, 0, 0, 0)) for i in ids],
        ),
    )


def _movie_header(next_id: int) -> bytes:
    times = struct.pack(">4I", 0, 0, TICKS, 0)
    rate_and_volume = struct.pack(">IH10x", 0x10000, 0x100)
    return full_box(b"mvhd", 0, 0, times, rate_and_volume, _MATRIX, bytes(24), next_id.to_bytes(4, "big"))


def _track(track: Track) -> bytes:
    header = full_box(
        b"tkhd",
        0,
        0x000003,  # enabled, in the movie
        struct.pack(">5I8x", 0, 0, track.id, 0, 0),
        struct.pack(">hhhxx", 0, 0, 0 if track.is_video else 0x100),
        _MATRIX,
        struct.pack(">II", track.width << 16, track.height << 16),
    )
    kind, media_header = (
        (b"vide", full_box(b"vmhd", 0, 1, bytes(8)))
        if track.is_video
        else (b"soun", full_box(b"smhd", 0, 0, bytes(4)))
    )
    empty = bytes(4)
    return box(
        b"trak",
        header,
        box(
            b"mdia",
            full_box(b"mdhd", 0, 0, struct.pack(">4IHH", 0, 0, timescale(track), 0, _UNDETERMINED, 0)),
            full_box(b"hdlr", 0, 0, struct.pack(">I4s12x", 0, kind), b"OxideCast\0"),
            box(
                b"minf",
                media_header,
                box(b"dinf", full_box(b"dref", 0, 0, struct.pack(">I", 1), full_box(b"url ", 0, 1))),
                box(
                    b"stbl",
                    full_box(b"stsd", 0, 0, struct.pack(">I", 1), _sample_entry(track)),
                    full_box(b"stts", 0, 0, empty),
                    full_box(b"stsc", 0, 0, empty),
                    full_box(b"stsz", 0, 0, empty, empty),
                    full_box(b"stco", 0, 0, empty),
                ),
            ),
        ),
    )


def _sample_entry(track: Track) -> bytes:
    entry = _SAMPLE_ENTRIES.get(track.codec)
    if entry is None:
        raise LocalProtocolError(f"MP4 does not carry {track.codec.value}")
    kind, config = entry
    if not track.is_video:
        # 12.2.3; the rate is 16.16, so one above 65535 Hz cannot be said here and stands in the configuration
        # alone.
        rate = timescale(track)
        fields = struct.pack(">6xH8xHH4xI", 1, track.channels or 2, 16, rate << 16 if rate <= 0xFFFF else 0)
        return box(kind, fields, config(track))
    if not (0 < track.width <= 0xFFFF and 0 < track.height <= 0xFFFF):
        raise LocalProtocolError(f"MP4 video needs a size of 1 to 65535, not {track.width}x{track.height}")
    # 12.1.3: 72 dpi, one frame a sample, no compressor name, depth 24.
    fields = struct.pack(">6xH16xHHIIIH32xHh", 1, track.width, track.height, 0x480000, 0x480000, 0, 1, 24, -1)
    return box(kind, fields, config(track))


def _record(kind: bytes) -> Callable[[Track], bytes]:
    """A configuration box whose body is the track's extradata as it stands."""
    return lambda track: box(kind, _extradata(track))


def _extradata(track: Track) -> bytes:
    if not track.extradata:
        raise LocalProtocolError(f"MP4 needs the codec configuration of {track.codec.value}, which is empty")
    return track.extradata


def _esds(track: Track) -> bytes:
    """The elementary stream descriptor (14496-1, 7.2.6.5); bit rates stay unknown, as live ones are."""
    if track.codec is Codec.AAC:
        kind, specific = _AAC, _descriptor(5, _extradata(track))
    else:
        kind, specific = (_MPEG1_AUDIO if track.sample_rate >= 32_000 else _MPEG2_AUDIO), b""
    decoder = _descriptor(4, struct.pack(">BB3xII", kind, 0x15, 0, 0), specific)
    return full_box(b"esds", 0, 0, _descriptor(3, struct.pack(">HB", 0, 0), decoder, _descriptor(6, b"\x02")))


def _descriptor(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    size = len(body)
    # 14496-1, 8.3.3: seven bits a byte; four bytes hold any length met.
    lengths = bytes(
        [0x80 | size >> 21 & 0x7F, 0x80 | size >> 14 & 0x7F, 0x80 | size >> 7 & 0x7F, size & 0x7F]
    )
    return bytes([tag]) + lengths + body


def _dac3(track: Track) -> bytes:
    """AC3SpecificBox (TS 102 366, F.4) from what the track knows: rate and channels.

    The bit rate code is left at 448 kbit/s; decoders take it, and the exact channel mode, from each frame.
    """
    rates = {48_000: 0, 44_100: 1, 32_000: 2}
    if track.sample_rate not in rates:
        raise LocalProtocolError(f"AC-3 runs at 32, 44.1 or 48 kHz, not at {track.sample_rate} Hz")
    lfe = track.channels == 6
    mode = 7 if lfe else {1: 1, 3: 3, 4: 6, 5: 7}.get(track.channels, 2)
    bsid, bit_rate_code = 8, 15
    bits = rates[track.sample_rate] << 22 | bsid << 17 | mode << 11 | lfe << 10 | bit_rate_code << 5
    return box(b"dac3", bits.to_bytes(3, "big"))


_SAMPLE_ENTRIES: dict[Codec, tuple[bytes, Callable[[Track], bytes]]] = {
    Codec.H264: (b"avc1", _record(b"avcC")),
    Codec.HEVC: (b"hvc1", _record(b"hvcC")),
    Codec.AV1: (b"av01", _record(b"av1C")),
    Codec.VP9: (b"vp09", _record(b"vpcC")),
    Codec.AAC: (b"mp4a", _esds),
    Codec.MP3: (b"mp4a", _esds),
    Codec.OPUS: (b"Opus", _record(b"dOps")),
    Codec.AC3: (b"ac-3", _dac3),
}
