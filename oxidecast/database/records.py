"""From rows to Structs, times, pages and versions: what every repository needs."""

import hashlib
import re
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any, Generic, TypeAlias, TypeVar
from uuid import uuid4

import msgspec
from twisted.internet.interfaces import IReactorTime

from oxidecast.database.errors import Outdated
from oxidecast.database.interface import Row

S = TypeVar("S", bound=msgspec.Struct)
T = TypeVar("T")

LARGEST_PAGE = 100
Versions: TypeAlias = Collection[str] | None
"""The versions of something that a change of it is meant for; None where it is for any."""
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
LAST_ROW = 1 << 62
"""No list is this long; a page beyond it is empty, and its offset still fits the database's integers."""


class Page(msgspec.Struct, Generic[T], frozen=True):
    """A part of a list, with the true number of items in all of it. Pages count from 1."""

    items: list[T]
    total: int
    page: int
    limit: int

    @property
    def total_pages(self) -> int:
        return -(-self.total // self.limit)


def window(page: int, limit: int) -> tuple[int, int]:
    """LIMIT and OFFSET of a page; numbers out of range are brought into it."""
    limit = min(max(limit, 1), LARGEST_PAGE)
    return limit, min((max(page, 1) - 1) * limit, LAST_ROW)


def record(row: Row, struct: type[S], json: Iterable[str] = ()) -> S:
    """A row as a Struct. `json` names the columns that hold JSON, which some engines return as text."""
    values: dict[str, Any] = dict(row)
    for column in json:
        if isinstance(values[column], str):
            values[column] = msgspec.json.decode(values[column])
    return msgspec.convert(values, struct, strict=False)


def version_of(*values: Any) -> str:
    """A word that is another one whenever one of the values is."""
    return hashlib.sha256(msgspec.json.encode(values, order="deterministic")).hexdigest()[:24]


def require_version(present: str, versions: Versions) -> None:
    """Raises Outdated. In the transaction that changes the row, after reading it there: of two that have read the same,
    the engine lets only one write, and runs the other again."""
    if versions is not None and present not in versions:
        raise Outdated


def contains(text: str) -> str:
    """A LIKE pattern (with ESCAPE '\\') for what contains `text`, in lower case."""
    escaped = text.lower().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def utc(clock: IReactorTime) -> datetime:
    """The reactor's time, which is Unix time, as a datetime."""
    return datetime.fromtimestamp(clock.seconds(), UTC)


def is_id(text: str) -> bool:
    """Whether this can be an id. PostgreSQL refuses to compare one with what cannot."""
    return _ID.fullmatch(text) is not None


def plain_address(address: str | None) -> str | None:
    """An address as both engines take it, IPv4 as such; None for what is none, such as that of a Unix socket."""
    try:
        parsed = ip_address((address or "").partition("%")[0])
    except ValueError:
        return None
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


def new_id() -> str:
    return str(uuid4())
