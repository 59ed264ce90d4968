"""Which of a feed's payloads is under which of a viewer's numbers, and what time each frame bears for the viewer.

The one idea: a viewer's numbers count on without a gap, whatever it is sent; a *span* is a stretch in which they go in
step with the places of one feed. Times never go back: a frame bears its own, or where that is not after the last one, a
moment after it. So a group of pictures that is sent late, or again, and another rendition that is behind are one thing.
"""

import msgspec

from oxidecast.outputs.webrtc.feed import Feed, Frame

STEP = 90
"""Ticks between frames that have no time of their own: a millisecond, as fast as a decoder goes through them."""


class Span(msgspec.Struct, frozen=True, gc=False):
    """From the packet `own` on."""

    own: int
    place: int
    feed: Feed
    start: int
    """The number of its first frame."""
    base: int
    """The least time of that one; of those after it, a `step` more each."""
    step: int

    def stamp(self, frame: Frame) -> int:
        return max(frame.timestamp, self.base + (frame.number - self.start) * self.step)
