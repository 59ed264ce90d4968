"""Small JPEGs of the pictures that are decoded anyway, in a thread of their own."""

import threading
from fractions import Fraction
from typing import Any

import av

from oxidecast.formats.framed_messages import Thumbnail, Tile
from oxidecast.media import TICKS
from oxidecast.transcoding.sizes import fit
from oxidecast.transcoding.worker.frames import FrameQueue, Picture
from oxidecast.transcoding.worker.output import Output
from oxidecast.transcoding.worker.scaling import scaler

QUALITY = 5
"""FFmpeg's qscale, 2 best to 31: some 40 KB at 640x360."""


TILE = 160
"""Pixels that a tile is wide at most (high, where it is upright): some 4 KB."""


class Thumbnailer(threading.Thread):
    """Takes a picture every so many seconds of media; the first one that it is offered is one."""

    def __init__(self, output: Output) -> None:
        super().__init__(daemon=True, name="thumbnails")
        self.every = 0.0
        """Seconds; 0 for none."""
        self.width = 640
        self._output = output
        self._queue = FrameQueue()
        self._next: int | None = None

    def forget(self) -> None:
        """The source begins anew: so does the count."""
        self._next = None

    def is_due(self, pts: int) -> bool:
        """Whether the picture at `pts` is one to take."""
        return bool(self.every) and (self._next is None or pts >= self._next)

    def offer(self, picture: Picture, wait: bool) -> None:
        if not self.is_due(picture.pts):
            return
        self._next = picture.pts + int(self.every * TICKS)
        self._queue.put(picture, 1, None if wait else 0.0)

    def drain(self, done: threading.Event) -> None:
        self._queue.order(done.set)

    def run(self) -> None:
        while True:
            item = self._queue.take()
            if not isinstance(item, Picture):
                item()
                continue
            try:
                self._output.message(thumbnail(item, self.width))
            except (av.FFmpegError, ValueError):
                # A damaged picture: the next one comes soon.
                continue


def thumbnail(picture: Picture, width: int) -> Thumbnail:
    """The picture as a JPEG, at most `width` wide (or high, where it is upright), and a tile of it."""
    wide, high, jpeg = _scaled(picture, width)
    tile_wide, tile_high, tile = _scaled(picture, min(width, TILE))
    return Thumbnail(
        pts=picture.pts,
        width=wide,
        height=high,
        jpeg=jpeg,
        tile=Tile(width=tile_wide, height=tile_high, jpeg=tile),
    )


def _scaled(picture: Picture, width: int) -> tuple[int, int, bytes]:
    shape = picture.shape
    wide, high = fit(shape.display_size, (width, width))
    graph = scaler(shape, (wide, high), "yuvj420p", full_range=True)
    graph.push(picture.frame)
    return wide, high, jpeg_of(graph.vpull(), wide, high)


def jpeg_of(frame: Any, wide: int, high: int) -> bytes:
    """A frame of yuvj420p as a JPEG."""
    encoder: Any = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt = wide, high, "yuvj420p"
    encoder.time_base, encoder.framerate = Fraction(1, TICKS), Fraction(1)
    encoder.options = {"flags": "+qscale", "global_quality": str(QUALITY * 118)}
    frame.pts, frame.time_base, frame.pict_type = 0, Fraction(1, TICKS), 0
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])
