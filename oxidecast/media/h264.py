"""H.264: what avcC and the sequence parameter set say, and the few things done to frames.

The one idea: everything is decided from parameter sets and from the type byte of each NAL unit; slice data
is never read. Clauses are of ITU-T H.264 unless ISO 14496-15 is named.
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

IDR, SEI, SPS, PPS, DELIMITER, FILLER = 5, 6, 7, 8, 9, 12

ACCESS_UNIT_DELIMITER = b"\x00\x00\x00\x01\x09\xf0"
"""With its start code; primary_pic_type 7: any slice types (7.4.2.4)."""

MAX_SPS_ID, MAX_PPS_ID = 31, 255  # 7.4.2.1.1, 7.4.2.2

_PROFILES = {
    44: "CAVLC 4:4:4",
    66: "Baseline",
    77: "Main",
    88: "Extended",
    100: "High",
    110: "High 10",
    122: "High 4:2:2",
    244: "High 4:4:4 Predictive",
}
_WITH_CHROMA_FIELDS = frozenset({44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244})  # 7.3.2.1.1


@dataclass(frozen=True, slots=True)
class SequenceParameterSet:
    """What a sequence parameter set says that matters outside a decoder."""

    id: int
    profile_idc: int
    constraints: int
    """The byte of constraint flags."""
    level_idc: int
    chroma_format_idc: int
    bit_depth_luma: int
    bit_depth_chroma: int
    width: int
    """Pixels after cropping, before the shape of the pixels is applied."""
    height: int
    sample_aspect_ratio: Fraction
    interlaced: bool
    frame_rate: Fraction | None
    colour: Colour

    @property
    def codec_string(self) -> str:
        """RFC 6381 3.3."""
        return f"avc1.{self.profile_idc:02x}{self.constraints:02x}{self.level_idc:02x}"

    @property
    def profile(self) -> str:
        if self.profile_idc == 66 and self.constraints & 0x40:
            return "Constrained Baseline"
        return _PROFILES.get(self.profile_idc, f"profile {self.profile_idc}")

    @property
    def level(self) -> str:
        # Level 1b is 11 with constraint_set3_flag in the first profiles, 9 in the later ones (A.3.1, A.3.2).
        if self.level_idc == 9 or (
            self.level_idc == 11 and self.constraints & 0x10 and self.profile_idc in (66, 77, 88)
        ):
            return "1b"
        return f"{self.level_idc // 10}.{self.level_idc % 10}"


@dataclass(frozen=True, slots=True)
class Configuration:
    """An avcC record, taken apart (ISO 14496-15 5.3.3.1)."""

    length_size: int
    """Bytes of each NAL unit's length, 1 to 4."""
    sps: tuple[bytes, ...]
    pps: tuple[bytes, ...]


@lru_cache(maxsize=64)
def parse_configuration(extradata: bytes) -> Configuration:
    """Take an avcC record apart. Cached, since it is asked for at every keyframe."""
    if len(extradata) > nal.MAX_CONFIGURATION:
        raise RemoteProtocolError(f"avcC has {len(extradata)} bytes, above {nal.MAX_CONFIGURATION}")
    if len(extradata) < 7:
        raise RemoteProtocolError(f"avcC has {len(extradata)} bytes, and the shortest has 7")
    if extradata[0] != 1:
        raise RemoteProtocolError(f"avcC configurationVersion is {extradata[0]}, not 1")
    size = (extradata[4] & 3) + 1
    sps, at = nal.counted_units(extradata, 6, extradata[5] & 31, "avcC")
    if at >= len(extradata):
        raise RemoteProtocolError("avcC ends before numOfPictureParameterSets")
    pps, _ = nal.counted_units(extradata, at + 1, extradata[at], "avcC")
    if not sps:
        raise RemoteProtocolError("avcC holds no sequence parameter set")
    return Configuration(size, tuple(sps), tuple(pps))


def length_size(extradata: bytes) -> int:
    """How many bytes the lengths of the payloads have that come with this avcC."""
    return parse_configuration(extradata).length_size


def configuration(sps: Iterable[bytes], pps: Iterable[bytes]) -> bytes:
    """An avcC record for payloads with 4-byte lengths."""
    sps, pps = tuple(sps), tuple(pps)
    if not sps or len(sps) > 31 or len(pps) > 255:
        raise LocalProtocolError(f"avcC takes 1 to 31 SPS and up to 255 PPS, not {len(sps)} and {len(pps)}")
    parsed = parse_sps(sps[0])
    record = (
        bytes((1, *sps[0][1:4], 0xFF, 0xE0 | len(sps)))
        + nal.counted(sps)
        + bytes((len(pps),))
        + nal.counted(pps)
    )
    if parsed.profile_idc not in (66, 77, 88):
        chroma = 0xFC | parsed.chroma_format_idc
        record += bytes((chroma, 0xF8 | parsed.bit_depth_luma - 8, 0xF8 | parsed.bit_depth_chroma - 8, 0))
    return record


def configuration_from_annexb(data: bytes) -> bytes:
    """An avcC record from the parameter sets in a byte stream with start codes."""
    found = parameter_sets(from_annexb(data))
    if found is None or not found.sps:
        raise RemoteProtocolError("byte stream holds no sequence parameter set")
    return configuration(found.sps, found.pps)


def track(extradata: bytes, id: int = 1) -> Track:
    """The track that an avcC record describes; its extradata is rewritten for 4-byte lengths."""
    return _described(extradata, id)


def _described(extradata: bytes, id: int) -> Track:
    parsed = parse_configuration(extradata)
    sps = parse_sps(parsed.sps[0])
    return Track(
        id=id,
        codec=Codec.H264,
        extradata=configuration(parsed.sps, parsed.pps),
        codec_string=sps.codec_string,
        width=sps.width,
        height=sps.height,
        frame_rate=sps.frame_rate,
        profile=sps.profile,
        level=sps.level,
    )


@lru_cache(maxsize=64)
def parse_sps(unit: bytes) -> SequenceParameterSet:
    """Read a sequence parameter set NAL unit (7.3.2.1.1 and E.1.1)."""
    if not unit or unit[0] & 31 != SPS:
        raise RemoteProtocolError("NAL unit is no sequence parameter set")
    bits = BitReader(unescape(nal.checked_set(unit, "H.264 stream")), "SPS")
    bits.skip(8)
    profile_idc, constraints, level_idc = bits.u(8), bits.u(8), bits.u(8)
    sps_id = _bounded(bits.ue(), MAX_SPS_ID, "seq_parameter_set_id")
    chroma, depth_luma, depth_chroma = 1, 8, 8
    separate_planes = False
    if profile_idc in _WITH_CHROMA_FIELDS:
        chroma = _bounded(bits.ue(), 3, "chroma_format_idc")
        if chroma == 3:
            separate_planes = bits.flag()
        depth_luma = 8 + _bounded(bits.ue(), 6, "bit_depth_luma_minus8")
        depth_chroma = 8 + _bounded(bits.ue(), 6, "bit_depth_chroma_minus8")
        bits.skip(1)  # qpprime_y_zero_transform_bypass_flag
        if bits.flag():
            for i in range(12 if chroma == 3 else 8):
                if bits.flag():
                    _skip_scaling_list(bits, 16 if i < 6 else 64)
    bits.ue()  # log2_max_frame_num_minus4
    order_type = _bounded(bits.ue(), 2, "pic_order_cnt_type")
    if order_type == 0:
        bits.ue()
    elif order_type == 1:
        bits.skip(1)
        bits.se()
        bits.se()
        for _ in range(_bounded(bits.ue(), 255, "num_ref_frames_in_pic_order_cnt_cycle")):
            bits.se()
    bits.ue()  # max_num_ref_frames
    bits.skip(1)
    columns, rows = bits.ue() + 1, bits.ue() + 1
    interlaced = not bits.flag()
    if interlaced:
        bits.skip(1)
    bits.skip(1)
    crops = [bits.ue() for _ in range(4)] if bits.flag() else [0, 0, 0, 0]
    # 7-18 to 7-21: crops count chroma samples, and lines of both fields.
    unit_x = 2 if chroma in (1, 2) and not separate_planes else 1
    unit_y = (2 if chroma == 1 and not separate_planes else 1) * (1 + interlaced)
    width = columns * 16 - (crops[0] + crops[1]) * unit_x
    height = rows * 16 * (1 + interlaced) - (crops[2] + crops[3]) * unit_y
    check_size(width, height, "SPS")
    check_size(columns * 16, rows * 16 * (1 + interlaced), "SPS before cropping")
    shape, rate, colour = Fraction(1), None, Colour()
    if bits.left and bits.flag():
        shape, rate, colour = _read_vui(bits)
    return SequenceParameterSet(
        sps_id,
        profile_idc,
        constraints,
        level_idc,
        chroma,
        depth_luma,
        depth_chroma,
        width,
        height,
        shape,
        interlaced,
        rate,
        colour,
    )


def _bounded(value: int, most: int, field: str) -> int:
    if value > most:
        raise RemoteProtocolError(f"parameter set's {field} is {value}, above {most}")
    return value


def _skip_scaling_list(bits: BitReader, size: int) -> None:
    last = 8
    for _ in range(size):
        last = (last + bits.se()) % 256
        if not last:
            return  # the rest repeats the last scale (7.3.2.1.1.1)


def _read_vui(bits: BitReader) -> tuple[Fraction, Fraction | None, Colour]:
    """Pixel shape, frame rate and colour. A VUI cut short is forgiven: cameras send such, and no decoder needs it."""
    shape, rate, colour = Fraction(1), None, Colour()
    try:
        if bits.flag():
            shape = read_aspect_ratio(bits)
        if bits.flag():
            bits.skip(1)
        if bits.flag():
            colour = read_colour(bits)
        if bits.flag():
            bits.ue()
            bits.ue()
        if bits.flag():
            ticks, scale = bits.u(32), bits.u(32)
            rate = frame_rate(scale, ticks * 2)  # a tick is a field's time (E.2.1)
    except RemoteProtocolError:
        pass
    return shape, rate, colour


def is_keyframe(payload: bytes) -> bool:
    """Whether decoding can start at this frame: it has an IDR slice."""
    return any(payload[start] & 31 == IDR for start, end in nal.spans(payload) if start < end)


def strip(payload: bytes) -> bytes:
    """The payload without delimiters, filler and empty units; the same object where there are none."""
    found = nal.spans(payload)
    unwanted = [
        i
        for i, (start, end) in enumerate(found)
        if start == end or payload[start] & 31 in (DELIMITER, FILLER)
    ]
    return nal.without(payload, found, unwanted) if unwanted else payload


def parameter_sets(payload: bytes) -> Configuration | None:
    """The parameter sets inside a frame, or None where it has none."""
    sps: list[bytes] = []
    pps: list[bytes] = []
    for start, end in nal.spans(payload):
        if start < end and (kind := payload[start] & 31) in (SPS, PPS):
            unit = nal.checked_set(payload[start:end].rstrip(b"\x00"), "H.264 frame")
            (sps if kind == SPS else pps).append(unit)
    return Configuration(4, tuple(sps), tuple(pps)) if sps or pps else None


def in_band(payload: bytes, track: Track) -> Track | None:
    """The track that goes on from this frame where its parameter sets change it, else None.

    Encoders may change size in mid-stream without a new sequence header, and many repeat their parameter
    sets before every keyframe, unchanged. A set replaces the one with its id.
    """
    found = parameter_sets(payload)
    if found is None:
        return None
    known = parse_configuration(track.extradata)
    if set(found.sps) <= set(known.sps) and set(found.pps) <= set(known.pps):
        return None
    # The new ones go first: the record's first SPS describes the track.
    sps = {parse_sps(unit).id: unit for unit in found.sps}
    for unit in known.sps:
        sps.setdefault(parse_sps(unit).id, unit)
    pps = {_pps_id(unit): unit for unit in found.pps}
    for unit in known.pps:
        pps.setdefault(_pps_id(unit), unit)
    changed = _described(configuration(tuple(sps.values())[:31], tuple(pps.values())[:255]), track.id)
    # A rate that the metadata told is kept where the new SPS tells none.
    return msgspec.structs.replace(changed, frame_rate=changed.frame_rate or track.frame_rate)


def _pps_id(unit: bytes) -> int:
    bits = BitReader(unit[1:8], "PPS")
    return _bounded(bits.ue(), MAX_PPS_ID, "pic_parameter_set_id")


def annexb(payload: bytes, track: Track) -> bytes:
    """The frame as MPEG-TS has it: start codes, a delimiter first, parameter sets before a bare IDR."""
    found = nal.spans(payload)
    kinds = {payload[start] & 31 for start, end in found if start < end}
    head = ACCESS_UNIT_DELIMITER
    if IDR in kinds and SPS not in kinds:
        sets = parse_configuration(track.extradata)
        head += b"".join(nal.START_CODE + unit for unit in (*sets.sps, *sets.pps))
    return nal.to_annexb(payload, found, head)
