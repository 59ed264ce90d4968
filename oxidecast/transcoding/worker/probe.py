"""`python -m oxidecast.transcoding.worker.probe PARENT JSON [devices]`: encode one picture, and say what went wrong if
it does not work.

It dies with PARENT (a process id), and is confined as the transcoder's child is that would encode so. JSON has
`encoder`, `pixel_format` and `options`; or `command`, an FFmpeg command (`transcoding/device.py`) that gets a second of
H.264. The exit code is 0 when a coded picture came out.
"""

import json
import sys
from fractions import Fraction
from typing import Any

import av
import av.logging

from oxidecast.media import h264, nal
from oxidecast.transcoding.worker.confinement import confine, die_with_parent
from oxidecast.transcoding.worker.ffmpeg import Ffmpeg

WIDTH, HEIGHT = 320, 180
PICTURES = 30


def encode(encoder: str, pixel_format: str, options: dict[str, str]) -> int:
    """Bytes that came out. Raises what the library raises."""
    context: Any = av.CodecContext.create(encoder, "w")
    context.width, context.height, context.pix_fmt = WIDTH, HEIGHT, pixel_format
    context.time_base, context.framerate = Fraction(1, 90_000), Fraction(30)
    context.options = options
    context.open()
    frame = av.VideoFrame(WIDTH, HEIGHT, pixel_format)
    for plane in frame.planes:
        plane.update(b"\x80" * plane.buffer_size)
    frame.pts, frame.time_base = 0, Fraction(1, 90_000)
    frame.pict_type = 1
    return sum(packet.size for packet in [*context.encode(frame), *context.encode(None)])


def run(command: list[str]) -> int:
    """The same through an FFmpeg command."""
    source: Any = av.CodecContext.create("libx264", "w")
    source.width, source.height, source.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    source.time_base, source.framerate = Fraction(1, 90_000), Fraction(30)
    source.options = {"preset": "ultrafast", "tune": "zerolatency"}
    source.flags |= av.codec.context.Flags.global_header
    source.open()
    made: list[Any] = []
    why: list[str] = []
    track = h264.track(h264.configuration_from_annexb(bytes(source.extradata)))
    ffmpeg = Ffmpeg(command, track, lambda *_: None, lambda _, packet: made.append(packet), why.append)
    frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
    for plane in frame.planes:
        plane.update(b"\x80" * plane.buffer_size)
    for number in range(PICTURES):
        frame.pts, frame.time_base = number * 3000, Fraction(1, 90_000)
        for packet in source.encode(frame):
            if not why:
                ffmpeg.write(packet.dts, packet.pts, packet.is_keyframe, nal.from_annexb(bytes(packet)))
    ffmpeg.end()
    if why:
        raise ValueError(why[0])
    return sum(packet.size for packet in made)


def main() -> None:
    av.logging.set_level(av.logging.ERROR)
    die_with_parent(int(sys.argv[1]))
    confine(devices="devices" in sys.argv[3:])
    asked = json.loads(sys.argv[2])
    with av.logging.Capture(local=False) as logs:
        try:
            made = run(**asked) if "command" in asked else encode(**asked)
            error = "" if made else "nothing came out of the encoder"
        except av.codec.codec.UnknownCodecError:
            error = "the media library has no such encoder"
        except av.FFmpegError as problem:
            error = problem.strerror or str(problem)
        except (ValueError, TypeError) as problem:
            error = str(problem)
    if error:
        # What the driver said is the reason; the library's own error is often just a number. FFmpeg has said both.
        said = "command" not in asked and dict.fromkeys(
            f"{name}: {message.strip()}" for _, name, message in logs
        )
        print(*(said or (error,)), sep="\n")  # noqa: T201
        sys.exit(1)


if __name__ == "__main__":
    main()
