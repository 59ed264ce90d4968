"""How a viewer gets from one feed of pictures to another: at a keyframe of the new one, without a gap.

The one idea: both feeds bear the stream's own time, and one of them is behind, for an encoder takes a while. When the
new one is ahead, the old one goes on until it is as far as the keyframe; when it is behind, it is gone over to at once,
and its first frames are stamped a moment apart (`numbering.py`), since time cannot go back.
"""

from collections.abc import Callable

from oxidecast.media import TICKS
from oxidecast.outputs.webrtc.feed import Feed, Frame

LONGEST = TICKS
"""How long it is waited for the old feed: one that is further behind does not come, or the picture does not matter."""


class Crossing:
    """A reader of the new feed, until the viewer is. `latest` says what time the last frame bore that was sent; `cross`
    is called once, with the frame to begin with, and answers whether that could be done."""

    __slots__ = ("_cross", "_key", "_latest", "feed")

    def __init__(self, feed: Feed, latest: Callable[[], int], cross: Callable[[Frame], bool]) -> None:
        self.feed = feed
        self._latest = latest
        self._cross = cross
        self._key: Frame | None = None

    def start(self, affordable: float) -> None:
        """Begin with the keyframe that there is, if what came since has at most so many bytes; else with the next one,
        which is asked for."""
        self.feed.watching[self] = None
        group = self.feed.group()
        if group and sum(frame.size for frame in group) <= affordable:
            self._found(group[0])
        else:
            self.feed.rendition.want_keyframe()

    def stop(self) -> None:
        self.feed.watching.pop(self, None)

    def passes(self, frame: Frame) -> bool:
        """The old feed's next frame, which is not sent if the answer is yes: the viewer is over."""
        return self._key is not None and frame.timestamp >= self._key.timestamp and self._go()

    def anew(self) -> None:
        """What the new feed had is no beginning any more."""
        self._key = None

    # -- feed.Watches

    def picture(self, frame: Frame) -> None:
        if self._key is None:
            if frame.keyframe:
                self._found(frame)
        elif frame.timestamp - self._key.timestamp > LONGEST:
            self._go()

    # -- inside

    def _found(self, frame: Frame) -> None:
        self._key = frame
        if self._latest() >= frame.timestamp:
            self._go()

    def _go(self) -> bool:
        key, self._key = self._key, None
        return key is not None and self._cross(key)
