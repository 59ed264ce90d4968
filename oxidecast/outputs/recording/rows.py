"""The rows of recordings, written behind the files.

The one idea: a file never waits for its row. What a row should say is noted, the latest for each recording, and written
as soon as the database takes it; what a server could not write before it ended is found again by `repair`.
"""

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from oxidecast.database import DatabaseError, DatabaseUnavailable
from oxidecast.database.recordings import Recording, Recordings

RETRY = 5.0
"""Seconds before the database is tried again."""

MOST_WAITING = 10_000
"""Recordings that wait for the database; further ones are left to the next start, which finds their files."""


class Rows:
    """Notes what rows should say, and writes it."""

    log = Logger()

    def __init__(self, recordings: Recordings, clock: IReactorTime) -> None:
        self._recordings = recordings
        self._clock = clock
        self._waiting: dict[str, Recording] = {}
        self._added: set[str] = set()
        """Those of this server's recordings that have a row, as long as they are written."""
        self._working = False
        self._stopping = False
        self._pausing: Deferred[None] | None = None
        self._idle: list[Deferred[None]] = []

    def note(self, one: Recording) -> None:
        """The row of this recording is to say this."""
        if one.id not in self._waiting and len(self._waiting) >= MOST_WAITING:
            self.log.error("a recording's row waits for the next start: {id}", id=one.id)
            return
        self._waiting[one.id] = one
        if not self._working:
            self._working = True
            Deferred.fromCoroutine(self._work()).addErrback(self._broken)

    def stop(self) -> Deferred[None]:
        """Fires when all is written, or the database does not take it now."""
        self._stopping = True
        done: Deferred[None] = Deferred()
        if self._pausing is not None:
            self._pausing.callback(None)
        if self._working:
            self._idle.append(done)
        else:
            done.callback(None)
        return done

    async def _work(self) -> None:
        while self._waiting:
            one = self._waiting.pop(next(iter(self._waiting)))
            try:
                await self._write(one)
            except DatabaseUnavailable as error:
                self._waiting.setdefault(one.id, one)
                if not self._stopping:
                    self.log.warn("a recording's row waits for the database: {error}", error=error)
                    await self._pause()
                if self._stopping:
                    break
            except DatabaseError as error:
                self.log.error("a recording has no row: {error}", error=error)
        self._working = False
        self._rest()

    async def _write(self, one: Recording) -> None:
        if one.id not in self._added:
            await self._recordings.add(one)
            self._added.add(one.id)
        # A row that is gone was deleted meanwhile, and stays so.
        await self._recordings.update(one)
        if one.state != "writing":
            self._added.discard(one.id)

    def _rest(self) -> None:
        idle, self._idle = self._idle, []
        for waiter in idle:
            waiter.callback(None)

    async def _pause(self) -> None:
        waiting = self._pausing = Deferred[None]()
        waiting.addTimeout(RETRY, self._clock, onTimeoutCancel=lambda result, after: None)
        await waiting
        self._pausing = None

    def _broken(self, failure: Failure) -> None:
        self._working = False
        self._rest()
        self.log.failure("a recording's row could not be written", failure=failure)
