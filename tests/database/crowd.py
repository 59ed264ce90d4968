"""Viewer sessions by the million, made inside the database; and what the database did to answer a question about them.

One stream has nearly all of them, which is the worst that can be: everything that is asked is asked of one stream.
"""

from datetime import datetime, timedelta
from typing import Any

import msgspec
from zope.interface import implementer

from oxidecast.database import IDatabase
from oxidecast.database.interface import NONE, Params, Row
from oxidecast.database.records import new_id
from tests.database.support import START

DAYS = 60
BEGAN = START - timedelta(days=DAYS)
TYPES = ("hls", "webrtc", "multicast")
"""One in ten watches by the second, one in ten by the third."""
OTHERS = 20
"""Streams besides the big one, which together have a twentieth of its viewers."""
CHUNK = 50_000

_ROW = (
    "INSERT INTO viewer_sessions"
    " (id, stream_id, connection_type, rendition, address, started_at, ended_at, bytes_sent) "
)
_KIND = "CASE i % 10 WHEN 1 THEN 'webrtc' WHEN 2 THEN 'multicast' ELSE 'hls' END"
_ID = {
    "sqlite": "printf('%08x-0000-4000-8000-%012x', (i * 2654435761 + :salt) % 4294967296, i)",
    "postgres": "CAST(lpad(to_hex((i * 2654435761 + :salt) % 4294967296), 8, '0') || '-0000-4000-8000-'"
    " || lpad(to_hex(i), 12, '0') AS uuid)",
}
_TIME = {
    "sqlite": "strftime('%Y-%m-%dT%H:%M:%S', {0}, 'unixepoch') || '.000000Z'",
    "postgres": "to_timestamp({0})",
}
_NUMBERS = {
    "sqlite": "(WITH RECURSIVE n(i) AS (SELECT :first UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :last)"
    " SELECT i FROM n)",
    "postgres": "(SELECT i FROM generate_series(CAST(:first AS bigint), :last - 1) AS n(i)) AS numbers",
}
_HOUR = {
    "sqlite": "substr(started_at, 1, 13) || ':00:00.000000Z'",
    "postgres": "date_trunc('hour', started_at, 'UTC')",
}
_WATCHED = {
    "sqlite": "(julianday(ended_at) - julianday(started_at)) * 86400.0",
    "postgres": "extract(epoch FROM ended_at - started_at)",
}


async def fill(database: IDatabase, stream_id: str, count: int) -> None:
    """So many sessions of one stream, evenly over `DAYS` days before `START`, and some of others."""
    await _add(database, stream_id, count, 0)
    for number in range(OTHERS):
        await _add(database, new_id(), count // 20 // OTHERS, number + 1)
    await database.execute(
        "INSERT INTO viewer_hours (stream_id, hour, connection_type, sessions, watch_time, bytes_sent)"
        f" SELECT stream_id, {_HOUR[database.flavour]}, connection_type, count(*),"
        f" sum({_WATCHED[database.flavour]}), sum(bytes_sent)"
        " FROM viewer_sessions GROUP BY 1, 2, 3"
    )
    for table in ("viewer_sessions", "viewer_hours"):
        await database.execute(f"ANALYZE {table}")  # PostgreSQL does so by itself, a minute later


async def flood(database: IDatabase, stream_id: str, count: int) -> None:
    """So many sessions of the stream in the hour after `START`'s."""
    hour = START + timedelta(hours=1)
    await _add(database, stream_id, count, OTHERS + 1, hour, 3600)
    await database.execute(
        "INSERT INTO viewer_hours (stream_id, hour, connection_type, sessions, watch_time, bytes_sent)"
        " VALUES (:stream_id, :hour, 'hls', :count, 0, 0)",
        {"stream_id": stream_id, "hour": hour, "count": count},
    )
    await database.execute("ANALYZE viewer_sessions")


async def measure(database: IDatabase, stream_id: str, count: int) -> None:
    """So many measurements of the stream's source before `START`, one a minute."""
    flavour = database.flavour
    numbers, at = _NUMBERS[flavour], _TIME[flavour].format("CAST(:began + i * 60 AS bigint)")
    stream = ":stream_id" if flavour == "sqlite" else "CAST(:stream_id AS uuid)"
    await database.execute(
        "INSERT INTO stream_metrics (stream_id, rendition, at, bitrate, frame_rate, frames_dropped, viewers)"
        f" SELECT {stream}, 'source', {at}, 2500000, 30, 0, i % 100 FROM {numbers}",
        {"stream_id": stream_id, "began": int(START.timestamp()) - count * 60, "first": 0, "last": count},
    )
    await database.execute("ANALYZE stream_metrics")


async def _add(
    database: IDatabase,
    stream_id: str,
    count: int,
    salt: int,
    began: datetime = BEGAN,
    lasted: int = DAYS * 86400,
) -> None:
    flavour = database.flavour
    second = f"CAST(:began + i * :lasted / :count AS {'integer' if flavour == 'sqlite' else 'bigint'})"
    sql = (
        f"{_ROW} SELECT {_ID[flavour]}, {':stream_id' if flavour == 'sqlite' else 'CAST(:stream_id AS uuid)'},"
        f" {_KIND}, 'source', '192.0.2.0/24', {_TIME[flavour].format(second)},"
        f" {_TIME[flavour].format(f'{second} + 60 + i % 600')}, i % 1000 FROM {_NUMBERS[flavour]}"
    )
    for first in range(0, count, CHUNK):
        await database.execute(
            sql,
            {
                "salt": salt * 7919,
                "stream_id": stream_id,
                "began": int(began.timestamp()),
                "lasted": lasted,
                "count": count,
                "first": first,
                "last": min(first + CHUNK, count),
            },
        )


@implementer(IDatabase)
class Explaining:
    """A database that notes each query before it runs it, so that its plan can be asked for."""

    def __init__(self, database: IDatabase) -> None:
        self._database = database
        self.asked: list[tuple[str, Params]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    def query(self, sql: str, params: Params = NONE) -> Any:
        self.asked.append((sql, params))
        return self._database.query(sql, params)

    async def plans(self) -> list["Plan"]:
        """Those of all queries since the last time."""
        asked, self.asked = self.asked, []
        return [await explain(self._database, sql, params) for sql, params in asked]


class Plan(msgspec.Struct, frozen=True):
    """How a query was answered: its steps in words, and (PostgreSQL) the most rows that one step gave or threw away."""

    sql: str
    steps: list[str]
    rows: int


async def explain(database: IDatabase, sql: str, params: Params) -> Plan:
    if database.flavour == "sqlite":
        rows = await database.query(f"EXPLAIN QUERY PLAN {sql}", params)
        return Plan(sql, [row["detail"] for row in rows], 0)
    rows = await database.query(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", params)
    return _of_postgres(sql, rows[0])


def _of_postgres(sql: str, row: Row) -> Plan:
    plan: Any = row["QUERY PLAN"]
    steps, most = [], 0
    waiting = [(plan if isinstance(plan, list) else msgspec.json.decode(plan))[0]["Plan"]]
    while waiting:
        node = waiting.pop()
        steps.append(
            f"{node['Node Type']} {node.get('Relation Name', '')} {node.get('Index Name', '')}".strip()
        )
        read = (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        most = max(most, int(read))
        waiting += node.get("Plans", [])
    return Plan(sql, steps, most)
