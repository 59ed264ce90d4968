"""What a backend is asked for, and what will come of it: the level, and the name that players are told (RFC 6381).

The one idea: a level is a promise of the most, so it follows from the profile: its box, its ceiling of the frame rate
(or what the source's rate makes of it, where that is more), its bitrate. x264, x265 and SVT-AV1 are told to write it,
so what is said before they run stays true. A device chooses its own, which the ladder learns when it has run.
"""

import sys
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from oxidecast.media import Codec, av1
from oxidecast.media.picture import Colour
from oxidecast.transcoding.worker.choosing import one_in

LEAST_SIDE = {Codec.H264: 16, Codec.VP8: 16, Codec.HEVC: 64, Codec.AV1: 64}
"""Pixels a side: x265 writes beyond its memory below its largest block, and SVT-AV1 keeps to no bitrate there."""


_UNSAID = Colour()

_CONTAINER = 16_000
"""Bits a second: CMAF's box for a part of half a second and its 8 to 16 bytes a sample, for pictures and sound. At low
bitrates that is a tenth."""

_SPENT = 10.0
"""Seconds: as if the buffer were spent over so many, which is more than x265 was seen to spend of it in a segment."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a backend is asked for."""

    width: int
    """The profile's box."""
    height: int
    framerate: float
    """The most pictures a second."""
    bitrate: int
    maxrate: int
    bufsize: int
    low_latency: bool = False
    """Each picture leaves at once: no B-frames, no look ahead. For WebRTC."""
    codec: Codec = Codec.H264


class Level(NamedTuple):
    """What a level of a codec takes."""

    number: int
    """Times ten: 31 is 3.1."""
    picture: int
    """The most samples of brightness in a picture."""
    rate: int
    """Samples a second."""
    bitrate: int
    """Bits a second."""
    buffer: int
    """Bits."""


def level(target: Target) -> int:
    """The least level times ten that takes what the target allows; the highest where none does."""
    h264 = target.codec is Codec.H264
    # H.264 counts whole macroblocks.
    width, height = ((side + 15) // 16 * 16 if h264 else side for side in (target.width, target.height))
    picture = width * height
    for one in _LEVELS[target.codec]:
        if (
            picture <= one.picture
            and max(width, height) ** 2 <= _LONGEST[target.codec] * one.picture
            and picture * target.framerate <= one.rate
            and target.maxrate <= one.bitrate
            and target.bufsize <= one.buffer
        ):
            return one.number
    return _LEVELS[target.codec][-1].number


def codec_string(target: Target, colour: Colour = _UNSAID) -> str:
    """As the software encoders' configurations have it: High, Main and Main profile in 8 bits, the lower tier. `colour`
    is the source's, which stays: AV1 has it in its name."""
    number = level(target)
    if target.codec is Codec.HEVC:
        # General_level_idc is 30 times the level; 90 says progressive pictures (ISO 14496-15 E.3).
        return f"hvc1.1.6.L{number * 3}.90"
    if target.codec is Codec.AV1:
        # SVT-AV1 writes no codes where all are unspecified.
        codes = None if colour[:3] == (2, 2, 2) else colour[:3]
        suffix = av1.colour_suffix(codes, colour.full_range)
        return f"av01.0.{(number // 10 - 2) * 4 + number % 10:02d}M.08{suffix}"
    return f"avc1.6400{number:02x}"


def coded_rate(source: Fraction | None, ceiling: float) -> Fraction:
    """Pictures a second, as a track says it, by the rule by which they are left out; the ceiling where the source does
    not say its rate."""
    count = one_in(source, ceiling) if source else 0
    return source / count if source and count else Fraction(ceiling).limit_denominator(1001)


def peak(target: Target, sound: int) -> int:
    """Bits a second that no segment is above, as far as can be known before: pictures at the most, `sound`, what the
    container adds, and some of the buffer, which encoders spend where hard pictures follow easy ones."""
    return round(target.maxrate + target.bufsize / _SPENT + sound + _CONTAINER)


def _h264(number: int, rate: int, picture: int, bitrate: int, buffer: int) -> Level:
    """A line of table A-1: macroblocks, and units of 1250 bits in High profile (table A-2)."""
    return Level(number, picture * 256, rate * 256, bitrate * 1250, buffer * 1250)


def _av1(number: int, picture: int, rate: int, bitrate: int) -> Level:
    return Level(number, picture, rate, bitrate, sys.maxsize)


_LONGEST = {Codec.H264: 8, Codec.HEVC: 8, Codec.AV1: 9}
"""A side squared is at most so many times the largest picture (H.264 A.3.1, HEVC A.4.1; AV1 A.3: its height)."""

_LEVELS = {
    # ITU-T H.264, table A-1.
    Codec.H264: (
        _h264(10, 1_485, 99, 64, 175),
        _h264(11, 3_000, 396, 192, 500),
        _h264(12, 6_000, 396, 384, 1_000),
        _h264(13, 11_880, 396, 768, 2_000),
        _h264(20, 11_880, 396, 2_000, 2_000),
        _h264(21, 19_800, 792, 4_000, 4_000),
        _h264(22, 20_250, 1_620, 4_000, 4_000),
        _h264(30, 40_500, 1_620, 10_000, 10_000),
        _h264(31, 108_000, 3_600, 14_000, 14_000),
        _h264(32, 216_000, 5_120, 20_000, 20_000),
        _h264(40, 245_760, 8_192, 20_000, 25_000),
        _h264(41, 245_760, 8_192, 50_000, 62_500),
        _h264(42, 522_240, 8_704, 50_000, 62_500),
        _h264(50, 589_824, 22_080, 135_000, 135_000),
        _h264(51, 983_040, 36_864, 240_000, 240_000),
        _h264(52, 2_073_600, 36_864, 240_000, 240_000),
        _h264(60, 4_177_920, 139_264, 240_000, 240_000),
        _h264(61, 8_355_840, 139_264, 480_000, 480_000),
        _h264(62, 16_711_680, 139_264, 800_000, 800_000),
    ),
    # ITU-T H.265, tables A.8 and A.9, Main tier.
    Codec.HEVC: (
        Level(10, 36_864, 552_960, 128_000, 350_000),
        Level(20, 122_880, 3_686_400, 1_500_000, 1_500_000),
        Level(21, 245_760, 7_372_800, 3_000_000, 3_000_000),
        Level(30, 552_960, 16_588_800, 6_000_000, 6_000_000),
        Level(31, 983_040, 33_177_600, 10_000_000, 10_000_000),
        Level(40, 2_228_224, 66_846_720, 12_000_000, 12_000_000),
        Level(41, 2_228_224, 133_693_440, 20_000_000, 20_000_000),
        Level(50, 8_912_896, 267_386_880, 25_000_000, 25_000_000),
        Level(51, 8_912_896, 534_773_760, 40_000_000, 40_000_000),
        Level(52, 8_912_896, 1_069_547_520, 60_000_000, 60_000_000),
        Level(60, 35_651_584, 1_069_547_520, 60_000_000, 60_000_000),
        Level(61, 35_651_584, 2_139_095_040, 120_000_000, 120_000_000),
        Level(62, 35_651_584, 4_278_190_080, 240_000_000, 240_000_000),
    ),
    # AV1 A.3, Main tier. It bounds no buffer by itself.
    Codec.AV1: (
        _av1(20, 147_456, 4_423_680, 1_500_000),
        _av1(21, 278_784, 8_363_520, 3_000_000),
        _av1(30, 665_856, 19_975_680, 6_000_000),
        _av1(31, 1_065_024, 31_950_720, 10_000_000),
        _av1(40, 2_359_296, 70_778_880, 12_000_000),
        _av1(41, 2_359_296, 141_557_760, 20_000_000),
        _av1(50, 8_912_896, 267_386_880, 30_000_000),
        _av1(51, 8_912_896, 534_773_760, 40_000_000),
        _av1(52, 8_912_896, 1_069_547_520, 60_000_000),
        _av1(60, 35_651_584, 1_069_547_520, 60_000_000),
        _av1(61, 35_651_584, 2_139_095_040, 100_000_000),
        _av1(62, 35_651_584, 4_278_190_080, 160_000_000),
    ),
}
