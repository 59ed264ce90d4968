"""SQLite by `twisted.enterprise.adbapi`: one writing connection and a few reading ones, each in its thread.

Writers of one process queue for the single writer instead of for SQLite's lock; `BEGIN IMMEDIATE` makes a
transaction take that lock before it reads, so that it never fails half way for another process's sake. In WAL
mode readers wait for nobody.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from twisted.enterprise import adbapi
from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from oxidecast.database.errors import Conflict, DatabaseError, DatabaseUnavailable
from oxidecast.database.interface import NONE, Body, IDatabase, P, Params, Row, T

BUSY_TIMEOUT = 5.0
"""Seconds that a writer waits for another process, such as the command line's, before it gives up."""
READERS = 2
"""Reading is mostly one indexed row; more threads would only compete for the interpreter."""
MAXIMUM_WAITING = 1000
"""Statements waiting at once. Beyond, the disk does not keep up, and more waiting would be memory growth."""


@implementer(IDatabase)
class SqliteDatabase:
    """A database file; it is created, readable by its owner only, when something is first written."""

    flavour = "sqlite"

    def __init__(self, file: Path, reactor: Any, busy_timeout: float = BUSY_TIMEOUT) -> None:
        self._file = file.absolute()
        self._busy_timeout = busy_timeout
        self._created = False
        self._writer = self._pool(reactor, 1, self._open_writer)
        self._readers = self._pool(reactor, READERS, self._open_reader)
        self._waiting = 0
        self._closed: Deferred[None] | None = None

    def query(self, sql: str, params: Params = NONE) -> Deferred[list[Row]]:
        return self._run(self._readers, _query, sql, params)

    def execute(self, sql: str, params: Params = NONE) -> Deferred[int]:
        return self._write(_execute, sql, params)

    def transaction(self, body: Callable[P, Body[T]], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        return self._write(_transact, lambda: body(*args, **kwargs))

    def exclusive(self, body: Callable[P, Body[T]], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        return self.transaction(body, *args, **kwargs)  # there is one writer anyway

    def has_table(self, name: str) -> Deferred[bool]:
        def look(connection: Any) -> bool:
            sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = :name"
            return bool(_query(connection, sql, {"name": name}))

        try:
            if not self._file.exists():
                return succeed(False)
        except OSError as error:
            return fail(_cannot_open(error))
        return self._run(self._readers, look)

    def close(self) -> Deferred[None]:
        if self._closed is None:
            self._closed = Deferred()
            self._finish_closing()
        done: Deferred[None] = Deferred()
        self._closed.addBoth(lambda _: done.callback(None))
        return done

    def _write(self, work: Callable[..., T], *args: Any) -> Deferred[T]:
        if not self._created:
            try:
                # Before SQLite does, because the files beside it take its mode over.
                os.close(os.open(self._file, os.O_CREAT | os.O_WRONLY, 0o600))
            except OSError as error:
                return fail(_cannot_open(error))
            self._created = True
        return self._run(self._writer, work, *args)

    def _run(self, pool: Any, work: Callable[..., T], *args: Any) -> Deferred[T]:
        if self._closed is not None:
            return fail(DatabaseUnavailable("The database is closed."))
        if self._waiting >= MAXIMUM_WAITING:
            return fail(DatabaseUnavailable("The database does not keep up with its work."))
        self._waiting += 1
        result: Deferred[T] = pool.runWithConnection(work, *args)
        result.addErrback(_translate)
        result.addBoth(self._ran)
        return result

    def _ran(self, result: Any) -> Any:
        self._waiting -= 1
        self._finish_closing()
        return result

    def _finish_closing(self) -> None:
        if self._closed is not None and not self._closed.called and self._waiting == 0:
            self._readers.close()
            self._writer.close()
            self._closed.callback(None)

    def _pool(self, reactor: Any, size: int, opened: Callable[[sqlite3.Connection], None]) -> Any:
        return adbapi.ConnectionPool(
            "sqlite3",
            f"{self._file.as_uri()}?mode=rw",
            uri=True,
            timeout=self._busy_timeout,
            isolation_level=None,
            check_same_thread=False,  # the pool closes its connections from the reactor's thread
            cp_min=size,
            cp_max=size,
            cp_reactor=reactor,
            cp_openfun=opened,
        )

    def _open_writer(self, connection: sqlite3.Connection) -> None:
        _prepare(connection)
        # A revoked key must stay revoked after a power cut, so every commit is synced.
        connection.execute("PRAGMA synchronous = FULL")
        deadline = time.monotonic() + self._busy_timeout
        while connection.execute("PRAGMA journal_mode").fetchone()["journal_mode"] != "wal":
            # Two that change a new file to WAL at once may get "locked" without SQLite waiting for them.
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def _open_reader(self, connection: sqlite3.Connection) -> None:
        _prepare(connection)
        connection.execute("PRAGMA query_only = ON")


def _cannot_open(error: OSError) -> DatabaseUnavailable:
    reason = os.strerror(error.errno or 0).lower()
    return DatabaseUnavailable(f"The database file cannot be opened: {reason}.")


def _prepare(connection: sqlite3.Connection) -> None:
    connection.row_factory = _row
    connection.execute("PRAGMA foreign_keys = ON")


def _row(cursor: sqlite3.Cursor, values: tuple[Any, ...]) -> Row:
    return {column[0]: value for column, value in zip(cursor.description, values, strict=True)}


def _query(connection: Any, sql: str, params: Params) -> list[Row]:
    rows: list[Row] = connection.execute(sql, _bound(params)).fetchall()
    return rows


def _execute(connection: Any, sql: str, params: Params) -> int:
    count: int = connection.execute(sql, _bound(params)).rowcount
    return count


def _transact(connection: Any, body: Callable[[], Body[T]]) -> T:
    # adbapi commits when this returns and rolls back when it raises.
    connection.execute("BEGIN IMMEDIATE")
    steps = body()
    try:
        statement = next(steps)
        while True:
            statement = steps.send(_query(connection, *statement))
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        steps.close()


def _bound(params: Params) -> dict[str, Any]:
    return {name: _stored(value) for name, value in params.items()}


def _stored(value: Any) -> Any:
    match value:
        case datetime():
            return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        case list() | tuple() | Mapping():
            return msgspec.json.encode(value).decode()
    return value


_AWAY = {
    sqlite3.SQLITE_FULL: "The database's disk is full.",
    sqlite3.SQLITE_BUSY: "The database is locked by another process.",
    sqlite3.SQLITE_LOCKED: "The database is locked.",
    sqlite3.SQLITE_CANTOPEN: "The database file cannot be opened.",
    sqlite3.SQLITE_PERM: "The database file cannot be opened: permission denied.",
    sqlite3.SQLITE_READONLY: "The database file cannot be written.",
    sqlite3.SQLITE_IOERR: "The database's disk does not work.",
    sqlite3.SQLITE_CORRUPT: "The database file is damaged.",
    sqlite3.SQLITE_NOTADB: "The database file is not an SQLite database.",
    sqlite3.SQLITE_NOMEM: "The database ran out of memory.",
}
_CONFLICTS = {
    sqlite3.SQLITE_CONSTRAINT_UNIQUE: "This exists already.",
    sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY: "This exists already.",
    sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY: "This refers to what does not exist, or is still referred to.",
}


def _translate(failure: Failure) -> Failure:
    error = failure.value
    if not isinstance(error, sqlite3.Error):
        return failure
    code = getattr(error, "sqlite_errorcode", None) or 0
    if code in _CONFLICTS:
        ours: DatabaseError = Conflict(_CONFLICTS[code])
    elif code & 0xFF in _AWAY:
        ours = DatabaseUnavailable(_AWAY[code & 0xFF])
    else:
        ours = DatabaseError("The database refused a statement.")
    raise ours from error
