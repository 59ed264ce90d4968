"""Who watched a stream: lists of viewer sessions, and what they add up to.

The one idea: `viewer_hours` says how many sessions began in each hour, so that a list of a million has a true total
without counting, and its last page is found without walking there: the hours are added up, and only the rows of the
hours that the page lies in are read.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from oxidecast.database.history import ViewerSession, hour_of
from oxidecast.database.interface import IDatabase, Row, Value
from oxidecast.database.records import Page, is_id, record, window

HOUR = timedelta(hours=1)

_COLUMNS = ", ".join(ViewerSession.__struct_fields__)


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """What viewer sessions add up to; `watch_time` in seconds."""

    sessions: int = 0
    watch_time: float = 0.0
    bytes_sent: int = 0


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which sessions of a stream: those that began at or after `since` and before `until`, of this connection type."""

    stream_id: str
    since: datetime | None = None
    until: datetime | None = None
    connection_type: str | None = None

    def within(self, since: datetime | None, until: datetime | None) -> "Wanted":
        return msgspec.structs.replace(self, since=since, until=until)

    def condition(self, column: str) -> tuple[str, dict[str, Value]]:
        """For a WHERE; `column` is the time."""
        conditions, params = ["stream_id = :stream_id"], dict[str, Value](stream_id=self.stream_id)
        for value, name, test in (
            (self.since, "since", f"{column} >= :since"),
            (self.until, "until", f"{column} < :until"),
            (self.connection_type, "connection_type", "connection_type = :connection_type"),
        ):
            if value is not None:
                conditions.append(test)
                params[name] = value
        return " AND ".join(conditions), params


class _Span(NamedTuple):
    """A stretch of time, and how many sessions began in it."""

    begin: datetime
    end: datetime
    sessions: int


class Audience:
    """The tables `viewer_sessions` and `viewer_hours`."""

    def __init__(self, database: IDatabase) -> None:
        self._database = database

    async def page(
        self, wanted: Wanted, page: int = 1, limit: int = 20, *, newest_first: bool = True
    ) -> Page[ViewerSession]:
        """In the order of their beginning."""
        limit, skip = window(page, limit)
        if not is_id(wanted.stream_id):
            return Page([], 0, max(page, 1), limit)
        spans = await self._spans(wanted)
        if newest_first:
            spans.reverse()
        total = sum(span.sessions for span in spans)
        touched, offset = _touched(spans, skip, limit)
        items: list[ViewerSession] = []
        if touched:
            reach = wanted.within(min(span.begin for span in touched), max(span.end for span in touched))
            items = await self._read(reach, limit, offset, newest_first)
        return Page(items, total, max(page, 1), limit)

    async def totals(self, stream_id: str) -> dict[str, Watched]:
        """By connection type."""
        if not is_id(stream_id):
            return {}
        rows = await self._database.query(
            "SELECT connection_type, sum(sessions) AS sessions, sum(watch_time) AS watch_time,"
            " sum(bytes_sent) AS bytes_sent FROM viewer_hours WHERE stream_id = :stream_id"
            " GROUP BY connection_type ORDER BY connection_type",
            {"stream_id": stream_id},
        )
        return {row.pop("connection_type"): record(row, Watched) for row in rows}

    async def forget_before(self, hour: datetime) -> None:
        """Let the totals of the hours before this one go, with whose sessions `partitions` does the same."""
        await self._database.execute("DELETE FROM viewer_hours WHERE hour < :hour", {"hour": hour})

    async def _read(self, wanted: Wanted, limit: int, offset: int, newest_first: bool) -> list[ViewerSession]:
        condition, params = wanted.condition("started_at")
        order = "started_at DESC, id DESC" if newest_first else "started_at, id"
        rows = await self._database.query(
            f"SELECT {_COLUMNS} FROM viewer_sessions WHERE {condition}"
            f" ORDER BY {order} LIMIT :limit OFFSET :offset",
            {**params, "limit": limit, "offset": offset},
        )
        return [record(row, ViewerSession, json=("figures",)) for row in rows]

    async def _spans(self, wanted: Wanted) -> list[_Span]:
        """All that is wanted, oldest first: whole hours, and the parts of one at either end."""
        since, until = _utc(wanted.since), _utc(wanted.until)
        if since is not None and until is not None and since >= until:
            return []
        first = since if since is None or since == hour_of(since) else hour_of(since) + HOUR
        last = until if until is None else hour_of(until)
        spans: list[_Span] = []
        if since is not None and first is not None and since < first:
            spans.append(await self._counted(wanted, since, first if until is None else min(first, until)))
        if first is None or last is None or first < last:
            spans += [_span(row) for row in await self._hours(wanted.within(first, last))]
        if until is not None and last is not None and last < until and (first is None or first <= last):
            spans.append(await self._counted(wanted, last, until))
        return spans

    async def _hours(self, wanted: Wanted) -> Sequence[Row]:
        condition, params = wanted.condition("hour")
        return await self._database.query(
            f"SELECT hour, sum(sessions) AS sessions FROM viewer_hours WHERE {condition}"
            " GROUP BY hour ORDER BY hour",
            params,
        )

    async def _counted(self, wanted: Wanted, since: datetime, until: datetime) -> _Span:
        """A part of an hour, of which the rows are counted."""
        condition, params = wanted.within(since, until).condition("started_at")
        rows = await self._database.query(
            f"SELECT count(*) AS sessions FROM viewer_sessions WHERE {condition}", params
        )
        return _Span(since, until, rows[0]["sessions"])


def _touched(spans: Sequence[_Span], skip: int, limit: int) -> tuple[list[_Span], int]:
    """The spans that a page lies in, which come after each other, and how many rows of them come before it."""
    touched: list[_Span] = []
    offset = before = 0
    for span in spans:
        after = before + span.sessions
        if after > skip and before < skip + limit:
            if not touched:
                offset = skip - before
            touched.append(span)
        before = after
    return touched, offset


def _span(row: Row) -> _Span:
    hour = msgspec.convert(row["hour"], datetime)
    return _Span(hour, hour + HOUR, row["sessions"])


def _utc(moment: datetime | None) -> datetime | None:
    return moment.astimezone(UTC) if moment is not None else None
