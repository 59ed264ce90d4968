"""Nobody comes to the tables before they are this version's.

A server starts also while PostgreSQL is away. When it answers again it may hold an older schema, or none: until the
migrations have run, everybody else is told that the database is away.
"""

from collections.abc import Callable

from twisted.internet.defer import Deferred, fail
from zope.interface import implementer

from oxidecast.database.errors import DatabaseUnavailable
from oxidecast.database.interface import NONE, Body, IDatabase, P, Params, Row, T

CLOSED = "The database was not there when the server started, and is waited for."


@implementer(IDatabase)
class Gate:
    """An `IDatabase` in front of another, which answers once `is_open`."""

    def __init__(self, database: IDatabase) -> None:
        self.database = database
        self.flavour = database.flavour
        self.is_open = False

    def query(self, sql: str, params: Params = NONE) -> Deferred[list[Row]]:
        return self.database.query(sql, params) if self.is_open else _closed()

    def execute(self, sql: str, params: Params = NONE) -> Deferred[int]:
        return self.database.execute(sql, params) if self.is_open else _closed()

    def transaction(self, body: Callable[P, Body[T]], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        return self.database.transaction(body, *args, **kwargs) if self.is_open else _closed()

    def exclusive(self, body: Callable[P, Body[T]], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        return self.database.exclusive(body, *args, **kwargs) if self.is_open else _closed()

    def has_table(self, name: str) -> Deferred[bool]:
        return self.database.has_table(name) if self.is_open else _closed()

    def close(self) -> Deferred[None]:
        return self.database.close()


def _closed() -> Deferred[T]:
    return fail(DatabaseUnavailable(CLOSED))
