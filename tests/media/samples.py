"""Small pieces of real material, made by real encoders when a test asks for them."""

import io
import os
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import av

os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 is talkative


@dataclass(frozen=True)
class Encoded:
    """What an encoder gave, before any muxer touched it."""

    extradata: bytes
    packets: tuple[bytes, ...]
    keyframes: tuple[bool, ...]


@dataclass(frozen=True)
class Muxed:
    """What a demuxer says of the same material in a file."""

    extradata: bytes
    packets: tuple[bytes, ...]
    keyframes: tuple[bool, ...]
    width: int
    height: int
    sample_rate: int
    channels: int
    profile: str | None


@cache
def video(
    codec: str,
    width: int = 320,
    height: int = 180,
    frames: int = 6,
    rate: Fraction = Fraction(30),
    pixels: str = "yuv420p",
    shape: Fraction | None = None,
    header: bool = False,
    **options: str,
) -> Encoded:
    """`frames` frames of moving grey. `header` asks for a global header (extradata)."""
    context = av.CodecContext.create(codec, "w")
    context.width, context.height, context.pix_fmt = width, height, pixels
    context.time_base, context.framerate = 1 / rate, rate
    context.options = {name.replace("_", "-"): value for name, value in options.items()}
    if shape is not None:
        context.sample_aspect_ratio = shape
    if header:
        context.flags |= 1 << 22  # AV_CODEC_FLAG_GLOBAL_HEADER
    packets = []
    for number in range(frames):
        frame = av.VideoFrame(width, height, pixels)
        frame.pts = number
        for index, plane in enumerate(frame.planes):
            plane.update(bytes(((number * 9 + index * 40) % 251,)) * plane.buffer_size)
        packets += context.encode(frame)
    packets += context.encode(None)
    return Encoded(
        bytes(context.extradata or b""),
        tuple(bytes(packet) for packet in packets),
        tuple(packet.is_keyframe for packet in packets),
    )


@cache
def audio(codec: str, rate: int, layout: str, frames: int = 6, kind: str = "mp4") -> Muxed:
    """Silence in a file of format `kind`, read back."""
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        stream.codec_context.open()
        size = stream.codec_context.frame_size or 1024
        for number in range(frames):
            frame = av.AudioFrame(stream.codec_context.format.name, layout, size)
            frame.sample_rate, frame.pts = rate, number * size
            for plane in frame.planes:
                plane.update(bytes(plane.buffer_size))
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return read(file)


@cache
def muxed(codec: str, kind: str, **how: object) -> Muxed:
    """The material of `video`, through a muxer."""
    file = io.BytesIO()
    width, height = how.pop("width", 320), how.pop("height", 180)
    shape, rate = how.pop("shape", None), how.pop("rate", Fraction(30))
    options = {name.replace("_", "-"): value for name, value in how.items() if name != "pixels"}
    with av.open(file, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, how.get("pixels", "yuv420p")
        if shape is not None:
            stream.codec_context.sample_aspect_ratio = shape
        for number in range(6):
            frame = av.VideoFrame(width, height, stream.pix_fmt)
            frame.pts = number
            for plane in frame.planes:
                plane.update(bytes((number * 9,)) * plane.buffer_size)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return read(file)


def read(file: io.BytesIO) -> Muxed:
    """What FFmpeg finds in a file with one stream."""
    file.seek(0)
    with av.open(file) as container:
        stream = container.streams[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        context = stream.codec_context
        is_video = stream.type == "video"
        return Muxed(
            bytes(context.extradata or b""),
            tuple(bytes(packet) for packet in packets),
            tuple(packet.is_keyframe for packet in packets),
            context.width if is_video else 0,
            context.height if is_video else 0,
            0 if is_video else context.sample_rate,
            0 if is_video else context.channels,
            context.profile,
        )


def decoded(codec: str, packets: list[bytes], extradata: bytes = b"") -> list[object]:
    """The frames that a decoder makes of packets, checked one by one."""
    context = av.CodecContext.create(codec, "r")
    if extradata:
        context.extradata = extradata
    frames: list[object] = []
    for data in packets:
        frames += context.decode(av.Packet(data))
    return frames + context.decode(None)
