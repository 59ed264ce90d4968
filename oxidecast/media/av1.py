"""AV1: the av1C record, the sequence header, and OBUs walked without reading tile data.

Clauses are of the AV1 Bitstream and Decoding Process Specification; the record is from "AV1 Codec ISO Media
File Format Binding" 2.3.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import msgspec

from oxidecast.media.bits import BitReader
from oxidecast.media.errors import RemoteProtocolError
from oxidecast.media.picture import check_size, frame_rate
from oxidecast.media.track import Codec, Track

SEQUENCE_HEADER, TEMPORAL_DELIMITER, FRAME_HEADER, FRAME, PADDING = 1, 2, 3, 6, 15  # 6.2.2

MAX_OBUS = 2_048
"""OBUs in one temporal unit: a frame header, 4096 tiles at most in far fewer groups, some metadata."""

MAX_CONFIGURATION = 4_096
"""Bytes of av1C: 4, a sequence header of some 12, and metadata OBUs."""

_KEY_FRAME = 0
_PROFILES = ("Main", "High", "Professional")


@dataclass(frozen=True, slots=True)
class SequenceHeader:
    """What a sequence header says that matters outside a decoder (5.5)."""

    profile_idc: int
    level_idx: int
    tier: int
    bit_depth: int
    monochrome: bool
    subsampling: tuple[bool, bool]
    sample_position: int
    colour: tuple[int, int, int] | None
    """Primaries, transfer and matrix, where they are said."""
    full_range: bool
    width: int
    height: int
    frame_rate: Fraction | None
    still: bool
    """reduced_still_picture_header: the stream is one picture, and its frame header has no frame_type."""

    @property
    def codec_string(self) -> str:
        """av01.P.LLT.DD, and the colour fields only where they differ from what absence means."""
        text = f"av01.{self.profile_idc}.{self.level_idx:02d}{'MH'[self.tier]}.{self.bit_depth:02d}"
        x, y = self.subsampling
        chroma = f"{x:d}{y:d}{self.sample_position if x and y else 0}"
        return text + colour_suffix(self.colour, self.full_range, self.monochrome, chroma)

    @property
    def profile(self) -> str:
        return _PROFILES[self.profile_idc]

    @property
    def level(self) -> str:
        return f"{2 + (self.level_idx >> 2)}.{self.level_idx & 3}" if self.level_idx < 24 else ""


def colour_suffix(
    colour: tuple[int, int, int] | None, full_range: bool, monochrome: bool = False, chroma: str = "110"
) -> str:
    """What follows the depth in a codec string: nothing where it would say what its absence means. `colour` is
    primaries, transfer and matrix."""
    tail = (int(monochrome), chroma, *(f"{code:02d}" for code in colour or (1, 1, 1)), int(full_range))
    usual = (0, "110", "01", "01", "01", 0)
    # An unknown sample position (0) is what encoders write for the usual one.
    return "" if tail == usual else "." + ".".join(map(str, tail))


def spans(payload: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Where each OBU lies: (type, first byte of its header, first byte of its body, first byte after it)."""
    at, size, count = 0, len(payload), 0
    while at < size:
        count += 1
        if count > MAX_OBUS:
            raise RemoteProtocolError(f"temporal unit has more than {MAX_OBUS} OBUs")
        header = payload[at]
        if header & 0x80:
            raise RemoteProtocolError("obu_forbidden_bit is set")
        body = at + (2 if header & 4 else 1)
        if header & 2:
            length, body = _leb128(payload, body)
            end = body + length
        else:
            end = size
        if body > size or end > size:
            raise RemoteProtocolError(f"OBU leads {max(end, body) - size} bytes out of the temporal unit")
        yield header >> 3 & 15, at, body, end
        at = end


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    """leb128() at `at`, and where it ends (4.10.5): at most 8 bytes and 32 bits."""
    value = 0
    for i, byte in enumerate(data[at : at + 8]):
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            if value >> 32:
                raise RemoteProtocolError("obu_size is above 32 bits")
            return value, at + i + 1
    raise RemoteProtocolError("obu_size is cut short or longer than 8 bytes")


def obus(payload: bytes) -> Iterator[tuple[int, bytes]]:
    """The OBUs of a temporal unit as (type, bytes with the header)."""
    for kind, start, _, end in spans(payload):
        yield kind, payload[start:end]


def strip(payload: bytes) -> bytes:
    """The temporal unit without temporal delimiters and padding; the same object where there are none."""
    kept = [
        (start, end) for kind, start, _, end in spans(payload) if kind not in (TEMPORAL_DELIMITER, PADDING)
    ]
    if sum(end - start for start, end in kept) == len(payload):
        return payload
    return b"".join(payload[start:end] for start, end in kept)


def is_keyframe(payload: bytes) -> bool:
    """Whether decoding can start here: the first frame is a key frame that is shown (5.9.2).

    The sequence header may be in band or in av1C.
    """
    for kind, _, body, end in spans(payload):
        if kind in (FRAME, FRAME_HEADER) and body < end:
            # show_existing_frame 0, frame_type KEY_FRAME, show_frame 1
            return payload[body] >> 4 == 0b0001
        if kind == SEQUENCE_HEADER and parse_sequence_header(payload[body:end]).still:
            return True
    return False


def sequence_header(payload: bytes) -> bytes | None:
    """The first sequence header OBU, header byte included, or None."""
    for kind, start, _, end in spans(payload):
        if kind == SEQUENCE_HEADER:
            return payload[start:end]
    return None


def parse_configuration(extradata: bytes) -> bytes:
    """The configOBUs of an av1C record."""
    if not 4 <= len(extradata) <= MAX_CONFIGURATION:
        raise RemoteProtocolError(f"av1C has {len(extradata)} bytes, not 4 to {MAX_CONFIGURATION}")
    if extradata[0] != 0x81:
        raise RemoteProtocolError(f"av1C marker and version are {extradata[0]:#x}, not 0x81")
    return extradata[4:]


def configuration(payload: bytes) -> bytes:
    """An av1C record from OBUs that hold a sequence header (a keyframe, or an encoder's global header)."""
    unit = sequence_header(payload)
    if unit is None:
        raise RemoteProtocolError("OBUs hold no sequence header")
    header = parse_sequence_header(_body(unit))
    flags = (
        header.tier << 7
        | (header.bit_depth > 8) << 6
        | (header.bit_depth == 12) << 5
        | header.monochrome << 4
    )
    flags |= header.subsampling[0] << 3 | header.subsampling[1] << 2 | header.sample_position
    return bytes((0x81, header.profile_idc << 5 | header.level_idx, flags, 0)) + _with_size(unit)


def _body(unit: bytes) -> bytes:
    _, _, body, end = next(spans(unit))
    return unit[body:end]


def _with_size(unit: bytes) -> bytes:
    """The sequence header OBU with obu_size, which configOBUs must have (av1C 2.3.3)."""
    if unit[0] & 2:
        return unit
    body = _body(unit)
    if len(body) > 0x3FFF:
        raise RemoteProtocolError(f"sequence header has {len(body)} bytes")
    size = bytes((len(body),)) if len(body) < 0x80 else bytes((len(body) & 0x7F | 0x80, len(body) >> 7))
    return bytes((unit[0] | 2,)) + unit[1 : len(unit) - len(body)] + size + body


def header_in(extradata: bytes) -> SequenceHeader | None:
    """The sequence header in an av1C record, which may be without."""
    unit = sequence_header(parse_configuration(extradata))
    return parse_sequence_header(_body(unit)) if unit is not None else None


def track(extradata: bytes, id: int = 1) -> Track:
    """The track of an av1C record. Without configOBUs it has no size, and `in_band` learns it later."""
    header = header_in(extradata)
    if header is not None:
        return _described(extradata, header, id)
    profile, level = extradata[1] >> 5, extradata[1] & 31
    if profile > 2:
        raise RemoteProtocolError(f"av1C seq_profile is {profile}, above 2")
    depth = 8 if not extradata[2] & 0x40 else 12 if extradata[2] & 0x20 else 10
    return Track(
        id=id,
        codec=Codec.AV1,
        extradata=extradata,
        codec_string=f"av01.{profile}.{level:02d}{'MH'[extradata[2] >> 7]}.{depth:02d}",
        profile=_PROFILES[profile],
    )


def _described(extradata: bytes, header: SequenceHeader, id: int) -> Track:
    return Track(
        id=id,
        codec=Codec.AV1,
        extradata=extradata,
        codec_string=header.codec_string,
        width=header.width,
        height=header.height,
        frame_rate=header.frame_rate,
        profile=header.profile,
        level=header.level,
    )


def in_band(payload: bytes, track: Track) -> Track | None:
    """The track that goes on from this temporal unit where its sequence header changes it, else None."""
    unit = sequence_header(payload)
    if unit is None:
        return None
    known = sequence_header(parse_configuration(track.extradata))
    if known is not None and _body(unit) == _body(known):
        return None
    changed = _described(configuration(unit), parse_sequence_header(_body(unit)), track.id)
    return msgspec.structs.replace(changed, frame_rate=changed.frame_rate or track.frame_rate)


@lru_cache(maxsize=64)
def parse_sequence_header(body: bytes) -> SequenceHeader:
    """Read the body of a sequence header OBU (5.5.1)."""
    if len(body) > MAX_CONFIGURATION:
        raise RemoteProtocolError(f"sequence header has {len(body)} bytes, above {MAX_CONFIGURATION}")
    bits = BitReader(body, "AV1 sequence header")
    profile = bits.u(3)
    if profile > 2:
        raise RemoteProtocolError(f"seq_profile is {profile}, above 2")
    bits.skip(1)
    still = bits.flag()
    rate: Fraction | None = None
    if still:
        level, tier = bits.u(5), 0
    else:
        rate, level, tier = _read_operating_points(bits)
    width_bits, height_bits = bits.u(4) + 1, bits.u(4) + 1
    width, height = bits.u(width_bits) + 1, bits.u(height_bits) + 1
    check_size(width, height, "AV1 sequence header")
    if not still and bits.flag():
        bits.skip(7)  # frame ID lengths
    bits.skip(3)
    if not still:
        _skip_tools(bits)
    bits.skip(3)
    depth, mono, colour, full_range, subsampling, position = _read_colour(bits, profile)
    return SequenceHeader(
        profile,
        level,
        tier,
        depth,
        mono,
        subsampling,
        position,
        colour,
        full_range,
        width,
        height,
        rate,
        still,
    )


def _read_operating_points(bits: BitReader) -> tuple[Fraction | None, int, int]:
    """From timing_info_present_flag on: the frame rate, and level and tier of the first operating point."""
    rate: Fraction | None = None
    delay_bits = 0
    if bits.flag():
        ticks, scale = bits.u(32), bits.u(32)
        if bits.flag():  # equal_picture_interval
            rate = frame_rate(scale, ticks * (bits.ue() + 1))  # uvlc() is coded as ue(v)
        if bits.flag():
            delay_bits = bits.u(5) + 1
            bits.skip(32 + 5 + 5)
    display_delay = bits.flag()
    first = (0, 0)
    for i in range(bits.u(5) + 1):
        bits.skip(12)
        level = bits.u(5)
        tier = bits.u(1) if level > 7 else 0
        if i == 0:
            first = (level, tier)
        if delay_bits and bits.flag():
            bits.skip(2 * delay_bits + 1)
        if display_delay and bits.flag():
            bits.skip(4)
    return rate, *first


def _skip_tools(bits: BitReader) -> None:
    """From enable_interintra_compound to order_hint_bits_minus_1."""
    bits.skip(4)
    order_hint = bits.flag()
    if order_hint:
        bits.skip(2)
    # seq_choose_screen_content_tools: chosen by the frame, or said here
    screen_content = bits.flag() or bits.flag()
    if screen_content and not bits.flag():
        bits.skip(1)
    if order_hint:
        bits.skip(3)


def _read_colour(
    bits: BitReader, profile: int
) -> tuple[int, bool, tuple[int, int, int] | None, bool, tuple[bool, bool], int]:
    """color_config() (5.5.2): depth, monochrome, colour codes, range, subsampling, sample position."""
    depth = 10 if bits.flag() else 8
    if profile == 2 and depth == 10 and bits.flag():
        depth = 12
    mono = profile != 1 and bits.flag()
    colour = (bits.u(8), bits.u(8), bits.u(8)) if bits.flag() else None
    if mono:
        return depth, mono, colour, bits.flag(), (True, True), 0
    if colour == (1, 13, 0):  # sRGB
        return depth, mono, colour, True, (False, False), 0
    full_range = bits.flag()
    if profile == 0:
        x, y = True, True
    elif profile == 1:
        x, y = False, False
    elif depth == 12:
        x = bits.flag()
        y = x and bits.flag()
    else:
        x, y = True, False
    return depth, mono, colour, full_range, (x, y), bits.u(2) if x and y else 0
