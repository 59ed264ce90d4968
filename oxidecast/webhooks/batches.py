"""Many small things in one event: who joined and left, and who was refused.

The one idea: their number is a stranger's choice. So they are told of every few seconds, so many at most, with the
count of the others; or a script that guesses keys would push everything else out of the queues.
"""

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime

INTERVAL = 3.0
"""Seconds from the first thing of a batch to its event."""

MOST = 100
"""Things in an event: about 20 KB, which the specification of webhooks recommends as the most."""


class Batch:
    """What came since the last event. `send` is given the things, each with its kind, and how many were left out."""

    def __init__(
        self, clock: IReactorTime, send: Callable[[list[tuple[str, dict[str, Any]]], int], None]
    ) -> None:
        self._clock = clock
        self._send = send
        self._items: list[tuple[str, dict[str, Any]]] = []
        self._omitted = 0
        self._timer: IDelayedCall | None = None

    def add(self, kind: str, item: dict[str, Any]) -> None:
        if len(self._items) < MOST:
            self._items.append((kind, item))
        else:
            self._omitted += 1
        if self._timer is None:
            self._timer = self._clock.callLater(INTERVAL, self.flush)

    def flush(self) -> None:
        """Send what there is, at once."""
        timer, self._timer = self._timer, None
        if timer is None:
            return
        if timer.active():
            timer.cancel()
        items, omitted, self._items, self._omitted = self._items, self._omitted, [], 0
        self._send(items, omitted)
