"""Whether there is room for more on the disk: the operator's bound for recordings, and a floor below which nobody goes.

What is over the bound is refused, never made room for by removing something: what was recorded stays until its owner
deletes it. Every call but `wrote` looks at the disk, and belongs into a thread.
"""

from collections.abc import Callable

from oxidecast.delivery.stored import Store

FLOOR = 536_870_912
"""Bytes that stay free on the disk: the database and the logs, which mostly lie on the same one, must go on."""

MEASURED = 60.0
"""Seconds for which a measurement of the directory holds; what is written meanwhile is added to it."""


class NoRoom(Exception):
    """A sentence for people."""


class Room:
    """`limit` is `storage.max_storage_size`, 0 for none; `seconds` a clock."""

    def __init__(self, store: Store, limit: int, seconds: Callable[[], float]) -> None:
        self._store = store
        self._limit = limit
        self._seconds = seconds
        self._used = 0
        self._measured_at: float | None = None

    def require(self, size: int) -> None:
        """Raises NoRoom when `size` bytes more are too much."""
        if self._limit:
            now = self._seconds()
            if self._measured_at is None or now - self._measured_at >= MEASURED:
                self._measured_at, self._used = now, self._store.size()
            if self._used + size > self._limit:
                raise NoRoom(
                    "the recordings have reached storage.max_storage_size: delete some, or set another bound"
                )
        if self._store.free() - size < FLOOR:
            raise NoRoom(f"fewer than {FLOOR >> 20} MiB are free on the disk of the recordings: make room")

    def wrote(self, size: int) -> None:
        self._used += size
