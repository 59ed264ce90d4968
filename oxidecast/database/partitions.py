"""The tables that grow without end: months made ahead, and what is too old let go.

PostgreSQL keeps each month in a partition of its own, SQLite all in one table; the rows are the same. Rows of a month
that was not made ahead lie in the default partition, and move when the month is made.
"""

import re
from datetime import UTC, datetime

from oxidecast.database.interface import NONE, Body, IDatabase

TABLES = {"viewer_sessions": "started_at", "stream_metrics": "at"}
"""Each with the time that it is partitioned by, which is a part of its primary key."""
MONTHS_AHEAD = 2
BATCH = 5000
"""Rows deleted at once, so that writers on SQLite wait only shortly."""
LOCK_TIMEOUT = "5s"
"""A month comes and goes between two statements of others, or it waits for the next time: they must not wait for it."""

_KEYS = {"viewer_sessions": "id, started_at", "stream_metrics": "stream_id, rendition, at"}


async def ensure(database: IDatabase, now: datetime) -> None:
    """Make this month's partitions and those of the next `MONTHS_AHEAD`. Raises DatabaseError."""
    if database.flavour == "sqlite":
        return
    month = _month_of(now)
    for _ in range(MONTHS_AHEAD + 1):
        for table in TABLES:
            if not await database.has_table(_partition(table, month)):
                await database.exclusive(_make, table, month)
        month = _after(month)


async def drop_before(database: IDatabase, moment: datetime) -> None:
    """Let all rows before `moment` go: whole months with their tables, others one by one. Raises DatabaseError."""
    for table in TABLES:
        if database.flavour == "postgres":
            await database.exclusive(_drop, table, moment)
        while await database.execute(_deletion(table), {"moment": moment, "batch": BATCH}) == BATCH:
            pass


def _make(table: str, month: datetime) -> Body[None]:
    name, column = _partition(table, month), TABLES[table]
    until = _after(month)
    yield f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'", NONE
    if (yield "SELECT 1 AS there WHERE to_regclass(:name) IS NOT NULL", {"name": name}):
        return  # another server made it meanwhile
    yield f"CREATE TABLE {name} (LIKE {table} INCLUDING ALL)", NONE
    # The default partition must not hold what belongs to the new one.
    yield f"LOCK TABLE {table}_default IN ACCESS EXCLUSIVE MODE", NONE
    yield (
        f"WITH moved AS (DELETE FROM {table}_default WHERE {column} >= :month AND {column} < :until RETURNING *)"
        f" INSERT INTO {name} SELECT * FROM moved",
        {"month": month, "until": until},
    )
    yield (
        f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM (:month) TO (:until)",
        {"month": month, "until": until},
    )


def _drop(table: str, moment: datetime) -> Body[None]:
    yield f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'", NONE
    partitions = yield (
        "SELECT c.relname AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = to_regclass(:table)",
        {"table": table},
    )
    for row in partitions:
        month = _month_named(row["name"])
        if month is not None and _after(month) <= moment:
            yield f"DROP TABLE {row['name']}", NONE


def _deletion(table: str) -> str:
    keys, column = _KEYS[table], TABLES[table]
    return (
        f"DELETE FROM {table} WHERE ({keys}) IN"
        f" (SELECT {keys} FROM {table} WHERE {column} < :moment LIMIT :batch) AND {column} < :moment"
    )


def _month_of(moment: datetime) -> datetime:
    moment = moment.astimezone(UTC)
    return datetime(moment.year, moment.month, 1, tzinfo=UTC)


def _after(month: datetime) -> datetime:
    return datetime(month.year + month.month // 12, month.month % 12 + 1, 1, tzinfo=UTC)


def _partition(table: str, month: datetime) -> str:
    return f"{table}_{month:%Y_%m}"


def _month_named(partition: str) -> datetime | None:
    match = re.search(r"_(\d{4})_(\d{2})\Z", partition)
    return datetime(int(match[1]), int(match[2]), 1, tzinfo=UTC) if match else None
