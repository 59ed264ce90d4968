"""`python -m oxidecast.transcoding.worker.still PARENT NICE WIDTH`: a JPEG of one keyframe, and no more.

PARENT is the process id of the server, with which it dies. It reads a track and a packet from its standard input, and
writes a `Thumbnail` to its standard output (`formats/framed.py`). The exit code is 0 when it has made one.
"""

import os
import resource
import sys
from typing import Any

import av

from oxidecast.formats.framed import FramedPacket, FrameReader
from oxidecast.media import RemoteProtocolError, Track
from oxidecast.transcoding.worker.confinement import confine, die_with_parent
from oxidecast.transcoding.worker.decoders import decoder, shape_of, why
from oxidecast.transcoding.worker.encoding import TIME_BASE
from oxidecast.transcoding.worker.frames import Picture
from oxidecast.transcoding.worker.output import FAILED, Output
from oxidecast.transcoding.worker.thumbnails import thumbnail

READ = 256 * 1024
"""Bytes at a time: more than a pipe holds."""

MAX_MEMORY = 1024 * 1024 * 1024
"""Bytes of addresses: a picture of 8K is 50 MB, and a decoder holds a few. What takes more was crafted."""

MAX_CPU = 10
"""Seconds: the largest keyframe takes a tenth of one."""


def still(track: Track, packet: FramedPacket) -> Picture | None:
    """The keyframe's picture; None when nothing comes out. Raises av.FFmpegError, ValueError and MemoryError."""
    context: Any = decoder(track)
    coded = av.Packet(packet.payload)
    coded.pts, coded.dts, coded.time_base = packet.pts, packet.dts, TIME_BASE
    coded.is_keyframe = True
    for frame in [*context.decode(coded), *context.decode(None)]:
        frame.time_base = TIME_BASE
        return Picture(frame, packet.pts, True, shape_of(frame, context, frame.rotation))
    return None


def bound() -> None:
    """Take no more memory and time than a picture is worth."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU, MAX_CPU))


def main() -> None:
    parent, nice, width = map(int, sys.argv[1:4])
    die_with_parent(parent)
    os.nice(nice)
    bound()
    confine()
    output, reader, track = Output(1), FrameReader(), None
    try:
        while data := os.read(0, READ):
            for item in reader.receive(data):
                if isinstance(item, Track):
                    track = item
                elif isinstance(item, FramedPacket) and track is not None:
                    picture = still(track, item)
                    if picture is None:
                        raise ValueError("no picture came out of the keyframe")
                    output.message(thumbnail(picture, width))
                    return
    except (av.FFmpegError, ValueError, MemoryError, RemoteProtocolError) as error:
        sys.stderr.write(f"{why(error)}\n")
        sys.exit(FAILED)


if __name__ == "__main__":
    main()
