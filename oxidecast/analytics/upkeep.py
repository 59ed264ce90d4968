"""What grows is let go: months made ahead, old rows deleted, expired tokens swept.

It runs a little after the start and then every hour; so what cannot be done now is done an hour later, and a server
that is started anew every night keeps house too.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from oxidecast.analytics.settings import AnalyticsSettings
from oxidecast.database import partitions
from oxidecast.database.audience import Audience
from oxidecast.database.errors import DatabaseError
from oxidecast.database.history import hour_of
from oxidecast.database.interface import IDatabase
from oxidecast.database.records import utc
from oxidecast.database.retention import delete_before

FIRST = 30.0
"""Seconds after the start: who restarts a server waits for its streams first."""

EVERY = 3600.0


class Upkeep(Service):
    """Runs by itself; `settings()` are those of now."""

    log = Logger()

    def __init__(self, database: IDatabase, clock: Any, settings: Callable[[], AnalyticsSettings]) -> None:
        self._settings = settings
        self._database = database
        self._clock = clock
        self._loop = LoopingCall(self._run)
        self._loop.clock = clock
        self._first: Any = None
        self._running: Deferred[None] | None = None

    def startService(self) -> None:
        super().startService()
        self._first = self._clock.callLater(FIRST, self._loop.start, EVERY)

    def stopService(self) -> None:
        super().stopService()
        if self._first is not None and self._first.active():
            self._first.cancel()
        if self._loop.running:
            self._loop.stop()
        if self._running is not None:
            self._running.cancel()

    def _run(self) -> Deferred[None]:
        self._running = Deferred.fromCoroutine(self.run())
        self._running.addErrback(lambda failure: failure.trap(CancelledError) and None)
        return self._running

    async def run(self) -> None:
        """All of it, each part whatever became of the others."""
        now, settings = utc(self._clock), self._settings()
        # A whole hour, so that the totals of hours go together with all that they count.
        horizon = hour_of(now - timedelta(days=settings.retention_days))
        audit = now - timedelta(days=settings.audit_days)
        database = self._database
        await self._do("making months ahead", partitions.ensure(database, now))
        await self._do("letting old viewers go", self._forget_viewers(horizon))
        for table, column, moment in (
            ("stream_sessions", "started_at", horizon),
            ("refresh_tokens", "expires_at", now),
            ("audit_log", "at", audit),
        ):
            await self._do(f"deleting from {table}", delete_before(database, table, column, moment))

    async def _forget_viewers(self, horizon: datetime) -> None:
        await partitions.drop_before(self._database, horizon)
        await Audience(self._database).forget_before(horizon)

    async def _do(self, what: str, work: Awaitable[None]) -> None:
        try:
            await work
        except CancelledError:
            raise
        except DatabaseError as error:
            self.log.warn("{what} is tried again in an hour: {error}", what=what, error=error)
        except Exception:
            self.log.failure("{what} failed, and is tried again in an hour", what=what)
