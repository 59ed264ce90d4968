"""The common time of one publisher's media, and decoding times, which RTP does not carry.

The one idea: timestamps of RTP are times of presentation. Where they rise, they are times of decoding too; where they
do not, pictures were reordered, and all media is moved a little later once, so that no picture is shown before it is
decoded.
"""

import heapq
from itertools import count
from typing import Final

from oxidecast.media import TICKS
from oxidecast.webrtc.timing import MediaClock

MAX_REORDERED: Final = 16
"""Pictures that may be decoded before one that is shown before them: H.264 and HEVC allow as many."""
MAX_SHIFT: Final = TICKS
"""Ticks that media is moved later, at most: sixteen pictures of a slow stream. What is farther behind is no B-frame."""
RESTART: Final = 10
"""Seconds by which a timestamp may be off from what the time that passed makes of the last one. Beyond it the publisher
has begun another numbering: no clock drifts so far, and who pauses goes on in time."""


class Timeline:
    """Of one publisher."""

    __slots__ = ("_numbers", "clock", "shift")

    def __init__(self) -> None:
        self.clock = MediaClock()
        self.shift = 0
        """Ticks that all media is late, for the sake of reordered pictures."""
        self._numbers = count()

    def number(self) -> int:
        """The name of a new stream, for the clock."""
        return next(self._numbers)


class StreamTime:
    """Of one stream of RTP: its timestamps to ticks."""

    __slots__ = ("_last", "_rate", "_timeline", "number")

    def __init__(self, timeline: Timeline, rate: int) -> None:
        self._timeline = timeline
        self._rate = rate
        self._last: tuple[int, float] | None = None
        self.number = timeline.number()

    def ticks(self, timestamp: int, now: float) -> int:
        """Presentation time of what came at `now`."""
        if self._last is not None:
            expected = self._last[0] + round((now - self._last[1]) * self._rate)
            off = (timestamp - expected + (1 << 31)) % (1 << 32) - (1 << 31)
            if abs(off) > RESTART * self._rate:
                self.forget()
                self.number = self._timeline.number()
        self._last = timestamp, now
        return self._timeline.clock.ticks(self.number, self._rate, timestamp, now) + self._timeline.shift

    def report(self, ntp: int, timestamp: int) -> None:
        """The sender said when a timestamp was."""
        self._timeline.clock.sender_report(self.number, ntp, timestamp)

    def forget(self) -> None:
        """The stream has ended, or begun anew."""
        self._timeline.clock.forget(self.number)
        self._last = None


class DecodingTimes:
    """Of the pictures, in the order of decoding."""

    __slots__ = ("_depth", "_last", "_shown", "_timeline")

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._depth = 0
        """Pictures that are decoded early, as far as was seen."""
        self._shown: list[int] = []
        """A heap of as many times of presentation."""
        self._last: int | None = None

    def stamp(self, pts: int) -> tuple[int, int] | None:
        """(dts, pts) of the next picture; None for one that is too far behind to be shown."""
        last = self._last
        if last is not None and pts <= last:
            late = last + 1 - pts
            if self._timeline.shift + late > MAX_SHIFT:
                return None
            self._timeline.shift += late
            pts += late
            self._depth = min(self._depth + 1, MAX_REORDERED)
        heapq.heappush(self._shown, pts)
        # The least of these is never later than this picture, and the last one is before it by now.
        dts = heapq.heappop(self._shown) if len(self._shown) > self._depth else None
        if last is not None:
            dts = last + 1 if dts is None else max(dts, last + 1)
        self._last = dts = pts if dts is None else dts
        return dts, pts
