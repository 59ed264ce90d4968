"""The storyboard of a stream: its last tiles in one JPEG, and the WebVTT that says where each is, as players use it.

The one idea: tiles are kept as they come, and nothing is made of them until somebody asks. Then a short-lived child
puts them together, once for all who ask before the next tile comes.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from oxidecast.formats.framed_messages import Tile

MOST_TILES = 100
"""Of a stream: at one every ten seconds its last 17 minutes, in some 400 KB."""

LARGEST_TILE = 32 * 1024
"""Bytes: eight times what one usually takes."""

COLUMNS = 10

JPEG, VTT = "storyboard.jpg", "storyboard.vtt"


@dataclass(frozen=True, slots=True)
class Made:
    """A sheet of tiles, and when (UTC seconds) each of them was taken."""

    jpeg: bytes
    tag: str
    size: tuple[int, int]
    """Pixels of one tile."""
    taken: tuple[float, ...]

    def vtt(self, started: float, interval: float, query: str = "") -> str:
        """WebVTT with media fragments (Media Fragments URI 1.0, 4.2.2). Times are seconds of the stream, which
        `started` at that UTC second; the last tile is shown for an `interval`. `query` goes on the sheet's address."""
        wide, high = self.size
        begins = [max(0.0, at - started) for at in self.taken]
        lines = ["WEBVTT"]
        for place, (begin, end) in enumerate(zip(begins, [*begins[1:], begins[-1] + interval], strict=True)):
            x, y = place % COLUMNS * wide, place // COLUMNS * high
            lines += ["", f"{_time(begin)} --> {_time(end)}"]
            lines.append(f"{JPEG}?v={self.tag}{query}#xywh={x},{y},{wide},{high}")
        return "\n".join([*lines, ""])


class Storyboard:
    """One stream's tiles. `make` starts the child, or gives None where as many run as may."""

    def __init__(self, make: Callable[[Sequence[Tile], int], Any]) -> None:
        self._make = make
        self._tiles: deque[tuple[float, Tile]] = deque(maxlen=MOST_TILES)
        self._made: Made | None = None
        self._child: Any = None
        self._waiting: set[Deferred[Made | None]] = set()

    def add(self, tile: Tile | None, at: float) -> None:
        """One more tile, of the UTC second `at`; one of another size begins anew, and one that cannot be is ignored:
        it comes from a process that decodes what strangers send."""
        if tile is None or not tile.jpeg.startswith(b"\xff\xd8\xff") or len(tile.jpeg) > LARGEST_TILE:
            return
        if self._tiles:
            last, before = self._tiles[-1]
            if (before.width, before.height) != (tile.width, tile.height):
                self._tiles.clear()
            elif at <= last:
                return
        self._tiles.append((at, tile))

    async def sheet(self) -> Made | None:
        """The sheet of all tiles that there are, or of those of a moment ago; None where there is none. Many may ask at
        once, and each may give up."""
        if not self._tiles:
            return None
        if self._made is not None and self._made.taken[-1] == self._tiles[-1][0]:
            return self._made
        if self._child is None and not self._begin():
            return self._made
        waiter: Deferred[Made | None] = Deferred()
        self._waiting.add(waiter)
        try:
            return await waiter
        finally:
            self._waiting.discard(waiter)

    def close(self) -> None:
        """The stream has ended."""
        self._tiles.clear()
        if self._child is not None:
            self._child.kill()

    # -- inside

    def _begin(self) -> bool:
        taken, tiles = zip(*self._tiles, strict=True)
        child = self._make(tiles, COLUMNS)
        if child is None:
            return False
        self._child = child

        def over(result: bytes | Failure) -> None:
            self._child = None
            if not isinstance(result, Failure) and result.startswith(b"\xff\xd8\xff"):
                tag = hashlib.sha256(result).hexdigest()[:16]
                self._made = Made(result, tag, (tiles[0].width, tiles[0].height), taken)
            waiting, self._waiting = self._waiting, set()
            for waiter in waiting:
                waiter.callback(self._made)

        child.result.addBoth(over)
        return True


def _time(seconds: float) -> str:
    """WebVTT's, with hours (WebVTT, 4.1)."""
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02}.{milliseconds % 1000:03}"
