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
        if not self._queue.size:
            self._allowed, self._counted_at = min(self._allowed, 0.0), now
        else:
            self._count(now)
        self._started = True
        self._queue.put(data)
        self._put += len(data)
        if self._partial_since is None and self._queue.size < self.size:
            self._partial_since = now
        due = now + SPREAD
        if self._marks and due - self._marks[-1][1] < TICK:
            due = self._marks.pop()[1]
        self._marks.append((self._put, due))
        self._plan(now)

    def serve(self, now: float) -> None:
        planned = self._planned(now)
        if not self._started:
            return
        if now - planned > SLOW:
            self._resume(now)
        self._count(now)
        head = self._head(now, now + self.interval)
        queue = self._queue
        size, waiting = self.size, queue.size
        extra = sum(map(len, head))
        datagrams = int(extra + max(0.0, self._allowed)) // size
        if head and not datagrams:
            datagrams = -(-extra // size)
        if not datagrams and self._overdue(now):
            datagrams = 1
        if datagrams:
            media = min(datagrams * size - extra, waiting)
            queue.take(media, head)
            self._allowed -= media
            self._left += media
            self._send(head, extra + media, datagrams * size, planned)
            self._forget(now)

    def _count(self, now: float) -> None:
        """Let go what the rate allows since last time."""
        self._allowed = min(self._allowed + self._rate * (now - self._counted_at), self._queue.size)
        self._counted_at = now

    def _overdue(self, now: float) -> bool:
        """Whether too few packets for a datagram have waited long enough."""
        waiting = self._queue.size
        if self._partial_since is None or waiting >= self.size:
            self._partial_since = None
            return False
        return now + self.interval - self._partial_since > FILL

    def _forget(self, now: float) -> None:
        """Drop the marks that are behind us, after which the others may ask for less."""
        self._partial_since = now if 0 < self._queue.size < self.size else None
        marks, left = self._marks, self._left
        if marks and marks[0][0] <= left:
            while marks and marks[0][0] <= left:
                marks.popleft()
            self._plan(now)

    def _plan(self, now: float) -> None:
        base = self._left + max(0.0, self._allowed)
        rate = 0.0
        for end, due in self._marks:
            wanted = (end - base) / max(due - now, TICK)
            if wanted > rate:
                rate = wanted
        self._rate = rate
        self.interval = TICK if rate * SLOW >= FAST * self.size else SLOW

    def _resume(self, now: float) -> None:
        """The process stood still: what should have left meanwhile is spread anew."""
        self._marks = deque((end, max(due, now + CATCH_UP)) for end, due in self._marks)
        self._counted_at = now
        self._plan(now)
