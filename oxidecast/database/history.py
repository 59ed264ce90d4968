"""What live streams leave behind, written many rows at a time: broadcasts, viewer sessions, measurements.

The one idea: every write may be done again. A batch whose outcome is not known (the connection died at its commit) is
simply written once more: rows that are there already are left, and only those that were inserted are added to the
totals, in the same transaction.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from typing import TypeVar

import msgspec

from oxidecast.database.broadcasts import BroadcastRecord
from oxidecast.database.interface import Body, Statement, Value

R = TypeVar("R")

ROWS = 100
"""Rows in one statement: PostgreSQL's driver puts the values in while the reactor waits, 2 ms for so many."""


class Broadcast(BroadcastRecord, frozen=True, kw_only=True):
    """One time that a stream was live, as it is now: a row of `stream_sessions`."""

    stream_id: str
    server_id: str
    seen_at: datetime
    """When this was so."""


class ViewerSession(msgspec.Struct, frozen=True, kw_only=True):
    """One viewer from its join to its end: a row of `viewer_sessions`."""

    id: str
    stream_id: str
    session_id: str | None
    """The broadcast's."""
    user_id: str | None
    connection_type: str
    rendition: str
    address: str | None
    started_at: datetime
    ended_at: datetime
    bytes_sent: int
    startup_time: float | None = None
    """Seconds from asking to the first picture, where that is known."""
    figures: dict[str, float] = {}
    """How it was served, as its output has it."""


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """One rendition over the last while: a row of `stream_metrics`. `bitrate` in bits, `frame_rate` in pictures, a
    second; `frames_dropped` since the measurement before."""

    stream_id: str
    rendition: str
    at: datetime
    bitrate: int
    frame_rate: float
    frames_dropped: int
    viewers: int


_STATE = (
    "ended_at",
    "end_reason",
    "encoder",
    "reconnects",
    "bytes_received",
    "peak_viewers",
    "unique_viewers",
)
_BROADCAST = Broadcast.__struct_fields__
_UPSERT = (
    f"INSERT INTO stream_sessions ({', '.join(_BROADCAST)})"
    f" SELECT {', '.join(f':{field}' for field in _BROADCAST)}"
    # A stream may have been deleted meanwhile; its broadcasts went with it.
    " WHERE EXISTS (SELECT 1 FROM streams WHERE id = :stream_id)"
    f" ON CONFLICT (id) DO UPDATE SET {', '.join(f'{field} = excluded.{field}' for field in (*_STATE, 'seen_at'))}"
)
_HOUR = (
    "INSERT INTO viewer_hours (stream_id, hour, connection_type, sessions, watch_time, bytes_sent)"
    " VALUES (:stream_id, :hour, :connection_type, :sessions, :watch_time, :bytes_sent)"
    " ON CONFLICT (stream_id, hour, connection_type) DO UPDATE SET"
    " sessions = viewer_hours.sessions + excluded.sessions,"
    " watch_time = viewer_hours.watch_time + excluded.watch_time,"
    " bytes_sent = viewer_hours.bytes_sent + excluded.bytes_sent"
)


def write_broadcasts(rows: Sequence[Broadcast]) -> Body[None]:
    """The newest state of each, whether there was one before or not; and their streams' highest number of viewers."""
    for row in rows:
        yield _UPSERT, msgspec.structs.asdict(row)
        yield (
            "UPDATE streams SET max_viewers = :peak WHERE id = :stream_id AND max_viewers < :peak",
            {"peak": row.peak_viewers, "stream_id": row.stream_id},
        )


def write_viewers(rows: Sequence[ViewerSession]) -> Body[None]:
    """Viewer sessions, and the totals of the hours in which they began."""
    by_id = {row.id: row for row in rows}
    inserted: list[ViewerSession] = []
    for some in _parts(rows):
        returned = yield _insertion("viewer_sessions", some, " RETURNING id")
        inserted += [by_id[str(row["id"])] for row in returned]
    totals: dict[tuple[str, datetime, str], list[float]] = defaultdict(lambda: [0, 0.0, 0])
    for row in inserted:
        total = totals[row.stream_id, hour_of(row.started_at), row.connection_type]
        total[0] += 1
        total[1] += (row.ended_at - row.started_at).total_seconds()
        total[2] += row.bytes_sent
    for (stream_id, hour, connection_type), (sessions, watch_time, bytes_sent) in sorted(totals.items()):
        values: dict[str, Value] = {"stream_id": stream_id, "hour": hour, "connection_type": connection_type}
        yield _HOUR, {**values, "sessions": sessions, "watch_time": watch_time, "bytes_sent": bytes_sent}


def write_measurements(rows: Sequence[Measurement]) -> Body[None]:
    for some in _parts(rows):
        yield _insertion("stream_metrics", some)


def hour_of(moment: datetime) -> datetime:
    """The hour that it lies in. All times here are UTC."""
    return moment.replace(minute=0, second=0, microsecond=0)


def _parts(rows: Sequence[R]) -> Iterator[Sequence[R]]:
    return (rows[begin : begin + ROWS] for begin in range(0, len(rows), ROWS))


def _insertion(table: str, rows: Sequence[msgspec.Struct], more: str = "") -> Statement:
    fields = rows[0].__struct_fields__
    params = {f"{field}{number}": getattr(row, field) for number, row in enumerate(rows) for field in fields}
    return _insert(table, fields, len(rows), more), params


@lru_cache(4 * ROWS)
def _insert(table: str, fields: tuple[str, ...], count: int, more: str) -> str:
    values = ", ".join(f"({', '.join(f':{field}{number}' for field in fields)})" for number in range(count))
    return f"INSERT INTO {table} ({', '.join(fields)}) VALUES {values} ON CONFLICT DO NOTHING{more}"
