"""What was recorded: a row for each file, which outlives its stream."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Literal

import msgspec
from twisted.internet.interfaces import IReactorTime

from oxidecast.database.audit import SERVER, Actor, note
from oxidecast.database.interface import Body, IDatabase, Row, Value
from oxidecast.database.records import (
    Page,
    Versions,
    contains,
    is_id,
    record,
    require_version,
    utc,
    version_of,
    window,
)

State = Literal["writing", "complete", "failed"]
Sort = Literal["started", "-started", "size", "-size"]

MOST_NAMED = 1000
"""Ids in one look-up."""

_COLUMNS = (
    "r.id, r.stream_id, r.session_id, r.owner_id, r.title, r.path, r.state, r.started_at, r.ended_at,"
    " r.duration, r.size, r.error, s.name AS stream_name"
)
_TABLES = "recordings r LEFT JOIN streams s ON s.id = r.stream_id"
_SESSION = (
    "SELECT b.id FROM stream_sessions b WHERE b.stream_id = recordings.stream_id AND b.started_at <= :ended_at"
    " AND (b.ended_at IS NULL OR b.ended_at >= recordings.started_at) ORDER BY b.started_at DESC LIMIT 1"
)
_ORDERS: Mapping[Sort, str] = {
    "started": "r.started_at, r.id",
    "-started": "r.started_at DESC, r.id DESC",
    "size": "r.size, r.id",
    "-size": "r.size DESC, r.id DESC",
}


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """One file. `path` lies below the recordings directory and is nobody's business but the server's."""

    id: str
    stream_id: str | None
    """None when the stream was deleted."""
    owner_id: str | None
    title: str
    path: str
    state: State
    started_at: datetime
    ended_at: datetime | None = None
    duration: float = 0.0
    """Seconds."""
    size: int = 0
    """Bytes."""
    error: str = ""
    """A sentence, where something went wrong."""
    session_id: str | None = None
    """The time on the air that it is of, which all its files share: known when it is over, where that has a row."""
    stream_name: str | None = None

    def __repr__(self) -> str:
        return f"<Recording {self.id} {self.state}>"


def version(one: Recording) -> str:
    """A word that is another one whenever something of what can be changed is."""
    return version_of(one.title)


class Recordings:
    """The recordings table. What people change is written to the audit log, as done by `by`."""

    def __init__(self, database: IDatabase, clock: IReactorTime) -> None:
        self._database = database
        self._clock = clock

    async def add(self, one: Recording) -> None:
        """A new row; one that is there already stays. Stream and owner are left out where they are gone: a recording
        may end after them."""
        await self._database.execute(
            "INSERT INTO recordings (id, stream_id, owner_id, title, path, state, started_at, ended_at, duration,"
            " size, error) VALUES (:id, (SELECT id FROM streams WHERE id = :stream_id),"
            " (SELECT id FROM users WHERE id = :owner_id), :title, :path, :state, :started_at, :ended_at, :duration,"
            " :size, :error) ON CONFLICT (id) DO NOTHING",
            {
                "stream_id": one.stream_id if is_id(one.stream_id or "") else None,
                "owner_id": one.owner_id if is_id(one.owner_id or "") else None,
                **{
                    name: getattr(one, name)
                    for name in ("id", "title", "path", "state", "started_at", "ended_at", "duration", "size")
                },
                "error": one.error,
            },
        )

    async def update(self, one: Recording) -> bool:
        """How far it is, or how it ended; its title and whose it is stay as they are. False when there is no row."""
        changed = await self._database.execute(
            "UPDATE recordings SET state = :state, ended_at = :ended_at, duration = :duration, size = :size,"
            f" error = :error, session_id = COALESCE(session_id, ({_SESSION})) WHERE id = :id",
            {name: getattr(one, name) for name in ("id", "state", "ended_at", "duration", "size", "error")},
        )
        return changed == 1

    async def get(self, recording_id: str) -> Recording | None:
        if not is_id(recording_id):
            return None
        rows = await self._database.query(
            f"SELECT {_COLUMNS} FROM {_TABLES} WHERE r.id = :id", {"id": recording_id}
        )
        return _recording(rows[0]) if rows else None

    async def page(
        self,
        page: int = 1,
        limit: int = 20,
        *,
        owner_id: str | None = None,
        stream: str | None = None,
        state: State | None = None,
        q: str | None = None,
        sort: Sort = "-started",
    ) -> Page[Recording]:
        """`stream` is a name or an id; `q` finds parts of titles and of streams' names."""
        conditions, params = ["true"], dict[str, Value]()
        if owner_id is not None:
            conditions.append("r.owner_id = :owner_id")
            params["owner_id"] = owner_id
        if stream is not None:
            conditions.append("r.stream_id = :stream" if is_id(stream) else "s.name = :stream")
            params["stream"] = stream
        if state is not None:
            conditions.append("r.state = :state")
            params["state"] = state
        if q:
            conditions.append("(lower(r.title) LIKE :q ESCAPE '\\' OR s.name LIKE :q ESCAPE '\\')")
            params["q"] = contains(q)
        where = " AND ".join(conditions)
        rows = await self._database.query(f"SELECT count(*) AS total FROM {_TABLES} WHERE {where}", params)
        count, offset = window(page, limit)
        found = await self._database.query(
            f"SELECT {_COLUMNS} FROM {_TABLES} WHERE {where} ORDER BY {_ORDERS[sort]} LIMIT :limit OFFSET :offset",
            {**params, "limit": count, "offset": offset},
        )
        return Page([_recording(row) for row in found], rows[0]["total"], max(page, 1), count)

    async def rename(
        self, recording_id: str, title: str, by: Actor = SERVER, versions: Versions = None
    ) -> bool:
        """Answers whether it is there. Raises Outdated when its version is none of `versions`."""
        if not is_id(recording_id):
            return False
        return await self._database.transaction(_rename, recording_id, title, utc(self._clock), by, versions)

    async def delete(self, recording_id: str, by: Actor = SERVER) -> bool:
        """Answers whether it was there."""
        if not is_id(recording_id):
            return False
        return await self._database.transaction(_delete, recording_id, utc(self._clock), by)

    # -- for what a server left behind

    async def known(self, ids: Collection[str]) -> dict[str, Recording]:
        """Those of the ids that have a row."""
        ids = [one for one in ids if is_id(one)]
        if len(ids) > MOST_NAMED:
            raise ValueError(f"at most {MOST_NAMED} ids can be asked for at once")
        if not ids:
            return {}
        params: dict[str, Value] = {f"id{index}": one for index, one in enumerate(ids)}
        rows = await self._database.query(
            f"SELECT {_COLUMNS} FROM {_TABLES} WHERE r.id IN ({', '.join(f':{name}' for name in params)})",
            params,
        )
        return {one.id: one for one in map(_recording, rows)}

    async def unfinished(self) -> list[Recording]:
        """All that are being written, as far as the rows know."""
        rows = await self._database.query(
            f"SELECT {_COLUMNS} FROM {_TABLES} WHERE r.state = 'writing' ORDER BY r.started_at", {}
        )
        return [_recording(row) for row in rows]

    async def owner_of(self, stream_id: str) -> tuple[str, str] | None:
        """Owner and title of the stream of a file whose row is missing."""
        if not is_id(stream_id):
            return None
        rows = await self._database.query(
            "SELECT owner_id, title FROM streams WHERE id = :id", {"id": stream_id}
        )
        return (str(rows[0]["owner_id"]), rows[0]["title"]) if rows else None


def _rename(recording_id: str, title: str, now: datetime, by: Actor, versions: Versions) -> Body[bool]:
    rows = yield f"SELECT {_COLUMNS} FROM {_TABLES} WHERE r.id = :id", {"id": recording_id}
    if not rows:
        return False
    require_version(version(_recording(rows[0])), versions)
    yield "UPDATE recordings SET title = :title WHERE id = :id", {"title": title, "id": recording_id}
    yield from note(by, "recording.change", f"recording:{recording_id}", now)
    return True


def _delete(recording_id: str, now: datetime, by: Actor) -> Body[bool]:
    rows = yield "DELETE FROM recordings WHERE id = :id RETURNING id", {"id": recording_id}
    if rows:
        yield from note(by, "recording.delete", f"recording:{recording_id}", now)
    return bool(rows)


def _recording(row: Row) -> Recording:
    return record(row, Recording)
