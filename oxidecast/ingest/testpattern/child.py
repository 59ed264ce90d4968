"""The child process that draws and encodes the test pattern, and writes it to its standard output in real time.

A moving picture with the wall clock in it (readable to the frame, so that latency can be read off a screen) and a tone
that beeps when a second begins, while a white square flashes: sound and picture can be compared by ear and eye.
"""

import sys
import time
from datetime import datetime
from fractions import Fraction
from typing import Any

import av
import av.filter

from oxidecast.formats import framed
from oxidecast.media import TICKS, aac, h264, nal

RATE = 30
KEYFRAME_EVERY = 2 * RATE
SAMPLE_RATE = 48_000

# Seven-segment digits: top, top right, bottom right, bottom, bottom left, top left, middle.
_SEGMENTS = {
    "0": "1111110",
    "1": "0110000",
    "2": "1101101",
    "3": "1111001",
    "4": "0110011",
    "5": "1011011",
    "6": "1011111",
    "7": "1110000",
    "8": "1111111",
    "9": "1111011",
}
_WHITE, _BLACK, _NEUTRAL = b"\xeb", b"\x10", b"\x80"


class Canvas:
    """A yuv420p picture to draw grey boxes on."""

    def __init__(self, frame: Any) -> None:
        self._frame = frame
        self._planes = [memoryview(plane).cast("B") for plane in frame.planes]
        self._strides = [plane.line_size for plane in frame.planes]

    def box(self, x: int, y: int, width: int, height: int, luma: bytes) -> None:
        """Fill a box; everything is rounded down to even numbers."""
        x, y, width, height = (value & ~1 for value in (x, y, width, height))
        self._fill(0, x, y, width, height, luma)
        for plane in (1, 2):
            self._fill(plane, x // 2, y // 2, width // 2, height // 2, _NEUTRAL)

    def _fill(self, plane: int, x: int, y: int, width: int, height: int, value: bytes) -> None:
        view, stride, line = self._planes[plane], self._strides[plane], value * width
        for row in range(y, y + height):
            view[row * stride + x : row * stride + x + width] = line

    def text(self, text: str, x: int, y: int, size: int) -> None:
        """Digits and colons, `size` pixels high."""
        thick, width = size // 8, size // 2
        half = (size - thick) // 2
        for character in text:
            if character in ":.":
                for at in (size // 3, size - thick) if character == ":" else (size - thick,):
                    self.box(x, y + at, thick, thick, _WHITE)
                x += 2 * thick
                continue
            places = (
                (x, y, width, thick),
                (x + width - thick, y, thick, half + thick),
                (x + width - thick, y + half, thick, half + thick),
                (x, y + size - thick, width, thick),
                (x, y + half, thick, half + thick),
                (x, y, thick, half + thick),
                (x, y + half, width, thick),
            )
            for lit, place in zip(_SEGMENTS[character], places, strict=True):
                if lit == "1":
                    self.box(*place, _WHITE)
            x += width + thick


def _source(filter: str, arguments: str, sink: str) -> Any:
    graph = av.filter.Graph()
    source = graph.add(filter, arguments)
    end = graph.add(sink)
    source.link_to(end)
    graph.configure()
    return graph


def run(width: int, height: int, bitrate: int) -> None:
    """Write until the reader goes away."""
    out = sys.stdout.buffer
    video: Any = av.CodecContext.create("libx264", "w")
    video.width, video.height, video.pix_fmt = width, height, "yuv420p"
    video.time_base, video.framerate = Fraction(1, TICKS), Fraction(RATE)
    video.bit_rate, video.gop_size = bitrate, KEYFRAME_EVERY
    video.options = {
        "preset": "veryfast",
        "profile": "high",
        "tune": "zerolatency",
        "x264-params": f"keyint={KEYFRAME_EVERY}:min-keyint={KEYFRAME_EVERY}:scenecut=0:vbv-maxrate={bitrate // 1000}"
        f":vbv-bufsize={bitrate // 1000}:repeat-headers=0",
    }
    video.flags |= av.codec.context.Flags.global_header
    video.open()
    audio: Any = av.CodecContext.create("aac", "w")
    audio.sample_rate, audio.layout, audio.format = SAMPLE_RATE, "stereo", "fltp"
    audio.bit_rate, audio.time_base = 128_000, Fraction(1, SAMPLE_RATE)
    audio.open()
    out.write(framed.track(h264.track(h264.configuration_from_annexb(bytes(video.extradata)), 1)))
    out.write(framed.track(aac.track(bytes(audio.extradata), 2)))

    pictures = _source("testsrc2", f"size={width}x{height}:rate={RATE}", "buffersink")
    tone = "if(lt(mod(t,1),0.1),0.5*sin(2*PI*880*t),0.05*sin(2*PI*220*t))"
    sounds = _source("aevalsrc", f"{tone}|{tone}:s={SAMPLE_RATE}:n=1024", "abuffersink")

    # The beep and the flash are those of wall clock seconds.
    began = time.time()
    began += 1 - began % 1
    frames = samples = 0
    while True:
        due = began + frames / RATE
        wait = due - time.time()
        if wait > 0:
            time.sleep(wait)
        frame = pictures.vpull()
        canvas = Canvas(frame)
        size = height // 10 & ~1
        canvas.box(size // 2, size // 2, size * 8, size * 2, _BLACK)
        clock = datetime.fromtimestamp(due + 0.0005)
        canvas.text(f"{clock:%H:%M:%S}.{int(clock.microsecond * RATE / 1e6):02}", size, size, size)
        canvas.box(width - size * 3, size // 2, size * 2, size * 2, _WHITE if due % 1 < 0.1 else _BLACK)
        frame.pts, frame.time_base = frames * TICKS // RATE, Fraction(1, TICKS)
        frame.pict_type = 0
        for packet in video.encode(frame):
            payload = nal.from_annexb(bytes(packet))
            out.write(framed.packet(1, packet.dts, packet.pts, packet.is_keyframe, payload))
        frames += 1
        while samples * RATE < frames * SAMPLE_RATE:
            sound = sounds.pull()
            sound.pts, sound.time_base = samples, Fraction(1, SAMPLE_RATE)
            sound.sample_rate = SAMPLE_RATE
            for packet in audio.encode(_planar(sound)):
                ticks = packet.pts * TICKS // SAMPLE_RATE
                out.write(framed.packet(2, ticks, ticks, True, bytes(packet), 1024))
            samples += sound.samples
        out.flush()


_resampler = av.AudioResampler("fltp", "stereo", SAMPLE_RATE)


def _planar(sound: Any) -> Any:
    (frame,) = _resampler.resample(sound)
    return frame


def main() -> None:
    width, height, bitrate = (int(argument) for argument in sys.argv[1:4])
    try:
        run(width, height, bitrate)
    except (BrokenPipeError, KeyboardInterrupt):
        # The server has gone, and nobody reads any more.
        sys.stderr.close()


if __name__ == "__main__":
    main()
