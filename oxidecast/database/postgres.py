"""PostgreSQL by txpostgres and psycopg2, without threads.

Transactions are serializable: their bodies are written for SQLite's single writer, and PostgreSQL undoes one of two
that got in each other's way, which is then run again.
"""

import random
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import lru_cache
from typing import Any, TypeVar

import msgspec
import psycopg2
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import deferLater
from zope.interface import implementer

from oxidecast.database.connections import (
    BEGIN,
    GRACE,
    STATEMENT_TIMEOUT,
    Connection,
    Connector,
    Cursor,
    Pool,
)
from oxidecast.database.errors import Conflict, DatabaseError, DatabaseUnavailable
from oxidecast.database.interface import NONE, Body, IDatabase, P, Params, Row, T
from oxidecast.database.settings import POOL_SIZE

R = TypeVar("R")

MAXIMUM_WAITING = 1000
"""Calls at once. Beyond, PostgreSQL does not keep up, and more waiting would be memory growth."""
MOST_ATTEMPTS = 20
"""Runs of a transaction that others got in the way of."""
LONGEST_DETOUR = 0.05
"""Seconds before the next such run; chance keeps those who collided apart."""
EXCLUSIVE_TIME = 3600.0
"""Seconds that each statement of a migration may take, and its wait for that of another server."""
EXCLUSIVE_LOCK = 0x0C1DECA5
"""The advisory lock's number, the same for all versions of OxideCast."""
BEGIN_EXCLUSIVE = "begin isolation level read committed"
"""Whoever waited for the lock must see what was committed meanwhile; a serializable snapshot is older than that."""


@implementer(IDatabase)
class PostgresDatabase:
    """A database of a server. Nothing is connected before it is first used."""

    flavour = "postgres"

    def __init__(self, url: str, reactor: Any, pool_size: int = POOL_SIZE) -> None:
        """Raises ValueError for what is no URL of PostgreSQL."""
        self._reactor = reactor
        self._pool = Pool(Connector(url, reactor).connect, pool_size, reactor)
        self._running = 0
        self._closed: Deferred[None] | None = None

    def query(self, sql: str, params: Params = NONE) -> Deferred[list[Row]]:
        return self._run(self._query, sql, params)

    def execute(self, sql: str, params: Params = NONE) -> Deferred[int]:
        return self._run(self._execute, sql, params)

    def transaction(self, body: Callable[P, Body[T]], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        return self._run(self._transact, lambda: body(*args, **kwargs))

    def exclusive(self, body: Callable[P, Body[T]], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        return self._run(self._transact_alone, lambda: body(*args, **kwargs))

    def has_table(self, name: str) -> Deferred[bool]:
        return self._run(self._has_table, name)

    def close(self) -> Deferred[None]:
        if self._closed is None:
            self._closed = Deferred()
            self._finish_closing()
        done: Deferred[None] = Deferred()
        self._closed.addBoth(lambda _: done.callback(None))
        return done

    # -- calls

    def _run(self, work: Callable[..., Coroutine[Any, Any, R]], *args: Any) -> Deferred[R]:
        if self._closed is not None:
            return fail(DatabaseUnavailable("The database is closed."))
        if self._running >= MAXIMUM_WAITING:
            return fail(DatabaseUnavailable("The database does not keep up with its work."))
        self._running += 1
        # One of its own, because txpostgres' cannot be cancelled like others: the call goes on, for nobody.
        answer: Deferred[R] = Deferred()
        Deferred.fromCoroutine(self._ran(work(*args))).addBoth(answer.callback)
        return answer

    async def _ran(self, work: Awaitable[R]) -> R:
        try:
            return await work
        except (psycopg2.Error, CancelledError, ConnectionDone, ConnectionLost) as error:
            # None of theirs behind ours: it quotes statements and values.
            raise _translated(error) from None
        finally:
            self._running -= 1
            self._finish_closing()

    def _finish_closing(self) -> None:
        if self._closed is not None and not self._closed.called and self._running == 0:
            self._pool.close()
            self._closed.callback(None)

    async def _query(self, sql: str, params: Params) -> list[Row]:
        return await self._again(lambda connection: _queried(connection, sql, params))

    async def _has_table(self, name: str) -> bool:
        sql = (
            "SELECT 1 FROM pg_catalog.pg_tables WHERE tablename = :name"
            " AND schemaname = ANY (pg_catalog.current_schemas(false))"
        )
        return bool(await self._query(sql, {"name": name}))

    async def _execute(self, sql: str, params: Params) -> int:
        async with _Taken(self._pool) as connection:
            cursor = connection.cursor()
            await cursor.execute(*_bound(sql, params))
            count: int = cursor.rowcount
            return count

    async def _transact(self, body: Callable[[], Body[T]]) -> T:
        return await self._again(lambda connection: _transacted(connection, body))

    async def _transact_alone(self, body: Callable[[], Body[T]]) -> T:
        async with _Taken(self._pool) as connection:
            connection.begin, connection.patience = BEGIN_EXCLUSIVE, EXCLUSIVE_TIME + GRACE
            try:
                return await _transacted(connection, lambda: _alone(body))
            finally:
                connection.begin, connection.patience = BEGIN, STATEMENT_TIMEOUT + GRACE

    async def _again(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run `work`, and again as often as PostgreSQL asks for it."""
        for _ in range(MOST_ATTEMPTS - 1):
            try:
                async with _Taken(self._pool) as connection:
                    return await work(connection)
            except psycopg2.Error as error:
                if error.pgcode not in _COLLISIONS:
                    raise
            await deferLater(self._reactor, random.uniform(0, LONGEST_DETOUR))
        async with _Taken(self._pool) as connection:
            return await work(connection)


class _Taken:
    """A connection of the pool, for a while. One that an error leaves in doubt is closed."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def __aenter__(self) -> Connection:
        self._connection = await self._pool.take()
        return self._connection

    async def __aexit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, psycopg2.Error) and (error.pgcode is None or error.pgcode.startswith("57P")):
            self._connection.close()
        self._pool.give_back(self._connection)


async def _queried(connection: Connection, sql: str, params: Params) -> list[Row]:
    cursor = connection.cursor()
    await cursor.execute(*_bound(sql, params))
    return _rows(cursor)


async def _transacted(connection: Connection, body: Callable[[], Body[T]]) -> T:
    result: T = await connection.runInteraction(
        lambda cursor: Deferred.fromCoroutine(_driven(cursor, body()))
    )
    return result


async def _driven(cursor: Cursor, steps: Body[T]) -> T:
    try:
        statement = next(steps)
        while True:
            await cursor.execute(*_bound(*statement))
            statement = steps.send(_rows(cursor))
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        steps.close()


def _alone(body: Callable[[], Body[T]]) -> Body[T]:
    """The lock that all who are exclusive take, and no limit to what a statement takes."""
    yield "SET LOCAL statement_timeout = 0", NONE
    yield "SELECT pg_advisory_xact_lock(:lock)", {"lock": EXCLUSIVE_LOCK}
    return (yield from body())


# -- statements, values and rows


@lru_cache(1024)
def _translated_sql(sql: str) -> str:
    """Named parameters as psycopg2 wants them; `::type` stays."""
    return _NAMED.sub(r"%(\1)s", sql.replace("%", "%%"))


_NAMED = re.compile(r"(?<!:):([A-Za-z_]\w*)")


def _bound(sql: str, params: Params) -> tuple[str, dict[str, Any] | None]:
    if not params:
        return sql, None
    return _translated_sql(sql), {name: _stored(value) for name, value in params.items()}


def _stored(value: Any) -> Any:
    match value:
        case str():
            return _text(value)
        case list() | tuple() | Mapping():
            return _NUL_IN_JSON.sub(r"\1\\ufffd", msgspec.json.encode(value).decode())
    return value


def _text(value: str) -> str:
    """PostgreSQL has no NUL in texts. Nothing is found by one, and none is kept."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}")


_NUL_IN_JSON = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


def _rows(cursor: Cursor) -> list[Row]:
    if cursor.description is None:
        return []
    names = [column.name for column in cursor.description]
    return [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]


# -- errors

_COLLISIONS = {"40001", "40P01"}
_REFERS = "This refers to what does not exist, or is still referred to."
_CONFLICTS = {
    "23505": "This exists already.",
    "23503": _REFERS,
    "22P02": _REFERS,  # an id that is none: nothing can have it
}
_AWAY = {
    "25006": "The database cannot be written.",
    "40001": "The database is too busy: others always came first.",
    "40P01": "The database is too busy: others always came first.",
    "42501": "The user of database.url may not do this in the database.",
    "53100": "The database's disk is full.",
    "53200": "The database ran out of memory.",
    "53300": "PostgreSQL has no connection left (max_connections).",
    "55P03": "The database is locked.",
    "57014": "The database took too long.",
    "57P01": "PostgreSQL is stopping.",
    "57P02": "PostgreSQL crashed.",
    "57P03": "PostgreSQL is starting or stopping.",
    "58030": "The database's disk does not work.",
    "XX001": "The database is damaged.",
    "XX002": "The database is damaged.",
}
_AWAY_CLASSES = {"08", "25", "53", "57", "58"}
"""Connection, aborted by a timeout, resources, operator, system."""


def _translated(error: Exception) -> DatabaseError:
    # txpostgres takes the end of a statement for a cancellation by us, who never cancel.
    code = "57014" if isinstance(error, CancelledError) else getattr(error, "pgcode", None)
    if code is None:
        if isinstance(error, psycopg2.ProgrammingError | psycopg2.NotSupportedError):
            return DatabaseError("The database refused a statement.")
        return DatabaseUnavailable("The connection to PostgreSQL was lost.")
    if code in _CONFLICTS:
        return Conflict(_CONFLICTS[code])
    if code in _AWAY:
        return DatabaseUnavailable(_AWAY[code])
    if code[:2] in _AWAY_CLASSES:
        return DatabaseUnavailable(f"The database is away (SQLSTATE {code}).")
    return DatabaseError(f"The database refused a statement (SQLSTATE {code}).")
