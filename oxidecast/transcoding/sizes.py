"""How large a picture becomes: fitted into a profile's box, never scaled up, with even sides and square pixels. And its
colour, which stays.

Pure numbers. The server plans with it, and the child process, which sees the pictures, makes the same of them.
"""

from fractions import Fraction

from oxidecast.media import Codec, RemoteProtocolError, Track, av1, h264, hevc
from oxidecast.media.picture import Colour

NEARLY = Fraction(21, 20)
"""A box at most 5 % larger than the picture is taken as fitting: 1280x716 is 720p, made at its own size."""

SAME_SHAPE = Fraction(1, 50)
"""Shapes that differ by less are the same: rounding to even sides moves 854x480 by 0.1 %, and small sizes by more."""

SMALLEST = 16
"""Pixels a side: what encoders take."""


def display_size(width: int, height: int, pixel_shape: Fraction, rotation: int = 0) -> tuple[int, int]:
    """The size in square pixels, as it is seen. The side that would shrink stays, so that no detail is lost.

    `pixel_shape` is width over height of a pixel; `rotation` in degrees, of which quarter turns count.
    """
    if pixel_shape > 1:
        width = round(width * pixel_shape)
    elif 0 < pixel_shape < 1:
        height = round(height / pixel_shape)
    return (height, width) if rotation % 180 == 90 else (width, height)


def shown_size(track: Track) -> tuple[int, int]:
    """The size in square pixels: H.264 and HEVC say the shape of theirs."""
    shape = Fraction(1)
    try:
        if track.codec is Codec.H264:
            shape = h264.parse_sps(h264.parse_configuration(track.extradata).sps[0]).sample_aspect_ratio
        elif track.codec is Codec.HEVC:
            shape = hevc.parse_sps(hevc.parse_configuration(track.extradata).sps[0]).sample_aspect_ratio
    except (RemoteProtocolError, IndexError):
        pass
    return display_size(track.width, track.height, shape)


def colour(track: Track) -> Colour:
    """What H.264, HEVC and AV1 say of theirs."""
    try:
        if track.codec is Codec.H264:
            return h264.parse_sps(h264.parse_configuration(track.extradata).sps[0]).colour
        if track.codec is Codec.HEVC:
            return hevc.parse_sps(hevc.parse_configuration(track.extradata).sps[0]).colour
        if track.codec is Codec.AV1:
            header = av1.header_in(track.extradata)
            if header is not None:
                return Colour(*(header.colour or (2, 2, 2)), header.full_range)
    except (RemoteProtocolError, IndexError):
        pass
    return Colour()


def scale(source: tuple[int, int], box: tuple[int, int]) -> Fraction:
    """By how much the source would grow to fill the box, which is turned to lie as the source does."""
    width, height = _turned(box, source)
    return min(Fraction(width, source[0]), Fraction(height, source[1]))


def too_large(source: tuple[int, int], box: tuple[int, int]) -> bool:
    """Whether the box asks for a larger picture than there is."""
    return scale(source, box) > NEARLY


def fit(source: tuple[int, int], box: tuple[int, int]) -> tuple[int, int]:
    """The size that a source (in square pixels) gets in a box: inside it, not larger than itself, even sides."""
    factor = min(scale(source, box), Fraction(1))
    most = _turned(box, source) if factor < 1 else source
    width, height = (
        max(min(_even(side * factor), bound & ~1), SMALLEST) for side, bound in zip(source, most, strict=True)
    )
    return width, height


def same_shape(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two sizes have the same aspect ratio, as far as one can see."""
    first, second = Fraction(*one), Fraction(*other)
    return abs(first - second) <= SAME_SHAPE * max(first, second)


def _turned(box: tuple[int, int], source: tuple[int, int]) -> tuple[int, int]:
    """Profiles are written for landscape: 720p of a phone held upright is 720x1280, not 404x720."""
    upright = source[1] > source[0]
    return (min(box), max(box)) if upright else (max(box), min(box))


def _even(side: Fraction) -> int:
    return 2 * round(side / 2)
