"""The audit log: who did what, to what, from where.

The one idea: an entry is a step of the transaction that does what it tells of. So neither is there without the other,
and what cannot be written down is not done.

What is told is short and harmless: names, ids, numbers, which fields were changed. Never a key, a password, a token,
or a text that somebody typed without being known.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from twisted.internet.interfaces import IReactorTime

from oxidecast.database.interface import NONE, Body, IDatabase, Value
from oxidecast.database.records import Page, new_id, plain_address, record, utc, window

_COLUMNS = "id, at, actor_id, actor, action, target, address, details, times, last_at"


class Actor(msgspec.Struct, frozen=True):
    """Who does something: a user by the API, `cli:` and the system's user by a command, the server by itself."""

    name: str
    id: str | None = None
    """The user's id."""
    address: str | None = None


SERVER = Actor("server")
"""What nobody in particular does."""
ANONYMOUS = "anonymous"
"""The name of who has not logged in."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the log."""

    id: str
    at: datetime
    actor_id: str | None
    actor: str
    action: str
    target: str
    address: str | None
    details: Mapping[str, Any]
    times: int
    """How often, from `at` to `last_at`; 1 for all but what is counted together."""
    last_at: datetime | None


class AuditLog:
    """The audit_log table."""

    def __init__(self, database: IDatabase, clock: IReactorTime) -> None:
        self._database = database
        self._clock = clock

    async def add(self, by: Actor, action: str, target: str = "", details: Mapping[str, Any] = NONE) -> None:
        """Write down what changes nothing in the database, such as a look at a key."""
        await self._database.transaction(note, by, action, target, utc(self._clock), details)

    async def add_several(
        self, by: Actor, action: str, target: str, times: int, first_at: datetime, last_at: datetime
    ) -> None:
        """Write down in one row what happened `times` times."""
        await self._database.transaction(note, by, action, target, first_at, NONE, times, last_at)

    async def page(
        self,
        page: int = 1,
        limit: int = 20,
        *,
        actor: str | None = None,
        action: str | None = None,
        target: str | None = None,
        begin: datetime | None = None,
        end: datetime | None = None,
    ) -> Page[Entry]:
        """Newest first: those of this actor, action and target, from `begin` on and before `end`."""
        conditions, params = ["true"], dict[str, Value]()
        # From what narrows most to what narrows least. SQLite knows no better and may take the last one's index, with a
        # quarter of the log behind it: an expression has none.
        for column, word in (("target", target), ("actor", actor), ("action", action)):
            if word is not None:
                conditions.append(f"{column} = :{column}" if not params else f"({column} || '') = :{column}")
                params[column] = word
        if begin is not None:
            conditions.append("at >= :begin")
            params["begin"] = begin
        if end is not None:
            conditions.append("at < :end")
            params["end"] = end
        where = " AND ".join(conditions)
        rows = await self._database.query(f"SELECT count(*) AS total FROM audit_log WHERE {where}", params)
        count, offset = window(page, limit)
        found = await self._database.query(
            f"SELECT {_COLUMNS} FROM audit_log WHERE {where} ORDER BY at DESC, id DESC"
            " LIMIT :limit OFFSET :offset",
            {**params, "limit": count, "offset": offset},
        )
        entries = [record(row, Entry, json=("details",)) for row in found]
        return Page(entries, rows[0]["total"], max(page, 1), count)


def note(
    by: Actor,
    action: str,
    target: str,
    now: datetime,
    details: Mapping[str, Any] = NONE,
    times: int = 1,
    last_at: datetime | None = None,
) -> Body[None]:
    """A step of a transaction: write down that `by` does `action` (`stream.stop`) to `target` (`stream:show`)."""
    yield (
        f"INSERT INTO audit_log ({_COLUMNS}) VALUES (:id, :at, :actor_id, :actor, :action, :target, :address,"
        " :details, :times, :last_at)",
        {
            "id": new_id(),
            "at": now,
            "actor_id": by.id,
            "actor": by.name,
            "action": action,
            "target": target,
            "address": plain_address(by.address),
            "details": dict(details),
            "times": times,
            "last_at": last_at,
        },
    )
