"""When a stream was live: the rows of `stream_sessions`, and what they add up to."""

from datetime import datetime
from typing import Any, Literal

import msgspec

from oxidecast.database.interface import IDatabase
from oxidecast.database.records import Page, is_id, record, window

Sort = Literal["started", "-started"]

CRASHED = "the server ended without saying so"
"""The end's reason of a broadcast whose server was gone."""

_ORDERS = {"started": "started_at, id", "-started": "started_at DESC, id DESC"}
_LASTED = {
    "sqlite": "(julianday(coalesce(ended_at, seen_at)) - julianday(started_at)) * 86400.0",
    "postgres": "extract(epoch FROM coalesce(ended_at, seen_at) - started_at)",
}
"""Seconds, by flavour. One that is on the air has lasted until it was last written."""


class BroadcastRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One time that a stream was live, from its first picture to the end of its grace time."""

    id: str
    protocol: str
    publisher_address: str | None
    encoder: str
    started_at: datetime
    ended_at: datetime | None
    end_reason: str
    reconnects: int
    """How often its publisher came back, or another took over."""
    bytes_received: int
    peak_viewers: int
    unique_viewers: int
    """Different addresses that watched."""


_COLUMNS = ", ".join(BroadcastRecord.__struct_fields__)


class Aired(msgspec.Struct, frozen=True, kw_only=True):
    """What broadcasts add up to; `air_time` in seconds, `unique_viewers` counted anew in each."""

    broadcasts: int
    air_time: float
    bytes_received: int
    peak_viewers: int
    unique_viewers: int
    first_at: datetime | None


class Broadcasts:
    """The table."""

    def __init__(self, database: IDatabase) -> None:
        self._database = database

    async def page(
        self, stream_id: str, page: int = 1, limit: int = 20, sort: Sort = "-started"
    ) -> Page[BroadcastRecord]:
        count, offset = window(page, limit)
        if not is_id(stream_id):
            return Page([], 0, max(page, 1), count)
        params: dict[str, Any] = {"stream_id": stream_id}
        rows = await self._database.query(
            "SELECT count(*) AS total FROM stream_sessions WHERE stream_id = :stream_id", params
        )
        found = await self._database.query(
            f"SELECT {_COLUMNS} FROM stream_sessions WHERE stream_id = :stream_id"
            f" ORDER BY {_ORDERS[sort]} LIMIT :limit OFFSET :offset",
            {**params, "limit": count, "offset": offset},
        )
        items = [record(row, BroadcastRecord) for row in found]
        return Page(items, rows[0]["total"], max(page, 1), count)

    async def totals(self, stream_id: str) -> Aired:
        rows = await self._database.query(
            f"SELECT count(*) AS broadcasts, coalesce(sum({_LASTED[self._database.flavour]}), 0) AS air_time,"
            " coalesce(sum(bytes_received), 0) AS bytes_received,"
            " coalesce(max(peak_viewers), 0) AS peak_viewers,"
            " coalesce(sum(unique_viewers), 0) AS unique_viewers, min(started_at) AS first_at"
            " FROM stream_sessions WHERE stream_id = :stream_id",
            {"stream_id": stream_id},
        )
        return record(rows[0], Aired)

    async def close_abandoned(self, server_id: str, began: datetime, silent_since: datetime) -> int:
        """End those of this server's earlier runs, and those of servers that were not heard of since then; answers how
        many. A server that was only cut off from the database writes its own again when it is back."""
        return await self._database.execute(
            "UPDATE stream_sessions SET ended_at = seen_at, end_reason = :reason WHERE ended_at IS NULL"
            " AND (seen_at < :silent_since OR (server_id = :server_id AND seen_at < :began))",
            {"reason": CRASHED, "server_id": server_id, "began": began, "silent_since": silent_since},
        )
