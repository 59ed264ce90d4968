"""The one door to the database, the same for every engine."""

from collections.abc import Callable, Generator, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, ParamSpec, TypeAlias, TypeVar

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

Value: TypeAlias = bool | int | float | str | bytes | datetime | Sequence[str] | Mapping[str, Any] | None
"""What a parameter may be. Times are aware; lists and mappings are stored as JSON."""
Params: TypeAlias = Mapping[str, Value]
NONE: Params = MappingProxyType({})
Row: TypeAlias = dict[str, Any]
"""A row by column name. Engines return times, booleans and JSON in ways of their own: see `records`."""
Statement: TypeAlias = tuple[str, Params]

T = TypeVar("T")
P = ParamSpec("P")
Body: TypeAlias = Generator[Statement, list[Row], T]
"""What a transaction does: yields statements, receives the rows of each (`RETURNING` gives rows to a change),
and returns the transaction's result."""


class IDatabase(Interface):
    """SQL with named parameters, `WHERE id = :id`. A colon before a letter is a parameter, quoted or not.

    Every method may fail with `DatabaseUnavailable`; those that write also with `Conflict`.
    """

    flavour: str = Attribute("""Which SQL it speaks: `sqlite` or `postgres`.""")

    def query(sql: str, params: Params = NONE) -> Deferred[list[Row]]:
        """The rows of a SELECT, which sees all that was committed before this call."""

    def execute(sql: str, params: Params = NONE) -> Deferred[int]:
        """Run one change in a transaction of its own; the number of rows that it touched."""

    def transaction(body: Callable[P, Body[T]], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Run `body(*args, **kwargs)` as one transaction: committed when it returns, undone when it raises.

        The body may run in a thread, and may run again when the engine asks for it: it must touch nothing
        but its arguments. It does not see failures of its statements, which end the transaction.
        """

    def exclusive(body: Callable[P, Body[T]], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """`transaction`, beside which no other such one runs, of any process; it takes the time that it needs.

        For changes of the schema. It sees what was committed before it had its turn.
        """

    def has_table(name: str) -> Deferred[bool]:
        """Whether a table exists; False also where there is no database yet. Never creates one."""

    def close() -> Deferred[None]:
        """Refuse new work, finish what was begun, and let the connections and threads go."""
