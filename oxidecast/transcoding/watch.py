"""What makes a supervisor kill its child: silence, idleness and size.

The one idea: it counts looks, not time. A reactor that stood still has not let the child speak.
"""

from collections.abc import Callable

from oxidecast.formats.framed_messages import Figures

SILENT = 2.5
"""Seconds without a word, after the first one: it owes one every second, whatever it does."""

SILENT_AT_START = 15
"""Before its first word: a busy machine takes a few seconds to load the libraries."""

ASLEEP_AT_START = 3.0
"""Seconds before its first word in which it did nothing and waited for no disk and no processor: on the busiest machine
a start that is only slow does not look so."""

STUCK = 10
"""Seconds without a packet for pictures that it holds, or without it reading: a large picture at a slow preset may take
one, and a decoder some for a burst."""

LOOK_EVERY = 0.5
"""Seconds; all of these are multiples of it."""

MAX_MEMORY = 2 * 1024 * 1024 * 1024
"""Bytes resident. A ladder of 1080p takes 300 MB, of 2160p 1 GB; what takes more has been fed something crafted."""


class Watch:
    """Over one child after another: `begin` with each, tell it what the child does, and `look` every `LOOK_EVERY`."""

    def __init__(
        self, max_memory: int, memory_of: Callable[[int], int | None], asleep_of: Callable[[int], int | None]
    ) -> None:
        """The functions are `process.resident` and `process.asleep`."""
        self._max_memory = max_memory
        self._memory_of = memory_of
        self._asleep_of = asleep_of
        self._idle: dict[int, int] = {}
        self.begin()

    def begin(self) -> None:
        """A new child was started."""
        self._silent = self._unread = self._asleep = 0.0
        """Seconds since it spoke, since it read, and since it did anything before it spoke."""
        self._has_spoken = False
        self._used: int | None = None
        """Of the processor, when it was last seen asleep."""
        self._last_read = -1
        self._rss = 0
        self._idle.clear()

    def spoke(self) -> None:
        self._silent, self._has_spoken = 0.0, True

    def gave(self, feed: int) -> None:
        """A packet of this feed."""
        self._idle.pop(feed, None)

    def asked_for_else(self) -> None:
        """Its feeds are others now."""
        self._idle.clear()

    def figures(self, figures: Figures) -> None:
        self._rss = figures.rss
        if figures.read != self._last_read:
            self._last_read = figures.read
            self._unread = 0.0
        for feed in figures.feeds:
            # A feed whose queue is empty has nothing to do: the source has stopped, or cannot be decoded.
            if feed.queue:
                self._idle[feed.feed] = self._idle.get(feed.feed, 0) + 1
            else:
                self._idle.pop(feed.feed, None)

    def look(self, pid: int, waiting: int) -> str | None:
        """Why the child is to be killed, if it is. `waiting` are bytes that it has not read."""
        self._silent += LOOK_EVERY
        self._unread = self._unread + LOOK_EVERY if waiting else 0.0
        memory = self._memory_of(pid)
        if memory is not None:
            # It may have a process of its own.
            memory = max(memory, self._rss)
            if memory > self._max_memory:
                return f"it holds {memory >> 20} MiB of memory, above {self._max_memory >> 20}"
        if not self._has_spoken and self._sleeps(pid):
            return f"it has done nothing for {self._asleep:g} seconds before its first word"
        if self._silent >= (SILENT if self._has_spoken else SILENT_AT_START):
            return f"it has said nothing for {self._silent:g} seconds"
        if self._unread >= STUCK:
            return f"it has read nothing for {STUCK} seconds"
        stuck = next((feed for feed, seconds in self._idle.items() if seconds >= STUCK), None)
        return f"feed {stuck} has given no picture for {STUCK} seconds" if stuck is not None else None

    def _sleeps(self, pid: int) -> bool:
        used, before = self._asleep_of(pid), self._used
        self._asleep = self._asleep + LOOK_EVERY if used is not None and used == before else 0.0
        self._used = used
        return self._asleep >= ASLEEP_AT_START
