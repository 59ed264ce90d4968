"""What the video codecs share: bounds for picture sizes and rates, the table of pixel shapes, and colour."""

from fractions import Fraction
from typing import NamedTuple

from oxidecast.media.bits import BitReader
from oxidecast.media.errors import RemoteProtocolError

MAX_SIDE = 16_384
"""Pixels. Nothing larger is streamed live or decoded in hardware: such a header is crafted."""

MAX_FRAME_RATE = 1_000
"""Frames a second. Encoders that know no rate write their clock's (90000) there, which says nothing."""

# H.264 table E-1 and HEVC table E.1, aspect_ratio_idc 1 to 16; 0 is "unspecified".
_SAMPLE_ASPECT_RATIOS = (
    (1, 1),
    (1, 1),
    (12, 11),
    (10, 11),
    (16, 11),
    (40, 33),
    (24, 11),
    (20, 11),
    (32, 11),
    (80, 33),
    (18, 11),
    (15, 11),
    (64, 33),
    (160, 99),
    (4, 3),
    (3, 2),
    (2, 1),
)
_EXTENDED_SAR = 255


class Colour(NamedTuple):
    """What the numbers of a picture mean, by the codes of ITU-T H.273, of which 2 is "unspecified"."""

    primaries: int = 2
    transfer: int = 2
    matrix: int = 2
    full_range: bool = False


def check_size(width: int, height: int, what: str) -> None:
    """Refuse a picture size that no live stream has."""
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise RemoteProtocolError(
            f"{what} says a picture of {width}x{height}, and 1 to {MAX_SIDE} a side is taken"
        )


def frame_rate(time_scale: int, ticks: int) -> Fraction | None:
    """`time_scale / ticks` frames a second, or None where that says nothing."""
    if not time_scale or not ticks or time_scale > MAX_FRAME_RATE * ticks:
        return None
    return Fraction(time_scale, ticks)


def read_aspect_ratio(bits: BitReader) -> Fraction:
    """The shape of a pixel (width over height) from aspect_ratio_idc on; 1 where it is unspecified."""
    idc = bits.u(8)
    if idc == _EXTENDED_SAR:
        wide, high = bits.u(16), bits.u(16)
    elif idc < len(_SAMPLE_ASPECT_RATIOS):
        wide, high = _SAMPLE_ASPECT_RATIOS[idc]
    else:
        wide, high = 1, 1
    return Fraction(wide, high) if wide and high else Fraction(1)


def read_colour(bits: BitReader) -> Colour:
    """From video_format on, in a VUI (H.264 E.1.1, HEVC E.2.1)."""
    bits.skip(3)
    full_range = bits.flag()
    codes = (bits.u(8), bits.u(8), bits.u(8)) if bits.flag() else (2, 2, 2)
    return Colour(*codes, full_range)
