"""How late the reactor is: what everybody whom the server serves has to wait for.

One timer asks to be called again and again, and notes how much later it was.
"""

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from oxidecast.metrics.lateness import Lateness

INTERVAL = 0.05
"""Seconds: a call that takes 10 ms is seen by one look in five, which is enough for a percentile, and twenty looks a
second cost nothing."""


class ReactorWatch(Service):
    """Looks while it runs."""

    def __init__(self, clock: IReactorTime) -> None:
        self.lateness = Lateness()
        self._clock = clock
        self._next: IDelayedCall | None = None

    def startService(self) -> None:
        super().startService()
        self._ask()

    def stopService(self) -> None:
        super().stopService()
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _ask(self) -> None:
        self._next = self._clock.callLater(INTERVAL, self._called, self._clock.seconds() + INTERVAL)

    def _called(self, planned: float) -> None:
        # A clock that was set back is not early.
        self.lateness.add(max(0.0, self._clock.seconds() - planned))
        self._ask()
