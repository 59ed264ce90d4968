"""One elementary stream: its codec, and what a player must know before its first packet."""

from enum import StrEnum
from fractions import Fraction

import msgspec


class Codec(StrEnum):
    """The codecs that travel through the server. Values are the words used in the API."""

    H264 = "h264"
    HEVC = "hevc"
    AV1 = "av1"
    VP8 = "vp8"
    VP9 = "vp9"
    AAC = "aac"
    OPUS = "opus"
    MP3 = "mp3"
    AC3 = "ac3"

    @property
    def is_video(self) -> bool:
        return self in _VIDEO


_VIDEO = frozenset({Codec.H264, Codec.HEVC, Codec.AV1, Codec.VP8, Codec.VP9})


class Track(msgspec.Struct, frozen=True):
    """One elementary stream of a rendition.

    Two tracks compare equal when a decoder set up for one can go on with the other: a change of any field is
    a discontinuity for the viewer.
    """

    id: int
    """1 for video, 2 for audio; further tracks count on. Also the fMP4 track ID."""
    codec: Codec
    extradata: bytes
    """The codec configuration: the body of the avcC, hvcC, av1C, vpcC (with version and flags) or dOps box,
    or the AudioSpecificConfig; empty for VP8, MP3 and AC-3."""
    codec_string: str
    """RFC 6381, as HLS and MSE want it: `avc1.64001f`, `mp4a.40.2`."""
    width: int = 0
    """Display size in pixels after cropping; 0 for audio."""
    height: int = 0
    frame_rate: Fraction | None = None
    """Frames a second, where the codec configuration or the metadata says so."""
    sample_rate: int = 0
    """Samples a second of the decoded sound; 0 for video."""
    channels: int = 0
    profile: str = ""
    """For people: `High`, `Main`, `LC`."""
    level: str = ""
    """For people: `3.1`."""

    @property
    def is_video(self) -> bool:
        return self.codec in _VIDEO
