"""Small real streams for the tests of the formats, encoded by PyAV on first use, as Tracks and Packets.

Each is muxed to MP4 once, because PyAV then hands out what our own conventions ask for: length-prefixed NAL
units, raw AAC, and the configuration records, cut out of the sample entry by `find_box`.
"""

import io
import struct
from collections.abc import Iterator
from fractions import Fraction
from functools import cache

import av

from oxidecast.media import TICKS, Codec, Packet, Track

_ENCODERS = {
    Codec.H264: (
        "libx264",
        {"preset": "ultrafast", "x264-params": "bframes=2:keyint=12:b-adapt=0:scenecut=0"},
    ),
    Codec.HEVC: ("libx265", {"preset": "ultrafast", "x265-params": "bframes=2:keyint=12:log-level=none"}),
    Codec.AV1: ("libsvtav1", {"preset": "12", "svtav1-params": "keyint=12"}),
    Codec.VP9: ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "g": "12"}),
    Codec.AAC: ("aac", {}),
    Codec.OPUS: ("libopus", {}),
    Codec.MP3: ("libmp3lame", {}),
    Codec.AC3: ("ac3", {}),
}
_CONFIG_BOXES = {
    Codec.H264: b"avcC",
    Codec.HEVC: b"hvcC",
    Codec.AV1: b"av1C",
    Codec.OPUS: b"dOps",
    Codec.VP9: b"vpcC",
}
_CODEC_STRINGS = {
    Codec.H264: "avc1.42c00a",
    Codec.HEVC: "hvc1.1.6.L30.90",
    Codec.AV1: "av01.0.00M.08",
    Codec.VP9: "vp09.00.10.08",
    Codec.AAC: "mp4a.40.2",
    Codec.OPUS: "Opus",
    Codec.MP3: "mp4a.6B",
    Codec.AC3: "ac-3",
}


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The boxes that `data` is made of, as (type, body); sizes must add up."""
    while data:
        size, kind = struct.unpack_from(">I4s", data)
        assert 8 <= size <= len(data), f"box {kind!r} of {size} bytes in {len(data)}"
        yield kind, data[8:size]
        data = data[size:]


def find_box(data: bytes, *path: bytes) -> bytes:
    """The body of the first box along `path`."""
    for kind in path:
        data = next(body for name, body in boxes(data) if name == kind)
    return data


@cache
def stream(
    codec: Codec, *, frames: int = 30, rate: int = 48_000, size: int = 64
) -> tuple[Track, list[Packet]]:
    """A track and its packets: `frames` pictures at 30 a second, or `frames` * 1024 samples of stereo
    noise."""
    encoded = _encode(codec, frames, rate, size)
    with av.open(io.BytesIO(encoded)) as container:
        source = container.streams[0]
        extradata = b""
        if codec is Codec.AAC:
            extradata = bytes(source.codec_context.extradata)
        elif codec in _CONFIG_BOXES:
            at = encoded.index(_CONFIG_BOXES[codec]) - 4
            extradata = find_box(
                encoded[at : at + int.from_bytes(encoded[at : at + 4], "big")], _CONFIG_BOXES[codec]
            )
        track = Track(
            id=1 if codec.is_video else 2,
            codec=codec,
            extradata=extradata,
            codec_string=_CODEC_STRINGS[codec],
            width=source.width if codec.is_video else 0,
            height=source.height if codec.is_video else 0,
            frame_rate=Fraction(30) if codec.is_video else None,
            sample_rate=0 if codec.is_video else rate,
            channels=0 if codec.is_video else 2,
        )
        raw = [packet for packet in container.demux(source) if packet.size]
        scale = TICKS * source.time_base
        start = raw[0].dts
        times = [round((packet.dts - start) * scale) for packet in raw]
        times.append(round((raw[-1].dts - start + raw[-1].duration) * scale))
        packets = [
            Packet(
                track=track,
                dts=dts,
                pts=dts + round((packet.pts - packet.dts) * scale),
                duration=end - dts,
                keyframe=packet.is_keyframe,
                payload=bytes(packet),
            )
            for packet, dts, end in zip(raw, times, times[1:], strict=False)
        ]
    return track, packets


def _encode(codec: Codec, frames: int, rate: int, size: int) -> bytes:
    name, options = _ENCODERS[codec]
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as container:
        if codec.is_video:
            encoder = container.add_stream(name, rate=30, options=options)
            encoder.width = encoder.height = size
            encoder.pix_fmt = "yuv420p"
            for number in range(frames):
                picture = av.VideoFrame(size, size, "yuv420p")
                for index, plane in enumerate(picture.planes):
                    plane.update(
                        bytes((7 * i * (index + 1) + 5 * number) & 0xFF for i in range(plane.buffer_size))
                    )
                picture.pts, picture.time_base = number, Fraction(1, 30)
                container.mux(encoder.encode(picture))
        else:
            encoder = container.add_stream(name, rate=rate, layout="stereo", options=options)
            samples = encoder.codec_context.frame_size or 1024
            done = 0
            while done < frames * 1024:
                sound = av.AudioFrame(
                    format=encoder.codec_context.format.name, layout="stereo", samples=samples
                )
                for plane in sound.planes:
                    plane.update(bytes((done + i * i) & 0x3F for i in range(plane.buffer_size)))
                sound.pts, sound.sample_rate, sound.time_base = done, rate, Fraction(1, rate)
                container.mux(encoder.encode(sound))
                done += samples
        container.mux(encoder.encode(None))
    return target.getvalue()


def muxed(*streams: tuple[Track, list[Packet]]) -> list[Packet]:
    """The packets of several streams in the order of their dts, as a rendition pushes them."""
    return sorted((packet for _, packets in streams for packet in packets), key=lambda packet: packet.dts)
