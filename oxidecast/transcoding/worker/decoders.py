"""Decoders for the tracks of a stream, and what they make of coded packets."""

import struct
from fractions import Fraction
from typing import Any

import av

from oxidecast.media import Codec, Track
from oxidecast.transcoding.worker.frames import Shape

_NAMES = {Codec.AV1: "libdav1d", Codec.OPUS: "libopus"}
"""FFmpeg's own AV1 decoder wants hardware; its Opus decoder wants a container's help at the start."""

MAX_PIXELS = 8192 * 4352
"""Above 8K: what a damaged or crafted header asks for beyond that would fill the memory."""

MANY_PIXELS = 1920 * 1088
"""Up to here one thread decodes 60 pictures a second; above, several do, each a picture later."""
MOST_THREADS = 4


def decoder(track: Track) -> Any:
    """An opened decoder. Raises av.FFmpegError, and ValueError for a codec that the library lacks."""
    context: Any = av.CodecContext.create(_NAMES.get(track.codec, str(track.codec)), "r")
    if track.codec is Codec.OPUS:
        context.extradata = _opus_head(track.extradata)
    elif track.extradata:
        context.extradata = track.extradata
    if track.is_video:
        context.options = {"max_pixels": str(MAX_PIXELS)}
        many = track.width * track.height > MANY_PIXELS
        context.thread_type = "AUTO" if many else "SLICE"
        context.thread_count = MOST_THREADS if many else 1
    context.open()
    return context


def shape_of(frame: Any, context: Any, rotation: int) -> Shape:
    """What the scaler must know of a picture that lies so."""
    return Shape(
        frame.width,
        frame.height,
        frame.format.name,
        context.sample_aspect_ratio or Fraction(1),
        rotation,
        frame.colorspace,
        frame.color_range,
        frame.color_primaries,
        frame.color_trc,
    )


def why(error: Exception) -> str:
    """What the library says went wrong, without its call."""
    return getattr(error, "strerror", None) or str(error)


def _opus_head(dops: bytes) -> bytes:
    """OpusHead (RFC 7845 5.1) of a dOps body: the same fields, little endian. But for the pre-skip, which the decoder
    would cut off the first packet without moving its time: time stamps say already what comes too early."""
    _, channels, _, rate, gain, family = struct.unpack_from(">BBHIhB", dops)
    return b"OpusHead" + struct.pack("<BBHIhB", 1, channels, 0, rate, gain, family) + dops[11:]
