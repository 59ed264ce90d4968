"""`python -m oxidecast.transcoding.worker.probe JSON`: encode one picture, and say what went wrong if it does not work.

JSON has `encoder`, `pixel_format` and `options`. The exit code is 0 when a coded picture came out.
"""

import json
import sys
from fractions import Fraction
from typing import Any

import av
import av.logging

WIDTH, HEIGHT = 320, 180


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


def main() -> None:
    av.logging.set_level(av.logging.ERROR)
    with av.logging.Capture(local=False) as logs:
        try:
            made = encode(**json.loads(sys.argv[1]))
            error = "" if made else "nothing came out of the encoder"
        except av.codec.codec.UnknownCodecError:
            error = "the media library has no such encoder"
        except av.FFmpegError as problem:
            error = problem.strerror or str(problem)
        except (ValueError, TypeError) as problem:
            error = str(problem)
    if error:
        # What the driver said is the reason; the library's own error is often just a number.
        said = dict.fromkeys(f"{name}: {message.strip()}" for _, name, message in logs)
        print(*(said or (error,)), sep="\n")  # noqa: T201
        sys.exit(1)


if __name__ == "__main__":
    main()
