"""A filter graph that makes one size and pixel format of decoded pictures, and turns those that lie on their side.

Not `VideoReformatter`: it changes the source frame while it works, which other threads read at the same time.
"""

from typing import Any

import av.filter

from oxidecast.media import TICKS
from oxidecast.transcoding.worker.frames import Shape

# The frame's rotation is counter-clockwise; a transposed picture is turned the same way.
_TURNS = {
    90: (("transpose", "cclock"),),
    270: (("transpose", "clock"),),
    180: (("hflip", None), ("vflip", None)),
}


def scaler(shape: Shape, size: tuple[int, int], pixel_format: str, full_range: bool = False) -> Any:
    """A configured graph: `push` a frame, `vpull` the one made of it. Bicubic; from more bits it is dithered."""
    graph = av.filter.Graph()
    graph.threads = 1
    source = graph.add(
        "buffer",
        f"width={shape.width}:height={shape.height}:pix_fmt={shape.format}:time_base=1/{TICKS}"
        f":colorspace={shape.colorspace}:range={shape.color_range}",
    )
    turn = [graph.add(name, argument) for name, argument in _TURNS.get(shape.rotation % 360, ())]
    scale = f"{size[0]}:{size[1]}:flags=bicubic" + (":out_range=full" if full_range else "")
    graph.link_nodes(
        source,
        *turn,
        graph.add("scale", scale),
        graph.add("format", pixel_format),
        graph.add("setsar", "1"),
        graph.add("buffersink"),
    )
    graph.configure()
    return graph
