"""Small coded streams as a publisher sends them: packets in ticks, tracks, and flashes and beeps at whole seconds."""

import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from typing import Any

import av
import av.filter

from oxidecast.formats.framed import FramedPacket
from oxidecast.media import TICKS, Track, aac, av1, h264, hevc, nal, opus

os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 is talkative

TIME_BASE = Fraction(1, TICKS)
START = TICKS
"""Where a stream begins on the house's timeline."""

FLASH = 0.1
"""Seconds that a flash and a beep last, from each whole second on."""

EVERY = 1000
"""Milliseconds between flashes."""


@dataclass
class Clip:
    tracks: list[Track] = field(default_factory=list)
    packets: list[FramedPacket] = field(default_factory=list)

    @property
    def video(self) -> list[FramedPacket]:
        return [packet for packet in self.packets if packet.track_id == 1]

    @property
    def audio(self) -> list[FramedPacket]:
        return [packet for packet in self.packets if packet.track_id == 2]

    @property
    def keyframes(self) -> list[int]:
        return [packet.pts for packet in self.video if packet.keyframe]


def picture(width: int, height: int, number: int, white: bool, pixels: str = "yuv420p") -> Any:
    """A moving gradient, or white."""
    frame = av.VideoFrame(width, height, pixels)
    wide = 2 if "10" in pixels else 1
    for at, plane in enumerate(frame.planes):
        size = plane.buffer_size
        if at:
            plane.update((b"\x80" if wide == 1 else struct.pack("<H", 512)) * (size // wide))
        elif white:
            plane.update((b"\xeb" if wide == 1 else struct.pack("<H", 940)) * (size // wide))
        else:
            row = bytes(16 + (x * 3 + number * 5) % 120 for x in range(plane.line_size // wide))
            data = row * (size // len(row) // wide)
            plane.update(data if wide == 1 else b"".join(struct.pack("<H", 4 * value) for value in data))
    return frame


def video(
    seconds: float = 3.0,
    *,
    size: tuple[int, int] = (320, 180),
    rate: float = 30,
    gop: float = 1.0,
    bframes: int = 0,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    shape: Fraction | None = None,
    start: int = START,
    keep: Callable[[int], bool] = lambda number: True,
    trc: int | None = None,
    options: dict[str, str] | None = None,
) -> tuple[Track, list[FramedPacket]]:
    """Coded pictures. `keep` says of each picture's number whether the source has it (variable frame rate)."""
    encoder: Any = av.CodecContext.create(codec, "w")
    encoder.width, encoder.height, encoder.pix_fmt = *size, pixels
    encoder.time_base, encoder.framerate = TIME_BASE, Fraction(rate).limit_denominator(1001)
    if shape is not None:
        encoder.sample_aspect_ratio = shape
    if trc is not None:
        encoder.color_trc, encoder.color_primaries, encoder.colorspace = trc, 9, 9
    frames = round(gop * rate)
    encoder.gop_size = frames
    encoder.options = {
        "libx264": {
            "preset": "ultrafast",
            "bf": str(bframes),
            "sc_threshold": "0",
            "x264-params": "b-adapt=0",
        },
        "libx265": {
            "preset": "ultrafast",
            "x265-params": f"log-level=none:bframes={bframes}:keyint={frames}",
        },
        "libsvtav1": {"preset": "12", "svtav1-params": f"keyint={frames}"},
        "libx264rgb": {"preset": "ultrafast", "sc_threshold": "0"},
    }[codec] | (options or {})
    encoder.flags |= av.codec.context.Flags.global_header
    encoder.open()
    extradata = bytes(encoder.extradata)
    if codec in ("libx264", "libx264rgb"):
        track = h264.track(h264.configuration_from_annexb(extradata))
    elif codec == "libx265":
        track = hevc.track(hevc.configuration_from_annexb(extradata))
    else:
        track = av1.track(av1.configuration(extradata))
    packets = []

    def take(coded: list[Any]) -> None:
        for packet in coded:
            data = bytes(packet)
            payload = data if codec == "libsvtav1" else nal.from_annexb(data)
            packets.append(FramedPacket(1, packet.dts, packet.pts, packet.is_keyframe, payload, 0))

    for number in range(round(seconds * rate)):
        if not keep(number):
            continue
        at = number / rate
        frame = picture(*size, number, at % 1 < FLASH - 1e-6, pixels)
        frame.pts, frame.time_base = start + round(at * TICKS), TIME_BASE
        take(encoder.encode(frame))
    take(encoder.encode(None))
    return track, packets


def audio(
    seconds: float = 3.0,
    *,
    rate: int = 48_000,
    layout: str = "stereo",
    codec: str = "aac",
    bitrate: int = 96_000,
    start: int = START,
) -> tuple[Track, list[FramedPacket]]:
    """Coded sound: a beep at every whole second."""
    encoder: Any = av.CodecContext.create(codec, "w")
    encoder.sample_rate, encoder.layout = rate, layout
    encoder.format = "fltp" if codec == "aac" else "flt"
    encoder.bit_rate, encoder.time_base = bitrate, Fraction(1, rate)
    encoder.flags |= av.codec.context.Flags.global_header
    encoder.open()
    extradata = bytes(encoder.extradata)
    track = aac.track(extradata) if codec == "aac" else opus.track(extradata)
    graph = av.filter.Graph()
    tone = f"if(lt(mod(t,1),{FLASH}),0.5*sin(2*PI*1000*t),0)"
    channels = 1 if layout == "mono" else 2
    graph.link_nodes(
        graph.add("aevalsrc", f"{'|'.join([tone] * channels)}:s={rate}:d={seconds}:n={encoder.frame_size}"),
        graph.add("aformat", f"sample_fmts={encoder.format.name}:channel_layouts={layout}"),
        graph.add("abuffersink"),
    )
    graph.configure()
    packets = []

    def take(coded: list[Any]) -> None:
        for packet in coded:
            pts = start + packet.pts * TICKS // rate
            packets.append(FramedPacket(2, pts, pts, True, bytes(packet), encoder.frame_size))

    samples = 0
    while True:
        try:
            frame: Any = graph.pull()
        except (av.error.EOFError, av.error.BlockingIOError):
            break
        frame.pts, frame.time_base = samples, Fraction(1, rate)
        samples += frame.samples
        take(encoder.encode(frame))
    take(encoder.encode(None))
    return track, packets


def clip(*parts: tuple[Track, list[FramedPacket]]) -> Clip:
    """Tracks and packets, interleaved by dts."""
    made = Clip([track for track, _ in parts])
    made.packets = sorted(
        (packet for _, packets in parts for packet in packets), key=lambda packet: packet.dts
    )
    return made


@cache
def plain(seconds: float = 3.0) -> Clip:
    """320x180 at 30 a second with a keyframe every second, and stereo."""
    return clip(video(seconds), audio(seconds))


def later(packets: list[FramedPacket], ticks: int) -> Iterator[FramedPacket]:
    for packet in packets:
        yield FramedPacket(
            packet.track_id,
            packet.dts + ticks,
            packet.pts + ticks,
            packet.keyframe,
            packet.payload,
            packet.samples,
        )
