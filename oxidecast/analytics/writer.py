"""Rows on their way into the database: collected, and written every few seconds.

The one idea: whoever has a row puts it here and goes on. When the database is away the rows wait; when too many wait
the oldest are given up and counted, because what happens now is worth more. A row that the database refuses is given
up alone, and not with those that came with it.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeAlias

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from oxidecast.database.errors import DatabaseError, DatabaseUnavailable
from oxidecast.database.history import (
    Broadcast,
    Measurement,
    ViewerSession,
    write_broadcasts,
    write_measurements,
    write_viewers,
)
from oxidecast.database.interface import IDatabase

EVERY = 2.0
"""Seconds between two writes: what a crash loses, and few enough transactions for a slow disk."""

BATCH = 500
"""Rows in one transaction, so that SQLite's other writers wait a few milliseconds."""

BATCHES = 10
"""Transactions for each table in one turn; the rest waits for the next: a flood is not all that the database does."""

LAST = 1.5
"""Seconds for what waits when the server stops; it is to be gone within 5."""

MOST_BROADCASTS = 10_000
MOST_VIEWERS = 50_000
MOST_MEASUREMENTS = 20_000
"""Rows that wait, about 50 MB together: of broadcasts more than are ever live, of viewers all of an evening's show, of
measurements an hour and a half of 200 renditions."""


Item: TypeAlias = tuple[Hashable, Any]
"""A row, after its key."""


class Waiting:
    """The rows of one table, or functions that make them when their turn comes. A row replaces the one that waits under
    the same key."""

    def __init__(self, table: str, most: int, write: Callable[[Sequence[Any]], Any]) -> None:
        self.table = table
        self.write = write
        """The transaction's body."""
        self.dropped = 0
        """Rows given up so far."""
        self._most = most
        self._rows: OrderedDict[Hashable, Any] = OrderedDict()
        self._taken = 0

    def __len__(self) -> int:
        return len(self._rows) + self._taken

    def put(self, key: Hashable, row: Any) -> None:
        self._rows[key] = row
        self._bound()

    def take(self, count: int) -> list[Item]:
        """The oldest, which are being written until `done`."""
        taken = [self._rows.popitem(last=False) for _ in range(min(count, len(self._rows)))]
        self._taken = len(taken)
        return [(key, row() if callable(row) else row) for key, row in taken]

    def done(self, back: Sequence[Item] = ()) -> None:
        """What was taken is written, but for what comes `back`."""
        self._taken = 0
        for key, row in reversed(back):
            if key not in self._rows:  # else there is a newer one
                self._rows[key] = row
                self._rows.move_to_end(key, last=False)
        self._bound()

    def give_up(self) -> int:
        """Drop all; how many they were."""
        count = len(self)
        self.dropped += count
        self._rows.clear()
        self._taken = 0
        return count

    def _bound(self) -> None:
        while len(self._rows) > self._most:
            self._rows.popitem(last=False)
            self.dropped += 1


class Writer(Service):
    """Takes rows at any time, and writes them while it runs."""

    log = Logger()

    def __init__(self, database: IDatabase, reactor: Any) -> None:
        self._database = database
        self._reactor = reactor
        self._broadcasts = Waiting("stream_sessions", MOST_BROADCASTS, write_broadcasts)
        self._viewers = Waiting("viewer_sessions", MOST_VIEWERS, write_viewers)
        self._measurements = Waiting("stream_metrics", MOST_MEASUREMENTS, write_measurements)
        self.tables = (self._broadcasts, self._viewers, self._measurements)
        self._loop = LoopingCall(self._turn)
        self._loop.clock = reactor
        self._writing: Deferred[None] | None = None
        self._away = False

    def broadcast(self, row: Broadcast) -> None:
        """A broadcast as it is now; only the newest state is written."""
        self._broadcasts.put(row.id, row)

    def viewer(self, key: str, make: Callable[[], ViewerSession]) -> None:
        """A viewer has left. Ten thousand do so at once when a stream ends, so their rows are made a few at a time."""
        self._viewers.put(key, make)

    def measurement(self, row: Measurement) -> None:
        self._measurements.put((row.stream_id, row.rendition, row.at), row)

    @property
    def waiting(self) -> int:
        """Rows that are not yet written."""
        return sum(len(table) for table in self.tables)

    def startService(self) -> None:
        super().startService()
        self._loop.start(EVERY, now=False)

    def stopService(self) -> Deferred[None]:
        """Write what waits, as far as it goes in `LAST` seconds."""
        super().stopService()
        if self._loop.running:
            self._loop.stop()
        last = Deferred.fromCoroutine(self._finish())
        last.addTimeout(LAST, self._reactor)
        last.addErrback(lambda failure: failure.trap(TimeoutError) and None)
        last.addCallback(self._give_up)
        return last

    async def _finish(self) -> None:
        if self._writing is not None:
            await self._writing
        while self.waiting and await self._write_some():
            pass

    def _give_up(self, result: None) -> None:
        lost = sum(table.give_up() for table in self.tables)
        if lost:
            self.log.error("the server stops, and {lost} rows about streams and viewers are lost", lost=lost)

    def _turn(self) -> Deferred[None]:
        turn = Deferred.fromCoroutine(self._write_some())
        self._writing = Deferred()

        def ended(result: Any) -> None:
            writing, self._writing = self._writing, None
            assert writing is not None
            writing.callback(None)

        turn.addErrback(lambda failure: self.log.failure("rows were not written", failure=failure))
        return turn.addCallback(ended)

    async def _write_some(self) -> bool:
        """Write what waits, at most `BATCHES` of each table. False when the database is away."""
        for table in self.tables:
            for _ in range(BATCHES):
                if not len(table):
                    break
                if not await self._write(table):
                    return False
        if self._away:
            self._away = False
            self.log.info("rows about streams and viewers are written again")
        return True

    async def _write(self, table: Waiting) -> bool:
        taken = table.take(BATCH)
        back = taken
        try:
            await self._database.transaction(table.write, [row for _, row in taken])
            back = []
        except CancelledError:
            raise
        except DatabaseUnavailable as error:
            self._say_away(error)
            return False
        except Exception:
            back = await self._write_singly(table, taken)
            return not back
        finally:
            table.done(back)
        return True

    async def _write_singly(self, table: Waiting, taken: list[Item]) -> list[Item]:
        """One of them is refused: find out which, and give it up. Answers those that have to wait."""
        refused, reason = 0, ""
        for number, (_, row) in enumerate(taken):
            try:
                await self._database.transaction(table.write, [row])
            except CancelledError:
                raise
            except DatabaseUnavailable as error:
                self._say_away(error)
                return taken[number:]
            except Exception as error:
                table.dropped += 1
                refused, reason = refused + 1, str(error) if isinstance(error, DatabaseError) else repr(error)
        if refused:
            self.log.error(
                "{count} rows of {table} were given up: {reason}",
                count=refused,
                table=table.table,
                reason=reason,
            )
        return []

    def _say_away(self, error: DatabaseUnavailable) -> None:
        if not self._away:
            self._away = True
            self.log.warn("rows about streams and viewers wait for the database: {error}", error=error)
