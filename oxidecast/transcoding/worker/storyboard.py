"""`python -m oxidecast.transcoding.worker.storyboard PARENT NICE COLUMNS`: tiles side by side in one JPEG, and no more.

PARENT is the process id of the server, with which it dies. It reads tiles of one size from its standard input, and
writes a `Thumbnail` to its standard output (`formats/framed.py`). The exit code is 0 when it has made one. The tiles
are of a process that decodes what strangers send, so this one trusts them as little.
"""

import os
import sys
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import av
import av.filter

from oxidecast.formats.framed import FrameReader
from oxidecast.formats.framed_messages import Thumbnail, Tile
from oxidecast.media import RemoteProtocolError
from oxidecast.transcoding.worker.confinement import confine, die_with_parent
from oxidecast.transcoding.worker.decoders import why
from oxidecast.transcoding.worker.output import FAILED, Output
from oxidecast.transcoding.worker.still import READ, bound
from oxidecast.transcoding.worker.thumbnails import jpeg_of


def sheet(tiles: Sequence[Tile], columns: int) -> Thumbnail:
    """The tiles row by row. Raises av.FFmpegError, and ValueError for what are not tiles of one size."""
    first = tiles[0]
    rows = -(-len(tiles) // columns)
    graph: Any = av.filter.Graph()
    graph.threads = 1
    size = f"width={first.width}:height={first.height}"
    graph.link_nodes(
        graph.add("buffer", f"{size}:pix_fmt=yuvj420p:time_base=1/1:range=pc"),
        graph.add("tile", f"{columns}x{rows}"),
        graph.add("buffersink"),
    )
    graph.configure()
    for place, tile in enumerate(tiles):
        decoder: Any = av.CodecContext.create("mjpeg", "r")
        frames: list[Any] = [*decoder.decode(av.Packet(tile.jpeg)), *decoder.decode(None)]
        shapes = [(one.width, one.height, one.format.name) for one in frames]
        if shapes != [(first.width, first.height, "yuvj420p")]:
            raise ValueError("the tiles are not pictures of one size")
        (frame,) = frames
        frame.pts, frame.time_base = place, Fraction(1)
        graph.push(frame)
    # What is left of the last row is filled at the end.
    graph.push(None)
    made = graph.vpull()
    wide, high = made.width, made.height
    return Thumbnail(pts=0, width=wide, height=high, jpeg=jpeg_of(made, wide, high))


def main() -> None:
    parent, nice, columns = map(int, sys.argv[1:4])
    die_with_parent(parent)
    os.nice(nice)
    bound()
    confine()
    output, reader = Output(1), FrameReader()
    tiles: list[Tile] = []
    try:
        while data := os.read(0, READ):
            tiles += [item for item in reader.receive(data) if isinstance(item, Tile)]
        if not tiles:
            raise ValueError("there are no tiles")
        output.message(sheet(tiles, columns))
    except (av.FFmpegError, ValueError, MemoryError, RemoteProtocolError) as error:
        sys.stderr.write(f"{why(error)}\n")
        sys.exit(FAILED)


if __name__ == "__main__":
    main()
