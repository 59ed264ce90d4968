"""Pictures on their way from the decoder to one encoder: what is known of them, and a bounded queue.

The one idea: the decoder waits for no encoder that is too slow. A queue that is full loses whole pictures, the ones
that come while it is full, which spreads them evenly; but never a keyframe, since those are the same in all feeds. It
does wait when the pictures are what is too fast: after a network has stood still, seconds of them come at once
(`Ahead`).
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

from oxidecast.media import TICKS
from oxidecast.transcoding.sizes import display_size

MAX_QUEUED = 16
"""Pictures: half a second at 30 a second, more than any hiccup of an encoder that keeps up on the whole."""
MIN_QUEUED = 4
MAX_QUEUED_BYTES = 64 * 1024 * 1024
"""What decoded pictures may take in a queue; the queues of one stream share them. Large ones are therefore fewer."""


class Shape(NamedTuple):
    """What a scaler and an encoder are set up for."""

    width: int
    height: int
    format: str
    pixel_shape: Fraction
    rotation: int
    """Degrees, counter-clockwise, as FFmpeg's display matrix has it."""
    colorspace: int
    color_range: int
    color_primaries: int
    color_trc: int

    @property
    def display_size(self) -> tuple[int, int]:
        return display_size(self.width, self.height, self.pixel_shape, self.rotation)


class Picture(NamedTuple):
    """A decoded picture. The frame is shared by all feeds: nobody changes it."""

    frame: Any
    pts: int
    keyframe: bool
    shape: Shape


def most_queued(shape: Shape) -> int:
    """How many such pictures may wait."""
    size = shape.width * shape.height * (3 if "10" in shape.format or "12" in shape.format else 1.5)
    return max(MIN_QUEUED, min(MAX_QUEUED, int(MAX_QUEUED_BYTES / size)))


class Ahead:
    """How far pictures are ahead of the clock, which is how long they may wait for encoders: those that are too slow
    for pictures as they usually come use it up, and it comes back only by pictures that come sooner."""

    MOST = 10.0
    """Seconds: what came at once after longer than that is older than what viewers have buffered."""
    CATCHING_UP = 0.9
    """Of a picture's time counts, so that one who waits all the time gets back to the present."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = 0.0
        self._clock = clock
        self._last: tuple[int, float] | None = None

    def picture(self, pts: int) -> float:
        """One has come; answers `seconds`."""
        now = self._clock()
        if self._last is not None:
            media = (pts - self._last[0]) / TICKS * self.CATCHING_UP
            self.seconds = min(max(self.seconds + media - (now - self._last[1]), 0.0), self.MOST)
        self._last = pts, now
        return self.seconds

    def forget(self) -> None:
        """What comes does not continue what came."""
        self.seconds, self._last = 0.0, None


class FrameQueue:
    """Pictures, and orders that keep their place among them and are never lost."""

    def __init__(self) -> None:
        self.dropped = 0
        self._items: deque[Picture | Callable[[], None]] = deque()
        self._pictures = 0
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return self._pictures

    def put(self, picture: Picture, most: int, until: float | None = 0.0) -> None:
        """Take it, unless `most` wait already. `until` that second of `time.monotonic` it may be waited for that fewer
        do; None for ever."""
        with self._changed:
            while self._pictures >= most:
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    break
                self._changed.wait(left)
            if self._pictures >= most:
                self.dropped += 1
                if not picture.keyframe or not self._make_room():
                    return
            self._items.append(picture)
            self._pictures += 1
            self._changed.notify_all()

    def order(self, order: Callable[[], None]) -> None:
        """Have it called by the reader, after all pictures before it."""
        with self._changed:
            self._items.append(order)
            self._changed.notify_all()

    def take(self) -> Picture | Callable[[], None]:
        """Wait for the next one."""
        with self._changed:
            while not self._items:
                self._changed.wait()
            item = self._items.popleft()
            if isinstance(item, Picture):
                self._pictures -= 1
                self._changed.notify_all()
            return item

    def _make_room(self) -> bool:
        """Lose the latest picture that is no keyframe."""
        for at in range(len(self._items) - 1, -1, -1):
            item = self._items[at]
            if isinstance(item, Picture) and not item.keyframe:
                del self._items[at]
                self._pictures -= 1
                return True
        return False
