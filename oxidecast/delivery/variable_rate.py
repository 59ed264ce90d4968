"""A flow at the rate of its source, smoothed.

The one idea: every packet has a moment by which it must have left, `SPREAD` after it came, and bytes leave no
faster than the most pressing of these moments asks. So a keyframe is spread over the frames around it, a steady
source gives a steady stream, a source that comes in bursts is spread too, and no delay can grow.
"""

from collections import deque
from collections.abc import Callable, Sequence

from oxidecast.delivery.pacing import (
    DATAGRAM,
    FAST,
    SLOW,
    TICK,
    DatagramSink,
    Flow,
    TransportStream,
)
from oxidecast.delivery.send_clock import SendClock

SPREAD = 0.1
"""Seconds from publish to wire. With the tick and `FILL` it stays well below 200 ms; more would smooth more."""
FILL = 0.02
"""Seconds that a datagram may wait for more packets before null packets fill it."""
CATCH_UP = 0.05
"""Seconds over which leaves what a blocked process left behind."""
_LONGEST = 2 * SLOW
"""Seconds of the plan that may leave at once."""
MAX_BACKLOG = 8 << 20
"""Bytes that may wait: half a second of 100 Mbit/s, more than any live stream brings in `SPREAD`."""


class VariableRate(Flow):
    """See the module."""

    def __init__(
        self,
        name: str,
        stream: TransportStream,
        clock: SendClock,
        sinks: Sequence[DatagramSink],
        seconds: Callable[[], float],
        size: int = DATAGRAM,
    ) -> None:
        super().__init__(name, stream, clock, sinks, seconds, size)
        self._put = 0
        self._left = 0
        self._marks: deque[tuple[int, float]] = deque()
        """(all bytes put up to here, when they must have left), both rising."""
        self._rate = 0.0
        self._allowed = 0.0
        """Bytes that the plan has let go and that no full datagram has taken yet."""
        self._counted_at = 0.0
        self._partial_since: float | None = None

    def admits(self, size: int) -> bool:
        return self._queue.size + size <= MAX_BACKLOG or self._overrun(f"{MAX_BACKLOG} bytes wait already")

    def put(self, data: bytes) -> None:
        now = self._seconds()
        queue, marks = self._queue, self._marks
        if queue.size:
            allowed = min(self._allowed + self._rate * min(now - self._counted_at, _LONGEST), queue.size)
        else:
            allowed, self._rate = min(self._allowed, 0.0), 0.0
        self._allowed, self._counted_at = allowed, now
        self._started = True
        queue.put(data)
        self._put += len(data)
        if self._partial_since is None and queue.size < self.size:
            self._partial_since = now
        due = now + SPREAD
        if marks and due - marks[-1][1] < SLOW:
            due = marks.pop()[1]
        marks.append((self._put, due))
        # Who keeps to a plan finds that its most pressing moment goes on to ask the same rate, and the others ask
        # less and less; so only the new one can ask for more.
        wanted = (queue.size - allowed) / (due - now)
        if wanted > self._rate:
            self._pace(wanted)

    def serve(self, now: float) -> None:
        planned = self._planned(now)
        if not self._started:
            return
        if now - planned > SLOW:
            self._resume(now)
        queue, size = self._queue, self.size
        waiting = queue.size
        allowed = self._allowed + self._rate * min(now - self._counted_at, _LONGEST)
        if allowed > waiting:
            allowed = waiting
        self._counted_at = now
        parts: list[bytes] = []
        extra = 0
        following = now + self.interval
        if following > self._head_by:
            parts = self._head(now, following)
            extra = sum(map(len, parts))
        datagrams = int(extra + allowed) // size if allowed > 0 else 0
        if not datagrams and (extra or self._overdue(following)):
            datagrams = -(-extra // size) or 1
        if datagrams:
            media = self._take(datagrams * size - extra, parts)
            allowed -= media
            self._left += media
            self._send(parts, extra + media, datagrams * size, planned)
            waiting -= media
            self._partial_since = now if 0 < waiting < size else None
        self._allowed = allowed
        if self._marks and self._marks[0][0] <= self._left:
            self._plan(now)

    def _overdue(self, following: float) -> bool:
        """Whether too few packets for a datagram would have waited too long by then."""
        since = self._partial_since
        if since is None or self._queue.size >= self.size:
            self._partial_since = None
            return False
        return following - since > FILL

    def _plan(self, now: float) -> None:
        """Forget the marks that are behind us, and find the rate that the others ask for."""
        marks, left = self._marks, self._left
        while marks and marks[0][0] <= left:
            marks.popleft()
        base = left + max(0.0, self._allowed)
        self._pace(max([(end - base) / max(due - now, TICK) for end, due in marks], default=0.0))

    def _pace(self, rate: float) -> None:
        self._rate = max(0.0, rate)
        self.interval = TICK if rate * SLOW >= FAST * self.size else SLOW

    def _resume(self, now: float) -> None:
        """The process stood still: what should have left meanwhile is spread anew."""
        self._marks = deque((end, max(due, now + CATCH_UP)) for end, due in self._marks)
        self._plan(now)
