"""HEVC: what hvcC and the sequence parameter set say, and the few things done to frames.

The mirror of `h264`: everything is decided from parameter sets and from the type of each NAL unit. Clauses
are of ITU-T H.265 unless ISO 14496-15 is named.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import msgspec

from oxidecast.media import nal
from oxidecast.media.bits import BitReader, unescape
from oxidecast.media.errors import LocalProtocolError, RemoteProtocolError
from oxidecast.media.nal import four_byte_lengths, from_annexb, nal_units
from oxidecast.media.picture import Colour, check_size, frame_rate, read_aspect_ratio, read_colour
from oxidecast.media.track import Codec, Track

__all__ = [
    "Configuration",
    "SequenceParameterSet",
    "annexb",
    "configuration",
    "configuration_from_annexb",
    "four_byte_lengths",
    "from_annexb",
    "in_band",
    "is_keyframe",
    "length_size",
    "nal_units",
    "parameter_sets",
    "parse_configuration",
    "parse_sps",
    "strip",
    "track",
]

VPS, SPS, PPS, DELIMITER, FILLER = 32, 33, 34, 35, 38
IRAP = range(16, 24)
"""BLA, IDR and CRA slices, and the two reserved for their like (table 7-1)."""

ACCESS_UNIT_DELIMITER = b"\x00\x00\x00\x01\x46\x01\x50"
"""With its start code; pic_type 2: any slice types (7.4.3.5)."""

MAX_ARRAYS = 16  # hvcC's arrays are one a NAL unit type; VPS, SPS, PPS and two of SEI are used
_MAX_SETS = {VPS: 16, SPS: 16, PPS: 64}  # 7.4.3.1 to 7.4.3.3

_PROFILES = {1: "Main", 2: "Main 10", 3: "Main Still Picture", 4: "Range Extensions", 9: "Screen Content"}


@dataclass(frozen=True, slots=True)
class ProfileTierLevel:
    """general_profile_space to general_level_idc (7.3.3)."""

    space: int
    tier: int
    profile_idc: int
    compatibility: int
    """32 flags, the first one highest."""
    constraints: int
    """48 bits from general_progressive_source_flag on."""
    level_idc: int

    def __bytes__(self) -> bytes:
        first = self.space << 6 | self.tier << 5 | self.profile_idc
        return (
            bytes((first,))
            + self.compatibility.to_bytes(4, "big")
            + self.constraints.to_bytes(6, "big")
            + bytes((self.level_idc,))
        )

    @property
    def codec_string(self) -> str:
        """ISO 14496-15 E.3: compatibility flags in reverse, constraint bytes without trailing zeros."""
        reverse = int(f"{self.compatibility:032b}"[::-1], 2)
        space = ("", "A", "B", "C")[self.space]
        parts = ["hvc1", f"{space}{self.profile_idc}", f"{reverse:X}", f"{'LH'[self.tier]}{self.level_idc}"]
        parts += [f"{byte:X}" for byte in self.constraints.to_bytes(6, "big").rstrip(b"\x00")]
        return ".".join(parts)


@dataclass(frozen=True, slots=True)
class SequenceParameterSet:
    """What a sequence parameter set says that matters outside a decoder."""

    id: int
    sub_layers: int
    temporal_nesting: bool
    ptl: ProfileTierLevel
    chroma_format_idc: int
    bit_depth_luma: int
    bit_depth_chroma: int
    width: int
    """Pixels after the conformance window, before the shape of the pixels is applied."""
    height: int
    sample_aspect_ratio: Fraction
    frame_rate: Fraction | None
    colour: Colour

    @property
    def codec_string(self) -> str:
        return self.ptl.codec_string

    @property
    def profile(self) -> str:
        return _PROFILES.get(self.ptl.profile_idc, f"profile {self.ptl.profile_idc}")

    @property
    def level(self) -> str:
        whole, tenth = divmod(self.ptl.level_idc, 30)  # general_level_idc is 30 times the level (A.4.1)
        return f"{whole}.{tenth // 3}"


@dataclass(frozen=True, slots=True)
class Configuration:
    """An hvcC record, taken apart (ISO 14496-15 8.3.3.1)."""

    length_size: int
    """Bytes of each NAL unit's length, 1 to 4."""
    vps: tuple[bytes, ...]
    sps: tuple[bytes, ...]
    pps: tuple[bytes, ...]


@lru_cache(maxsize=64)
def parse_configuration(extradata: bytes) -> Configuration:
    """Take an hvcC record apart. Cached, since it is asked for at every keyframe."""
    if len(extradata) > nal.MAX_CONFIGURATION:
        raise RemoteProtocolError(f"hvcC has {len(extradata)} bytes, above {nal.MAX_CONFIGURATION}")
    if len(extradata) < 23:
        raise RemoteProtocolError(f"hvcC has {len(extradata)} bytes, and the shortest has 23")
    # Old muxers wrote version 0; the layout is the same.
    if extradata[0] > 1:
        raise RemoteProtocolError(f"hvcC configurationVersion is {extradata[0]}, not 1")
    if extradata[22] > MAX_ARRAYS:
        raise RemoteProtocolError(f"hvcC has {extradata[22]} arrays, above {MAX_ARRAYS}")
    sets: dict[int, list[bytes]] = {VPS: [], SPS: [], PPS: []}
    at = 23
    for _ in range(extradata[22]):
        if at + 3 > len(extradata):
            raise RemoteProtocolError("hvcC ends in the middle of its arrays")
        count = int.from_bytes(extradata[at + 1 : at + 3], "big")
        kind = extradata[at] & 63
        units, at = nal.counted_units(extradata, at + 3, count, "hvcC")
        if kind in sets:
            sets[kind] += units
    if not sets[SPS]:
        raise RemoteProtocolError("hvcC holds no sequence parameter set")
    return Configuration((extradata[21] & 3) + 1, tuple(sets[VPS]), tuple(sets[SPS]), tuple(sets[PPS]))


def length_size(extradata: bytes) -> int:
    """How many bytes the lengths of the payloads have that come with this hvcC."""
    return parse_configuration(extradata).length_size


def configuration(vps: Iterable[bytes], sps: Iterable[bytes], pps: Iterable[bytes]) -> bytes:
    """An hvcC record for payloads with 4-byte lengths; its arrays are complete, as hvc1 asks."""
    arrays = {VPS: tuple(vps), SPS: tuple(sps), PPS: tuple(pps)}
    if not arrays[SPS]:
        raise LocalProtocolError("hvcC takes at least one SPS")
    first = parse_sps(arrays[SPS][0])
    record = b"\x01" + bytes(first.ptl)
    record += b"\xf0\x00\xfc"  # no segmentation, parallelism unknown
    record += bytes(
        (0xFC | first.chroma_format_idc, 0xF8 | first.bit_depth_luma - 8, 0xF8 | first.bit_depth_chroma - 8)
    )
    record += b"\x00\x00" + bytes((first.sub_layers << 3 | first.temporal_nesting << 2 | 3,))
    record += bytes((sum(1 for units in arrays.values() if units),))
    for kind, units in arrays.items():
        if units:
            record += bytes((0x80 | kind,)) + len(units).to_bytes(2, "big") + nal.counted(units)
    return record


def configuration_from_annexb(data: bytes) -> bytes:
    """An hvcC record from the parameter sets in a byte stream with start codes."""
    found = parameter_sets(from_annexb(data))
    if found is None or not found.sps:
        raise RemoteProtocolError("byte stream holds no sequence parameter set")
    return configuration(found.vps, found.sps, found.pps)


def track(extradata: bytes, id: int = 1) -> Track:
    """The track that an hvcC record describes; its extradata is rewritten for 4-byte lengths."""
    return _described(extradata, id)


def _described(extradata: bytes, id: int) -> Track:
    parsed = parse_configuration(extradata)
    sps = parse_sps(parsed.sps[0])
    return Track(
        id=id,
        codec=Codec.HEVC,
        extradata=configuration(parsed.vps, parsed.sps, parsed.pps),
        codec_string=sps.codec_string,
        width=sps.width,
        height=sps.height,
        frame_rate=sps.frame_rate,
        profile=sps.profile,
        level=sps.level,
    )


@lru_cache(maxsize=64)
def parse_sps(unit: bytes) -> SequenceParameterSet:
    """Read a sequence parameter set NAL unit (7.3.2.2.1 and E.2.1)."""
    if len(unit) < 2 or unit[0] >> 1 & 63 != SPS:
        raise RemoteProtocolError("NAL unit is no sequence parameter set")
    bits = BitReader(unescape(nal.checked_set(unit, "HEVC stream")), "SPS")
    bits.skip(16 + 4)
    sub_layers = 1 + _bounded(bits.u(3), 6, "sps_max_sub_layers_minus1")
    nesting = bits.flag()
    ptl = _read_profile_tier_level(bits, sub_layers)
    sps_id = _bounded(bits.ue(), 15, "sps_seq_parameter_set_id")
    chroma = _bounded(bits.ue(), 3, "chroma_format_idc")
    separate_planes = chroma == 3 and bits.flag()
    coded_width, coded_height = bits.ue(), bits.ue()
    check_size(coded_width, coded_height, "SPS")
    window = [bits.ue() for _ in range(4)] if bits.flag() else [0, 0, 0, 0]
    unit_x = 2 if chroma in (1, 2) and not separate_planes else 1  # table 6-1
    unit_y = 2 if chroma == 1 and not separate_planes else 1
    width = coded_width - (window[0] + window[1]) * unit_x
    height = coded_height - (window[2] + window[3]) * unit_y
    check_size(width, height, "SPS after its conformance window")
    depth_luma = 8 + _bounded(bits.ue(), 7, "bit_depth_luma_minus8")
    depth_chroma = 8 + _bounded(bits.ue(), 7, "bit_depth_chroma_minus8")
    shape, rate, colour = Fraction(1), None, Colour()
    try:
        shape, rate, colour = _read_from_order_count_to_vui(bits, sub_layers)
    except RemoteProtocolError:
        pass  # forgiven, as in H.264: what comes after the sizes only tells shape and rate
    return SequenceParameterSet(
        sps_id, sub_layers, nesting, ptl, chroma, depth_luma, depth_chroma, width, height, shape, rate, colour
    )


def _bounded(value: int, most: int, field: str) -> int:
    if value > most:
        raise RemoteProtocolError(f"parameter set's {field} is {value}, above {most}")
    return value


def _read_profile_tier_level(bits: BitReader, sub_layers: int) -> ProfileTierLevel:
    """profile_tier_level(1, sub_layers - 1) (7.3.3)."""
    ptl = ProfileTierLevel(bits.u(2), bits.u(1), bits.u(5), bits.u(32), bits.u(48), bits.u(8))
    if sub_layers > 1:
        present = [(bits.flag(), bits.flag()) for _ in range(8)][: sub_layers - 1]
        for profile, level in present:
            bits.skip(88 * profile + 8 * level)
    return ptl


def _read_from_order_count_to_vui(
    bits: BitReader, sub_layers: int
) -> tuple[Fraction, Fraction | None, Colour]:
    """The middle of the SPS, only to find the VUI behind it: pixel shape, frame rate and colour."""
    order_bits = 4 + _bounded(bits.ue(), 12, "log2_max_pic_order_cnt_lsb_minus4")
    for _ in range(sub_layers if bits.flag() else 1):
        bits.ue(), bits.ue(), bits.ue()
    for _ in range(6):
        bits.ue()  # block sizes and transform depths
    if bits.flag() and bits.flag():
        _skip_scaling_lists(bits)
    bits.skip(2)
    if bits.flag():  # pcm_enabled_flag
        bits.skip(8)
        bits.ue()
        bits.ue()
        bits.skip(1)
    _skip_reference_picture_sets(bits, _bounded(bits.ue(), 64, "num_short_term_ref_pic_sets"))
    if bits.flag():
        bits.skip(_bounded(bits.ue(), 32, "num_long_term_ref_pics_sps") * (order_bits + 1))
    bits.skip(2)
    return _read_vui(bits) if bits.flag() else (Fraction(1), None, Colour())


def _skip_scaling_lists(bits: BitReader) -> None:
    """scaling_list_data() (7.3.4): at most 4 x 6 x 64 coefficients."""
    for size in range(4):
        for _ in range(0, 6, 3 if size == 3 else 1):
            if not bits.flag():
                bits.ue()
                continue
            if size > 1:
                bits.se()
            for _ in range(min(64, 1 << (4 + (size << 1)))):
                bits.se()


def _skip_reference_picture_sets(bits: BitReader, count: int) -> None:
    """`count` times st_ref_pic_set() (7.3.7), whose length hangs on the set before."""
    pictures = 0
    for index in range(count):
        if index and bits.flag():
            bits.skip(1)
            bits.ue()
            kept = 0
            for _ in range(pictures + 1):
                used = bits.flag()
                kept += used or bits.flag()
            pictures = kept
        else:
            pictures = _bounded(bits.ue(), 16, "num_negative_pics") + _bounded(
                bits.ue(), 16, "num_positive_pics"
            )
            for _ in range(pictures):
                bits.ue()
                bits.skip(1)
        _bounded(pictures, 32, "number of pictures in a reference picture set")


def _read_vui(bits: BitReader) -> tuple[Fraction, Fraction | None, Colour]:
    shape, rate, colour = Fraction(1), None, Colour()
    if bits.flag():
        shape = read_aspect_ratio(bits)
    try:
        if bits.flag():
            bits.skip(1)
        if bits.flag():
            colour = read_colour(bits)
        if bits.flag():
            bits.ue()
            bits.ue()
        bits.skip(1)
        fields = bits.flag()
        bits.skip(1)
        if bits.flag():
            for _ in range(4):
                bits.ue()
        if bits.flag():
            ticks, scale = bits.u(32), bits.u(32)
            rate = frame_rate(scale, ticks * 2 if fields else ticks)
    except RemoteProtocolError:
        pass
    return shape, rate, colour


def is_keyframe(payload: bytes) -> bool:
    """Whether decoding can start at this frame: IDR, CRA or BLA."""
    return any(payload[start] >> 1 & 63 in IRAP for start, end in nal.spans(payload) if start < end)


def strip(payload: bytes) -> bytes:
    """The payload without delimiters, filler and empty units; the same object where there are none."""
    found = nal.spans(payload)
    unwanted = [
        i
        for i, (start, end) in enumerate(found)
        if start == end or payload[start] >> 1 & 63 in (DELIMITER, FILLER)
    ]
    return nal.without(payload, found, unwanted) if unwanted else payload


def parameter_sets(payload: bytes) -> Configuration | None:
    """The parameter sets inside a frame, or None where it has none."""
    sets: dict[int, list[bytes]] = {VPS: [], SPS: [], PPS: []}
    for start, end in nal.spans(payload):
        if start < end and (kind := payload[start] >> 1 & 63) in sets:
            sets[kind].append(nal.checked_set(payload[start:end].rstrip(b"\x00"), "HEVC frame"))
    if not any(sets.values()):
        return None
    return Configuration(4, tuple(sets[VPS]), tuple(sets[SPS]), tuple(sets[PPS]))


def in_band(payload: bytes, track: Track) -> Track | None:
    """As `h264.in_band`: the track that goes on from here where this frame changes it, else None."""
    found = parameter_sets(payload)
    if found is None:
        return None
    known = parse_configuration(track.extradata)
    merged = {}
    for kind, new, old in (
        (VPS, found.vps, known.vps),
        (SPS, found.sps, known.sps),
        (PPS, found.pps, known.pps),
    ):
        sets = {_set_id(unit, kind): unit for unit in new}
        for unit in old:
            sets.setdefault(_set_id(unit, kind), unit)
        merged[kind] = tuple(old) if set(new) <= set(old) else tuple(sets.values())
    if (merged[VPS], merged[SPS], merged[PPS]) == (known.vps, known.sps, known.pps):
        return None
    changed = _described(configuration(merged[VPS], merged[SPS], merged[PPS]), track.id)
    return msgspec.structs.replace(changed, frame_rate=changed.frame_rate or track.frame_rate)


def _set_id(unit: bytes, kind: int) -> int:
    if kind == SPS:
        return parse_sps(unit).id
    bits = BitReader(unit[2:9], "parameter set")
    return _bounded(bits.u(4) if kind == VPS else bits.ue(), _MAX_SETS[kind] - 1, "id")


def annexb(payload: bytes, track: Track) -> bytes:
    """The frame as MPEG-TS has it: start codes, a delimiter first, parameter sets before a bare IRAP."""
    found = nal.spans(payload)
    kinds = {payload[start] >> 1 & 63 for start, end in found if start < end}
    head = ACCESS_UNIT_DELIMITER
    if SPS not in kinds and not kinds.isdisjoint(IRAP):
        sets = parse_configuration(track.extradata)
        head += b"".join(nal.START_CODE + unit for unit in (*sets.vps, *sets.sps, *sets.pps))
    return nal.to_annexb(payload, found, head)
