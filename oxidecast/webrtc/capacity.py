"""Whether one more viewer is served on time: new ones are refused before those who watch notice.

The one idea: frames are late when the reactor's thread has no time left. So that time is measured, and not how many
viewers there are: one of 10 Mbit/s costs four of 2.5. Every second it is read what the thread used of its core (by its
own clock: other threads' work does not count), and smoothed over some seconds. Who has come since is not in that figure
yet, and is reckoned at what viewers cost so far. Beyond `CEILING` nobody is let in: `bench/webrtc.py` shows how late
frames are at which share of a core.

Other programs may take the core, too, which that clock does not see. So it is also measured how late the reactor calls,
and nobody is let in while that is above `LATE` on the average.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall

LOOK: Final = 0.1
"""Seconds between two looks at how late the reactor is: ten a second cost nothing."""

WINDOW: Final = 10
"""Looks between two measurements of the core's share: in a second there is a keyframe, or half of one."""

CEILING: Final = 0.55
"""Share of a core. A frame of all viewers takes this part of the time between two, and a keyframe, which is several
times as large, more than all of it: at this share one frame in a hundred was 50 ms late, which buffers just hide."""

LATE: Final = 0.1
"""Seconds of lateness, on the average: then other programs take so much that nobody is served on time."""

MOST_LATE: Final = 0.2
"""Seconds that one look counts at most: a machine that stood still for a second is not slow for that."""

LEAST, MOST = 0.0015, 0.01
"""What a viewer is reckoned to cost, of a core: at least what one of 2.5 Mbit/s was measured to, and at most one of 20
Mbit/s. Between them it is what all who watch cost together, with all else that the server does."""

_LOAD_SMOOTHING = 0.4
_LATE_SMOOTHING = 0.05
"""What a measurement counts against those before it: both averages are over two seconds or three."""


class Capacity:
    """Measures while it is started. `clock` is the reactor, `viewers` says how many there are, and `busy` how many
    seconds of CPU the reactor's thread has used."""

    def __init__(
        self, clock: Any, viewers: Callable[[], int], busy: Callable[[], float] = time.thread_time
    ) -> None:
        self.load = 0.0
        """Share of a core that the reactor's thread uses, lately."""
        self.lateness = 0.0
        """Seconds that calls of the reactor were late, lately."""
        self._clock = clock
        self._viewers = viewers
        self._busy = busy
        self._next: IDelayedCall | None = None
        self._looks = 0
        self._since = (0.0, 0.0)
        """Time and CPU at the last measurement."""
        self._fresh: deque[int] = deque([0] * 3, maxlen=3)
        """Who came in the measurements of late, the newest last: they are not in `load` yet, or not wholly."""

    def start(self) -> None:
        """In the reactor's thread."""
        self._since = (self._clock.seconds(), self._busy())
        self._ask()

    def stop(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None

    @property
    def has_room(self) -> bool:
        """Whether one more disturbs nobody, as far as can be told. The first may always come."""
        if not self._viewers():
            return True
        return self.lateness <= LATE and self.load + (sum(self._fresh) + 1) * self._cost() <= CEILING

    def came(self) -> None:
        """One more was let in."""
        self._fresh[-1] += 1

    def _cost(self) -> float:
        watching = self._viewers() - sum(self._fresh)
        return min(MOST, max(LEAST, self.load / watching)) if watching > 0 else LEAST

    def _ask(self) -> None:
        self._next = self._clock.callLater(LOOK, self._look, self._clock.seconds() + LOOK)

    def _look(self, planned: float) -> None:
        now = self._clock.seconds()
        # A clock that was set back is not early.
        late = min(MOST_LATE, max(0.0, now - planned))
        self.lateness += (late - self.lateness) * _LATE_SMOOTHING
        self._looks += 1
        if self._looks % WINDOW == 0:
            began, used = self._since
            self._since = now, busy = now, self._busy()
            share = min(1.0, max(0.0, (busy - used) / max(now - began, LOOK)))
            self.load += (share - self.load) * _LOAD_SMOOTHING
            self._fresh.append(0)
        self._ask()
