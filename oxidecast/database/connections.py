"""Connections to PostgreSQL by txpostgres, and the pool that hands them out.

txpostgres' own pool gives dead connections out like living ones, and its detector reconnects by timers of its own.
Here a connection that died is thrown away, wherever that is noticed, and the next call that finds none opens a new
one. So an outage needs no repair: calls fail at once while a back-off runs, and the first call after it tries again.
"""

import random
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
import psycopg2
import psycopg2.extensions as extensions
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from txpostgres import txpostgres

from oxidecast.database.errors import DatabaseRefuses, DatabaseUnavailable

CONNECT_TIMEOUT = 5.0
"""Seconds for finding a host's addresses, and for each of them to let us in."""
STATEMENT_TIMEOUT = 10.0
"""Seconds after which PostgreSQL gives a statement up."""
GRACE = 2.0
"""Seconds more before a connection is closed whose statement was not given up: the network or the server hangs."""
WAITING_TIME = 10.0
"""Seconds that a call waits for a connection to become free."""
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 4.0
"""Seconds between two attempts to connect while the server is away; doubled from one to the other."""

PREPARATION = f"""
SET statement_timeout = {STATEMENT_TIMEOUT * 1000:.0f};
SET idle_in_transaction_session_timeout = 30000;
SET timezone = 'UTC'
"""
"""Not by the connection's `options`, which poolers between us and PostgreSQL refuse."""
BEGIN = "begin isolation level serializable"
"""Bodies of transactions are written as if nobody else wrote, which is so with SQLite."""


class Cursor(txpostgres.Cursor):  # type: ignore[misc]  # untyped
    """A cursor whose every statement ends in time."""

    def execute(self, query: str, params: Mapping[str, Any] | None = None) -> Any:
        connection = self._connection
        done = super().execute(connection.begin if query == "begin" else query, params)
        timer = self.reactor.callLater(connection.patience, connection.close)

        def ended(result: Any) -> Any:
            if timer.active():
                timer.cancel()
            return result

        done.addBoth(ended)
        if query == "rollback":
            # A connection that cannot roll back is closed, and so PostgreSQL does it.
            done.addErrback(lambda _: connection.close())
        return done


class Connection(txpostgres.Connection):  # type: ignore[misc]  # untyped
    """One connection, with at most one call at a time on it."""

    cursorFactory = Cursor

    def __init__(self, reactor: Any, lost: Callable[["Connection"], None]) -> None:
        super().__init__(reactor)
        self._lost = lost
        self.begin = BEGIN
        self.patience = STATEMENT_TIMEOUT + GRACE

    @property
    def alive(self) -> bool:
        return self._connection is not None and not self._connection.closed

    def doRead(self) -> None:
        """What comes while no call runs: notices, or the end."""
        try:
            super().doRead()
        except (psycopg2.Error, ValueError) as error:
            # The second is the reactor's, about the descriptor of a connection that libpq has closed meanwhile.
            self.connectionLost(Failure(error))

    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(reason)
        self._lost(self)

    def close(self) -> None:
        """Also before it was opened, and more than once."""
        if self._connection is not None:
            super().close()


class Connector:
    """Opens connections to the server that a URL names. The reactor waits neither for names nor for answers."""

    def __init__(self, url: str, reactor: Any) -> None:
        """Raises ValueError for what is no PostgreSQL URL."""
        try:
            self._parameters: dict[str, str] = extensions.parse_dsn(url)
        except psycopg2.Error:
            raise ValueError("not a URL of PostgreSQL") from None
        self._parameters.setdefault("application_name", "oxidecast")
        self._parameters["client_encoding"] = "utf8"
        self._reactor = reactor

    async def connect(self, lost: Callable[[Connection], None]) -> Connection:
        """A connection ready for statements; `lost` is called when it ends. Raises DatabaseUnavailable."""
        failure: Exception | None = None
        for address in await self._addresses():
            connection = Connection(self._reactor, lost)
            try:
                await self._open(connection, {**self._parameters, **address})
                return connection
            except Exception as error:
                connection.close()
                failure = error
        raise _why_refused(failure) from None

    async def _open(self, connection: Connection, parameters: Mapping[str, str]) -> None:
        timer = self._reactor.callLater(CONNECT_TIMEOUT, connection.close)
        try:
            await connection.connect(**parameters)
            register_types(connection.pollable())
            await connection.cursor().execute(PREPARATION)
        finally:
            if timer.active():
                timer.cancel()

    async def _addresses(self) -> list[dict[str, str]]:
        """What to add to the parameters, for each address. libpq itself would look a name up while all wait."""
        host = self._parameters.get("host", "")
        if not host or host.startswith(("/", "@")) or "," in host or "hostaddr" in self._parameters:
            return [{}]  # a Unix socket; or several hosts, which libpq must choose from
        looking = deferToThreadPool(
            self._reactor,
            self._reactor.getThreadPool(),
            socket.getaddrinfo,
            host,
            None,
            type=socket.SOCK_STREAM,
        )
        try:
            found = await looking.addTimeout(CONNECT_TIMEOUT, self._reactor)
        except (OSError, UnicodeError, TimeoutError):
            raise DatabaseUnavailable("The host of database.url is not known.") from None
        return [{"hostaddr": str(address[0])} for *_, address in found]


class Pool:
    """At most `size` connections, opened as they are needed."""

    def __init__(
        self,
        connect: Callable[[Callable[[Connection], None]], Awaitable[Connection]],
        size: int,
        reactor: Any,
    ) -> None:
        self._connect = connect
        self._size = size
        self._reactor = reactor
        self._idle: list[Connection] = []
        self._opened = 0
        """Connections that are idle, in use or being opened."""
        self._waiting: deque[Deferred[None]] = deque()
        self._pause = 0.0
        self._again_at = 0.0
        self._refusal = DatabaseUnavailable("The database was not asked yet.")

    async def take(self) -> Connection:
        """A living connection, which must be given back. Raises DatabaseUnavailable."""
        until = self._reactor.seconds() + WAITING_TIME
        while True:
            while self._idle:
                connection = self._idle.pop()
                if connection.alive:
                    return connection
                self._opened -= 1
            if self._opened < self._size and self._reactor.seconds() >= self._again_at:
                connection_or_none = await self._opening()
                if connection_or_none is not None:
                    return connection_or_none
            if self._opened == 0:
                self._wake_all()  # to find the same
                raise type(self._refusal)(str(self._refusal))
            await self._turn(until)

    def give_back(self, connection: Connection) -> None:
        """A dead one makes room for another."""
        if connection.alive:
            self._idle.append(connection)
        else:
            connection.close()
            self._opened -= 1
        self._wake()

    def close(self) -> None:
        """Close what is idle."""
        idle, self._idle = self._idle, []
        self._opened -= len(idle)
        for connection in idle:
            connection.close()

    async def _opening(self) -> Connection | None:
        """None when the server refuses, which begins or lengthens the back-off."""
        self._opened += 1
        try:
            connection = await self._connect(self._forget)
        except DatabaseUnavailable as error:
            self._opened -= 1
            self._refusal = error
            self._pause = min(max(self._pause * 2, FIRST_PAUSE), LONGEST_PAUSE)
            self._again_at = self._reactor.seconds() + self._pause * random.uniform(0.75, 1)
            return None
        self._pause = self._again_at = 0.0
        return connection

    def _forget(self, connection: Connection) -> None:
        """It ended; one in use is missed when it is given back."""
        if connection in self._idle:
            self._idle.remove(connection)
            self._opened -= 1
            connection.close()

    async def _turn(self, until: float) -> None:
        """Wait until a connection may be free."""
        turn: Deferred[None] = Deferred()
        self._waiting.append(turn)
        try:
            await turn.addTimeout(max(until - self._reactor.seconds(), 0), self._reactor)
        except TimeoutError:
            self._waiting.remove(turn)
            raise DatabaseUnavailable("The database does not keep up with its work.") from None

    def _wake(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.called:
                turn.callback(None)
                return

    def _wake_all(self) -> None:
        waiting, self._waiting = self._waiting, deque()
        for turn in waiting:
            if not turn.called:
                turn.callback(None)


_LOCKED_OUT = (
    ("pg_hba.conf", "PostgreSQL lets nobody in from this machine by this user and database (pg_hba.conf)."),
    ("authentication failed", "PostgreSQL refuses the user or the password of database.url."),
    ("role ", "PostgreSQL refuses the user or the password of database.url."),
    ("database ", "PostgreSQL has no database of the name in database.url."),
)
_NOT_NOW = (
    ("starting up", "PostgreSQL is starting."),
    ("shutting down", "PostgreSQL is stopping."),
    ("recovery", "PostgreSQL is recovering."),
    ("too many", "PostgreSQL has no connection left (max_connections)."),
    ("connection slots", "PostgreSQL has no connection left (max_connections)."),
)
_DISAGREED = (
    ("no password supplied", "PostgreSQL wants a password, and database.url has none."),
    ("SSL", "PostgreSQL and database.url do not agree on encryption (sslmode)."),
    ("certificate", "PostgreSQL's certificate is not accepted (sslmode)."),
)
_UNREACHED = (
    ("refused", "Nothing answers at PostgreSQL's address."),
    ("No such file", "Nothing answers at PostgreSQL's address."),
)


def _why_refused(error: Exception | None) -> DatabaseUnavailable:
    """A sentence of ours for libpq's, which names host, user and database."""
    _, fatal, refusal = str(error).rpartition("FATAL: ")
    lasting, passing = (_LOCKED_OUT, _NOT_NOW) if fatal else (_DISAGREED, _UNREACHED)
    for word, sentence in lasting:
        if word in refusal:
            return DatabaseRefuses(sentence)
    for word, sentence in passing:
        if word in refusal:
            return DatabaseUnavailable(sentence)
    return DatabaseUnavailable("PostgreSQL could not be reached.")


# -- values


def register_types(connection: Any) -> None:
    """What differs from psycopg2's own: bytes for its memoryviews, plain numbers for its Decimals."""
    for kind in (_BYTES, _NUMBER, _JSON):
        extensions.register_type(kind, connection)


def _bytes(text: str | None, cursor: Any) -> bytes | None:
    return None if text is None else bytes(psycopg2.BINARY(text, cursor))


def _number(text: str | None, cursor: Any) -> int | float | None:
    """A numeric is the sum of integers, mostly, which SQLite makes an integer as well."""
    if text is None:
        return None
    return int(text) if text.lstrip("-").isdigit() else float(text)


def _json(text: str | None, cursor: Any) -> Any:
    """Decoded, but a JSON string as its JSON: `records.record` decodes what is text."""
    if text is None or text.startswith('"'):
        return text
    return msgspec.json.decode(text)


_BYTES = extensions.new_type((17,), "BYTES", _bytes)
_NUMBER = extensions.new_type((1700,), "NUMBER", _number)
_JSON = extensions.new_type((114, 3802), "JSON", _json)
