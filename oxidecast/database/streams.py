"""The streams that owners have made, live or not."""

from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec
from twisted.internet.interfaces import IReactorTime

from oxidecast.database.audit import SERVER, Actor, note
from oxidecast.database.changes import note_change
from oxidecast.database.errors import Conflict
from oxidecast.database.interface import Body, IDatabase, Row, Value
from oxidecast.database.records import (
    Page,
    Versions,
    contains,
    is_id,
    new_id,
    record,
    require_version,
    utc,
    version_of,
    window,
)
from oxidecast.database.users import Role
from oxidecast.streams.info import StreamInfo, is_stream_id, is_stream_name, name_from_title, numbered

COLUMNS = (
    "id, name, title, owner_id, created_at, description, category, is_private, recording_enabled,"
    " transcoding_profiles, accepts_publishing, outputs, max_viewers"
)
NAMES_TRIED = 1000
"""Streams of one title: beyond so many the owner has to choose a name."""
MOST_NAMED = 10_000
"""Names in one filter; SQLite takes 32,766 parameters in a statement."""


class StreamChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What an owner may change; what is left out stays."""

    title: str | msgspec.UnsetType = msgspec.UNSET
    name: str | msgspec.UnsetType = msgspec.UNSET
    description: str | msgspec.UnsetType = msgspec.UNSET
    category: str | msgspec.UnsetType = msgspec.UNSET
    is_private: bool | msgspec.UnsetType = msgspec.UNSET
    recording_enabled: bool | msgspec.UnsetType = msgspec.UNSET
    transcoding_profiles: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    accepts_publishing: bool | msgspec.UnsetType = msgspec.UNSET
    outputs: Mapping[str, Mapping[str, Any]] | msgspec.UnsetType = msgspec.UNSET


Sort = Literal["created", "-created", "name", "-name"]

_ORDERS: Mapping[Sort, str] = {
    "created": "created_at, id",
    "-created": "created_at DESC, id",
    "name": "name",
    "-name": "name DESC",
}


class OwnedStream(msgspec.Struct, frozen=True, kw_only=True):
    """A stream, and whether its owner may publish at all."""

    stream: StreamInfo
    owner_disabled: bool
    owner_role: Role


def version(info: StreamInfo) -> str:
    """A word that is another one whenever something of what an owner can change is."""
    return version_of(*(getattr(info, field) for field in StreamChange.__struct_fields__))


class Streams:
    """The streams table. Every change is written to the audit log, as done by `by`."""

    def __init__(self, database: IDatabase, clock: IReactorTime) -> None:
        self._database = database
        self._clock = clock

    async def create(
        self,
        owner_id: str,
        title: str,
        *,
        name: str | None = None,
        description: str = "",
        category: str = "",
        is_private: bool = False,
        recording_enabled: bool = False,
        transcoding_profiles: Collection[str] = (),
        by: Actor = SERVER,
        also: Callable[[str], Body[Any]] | None = None,
    ) -> StreamInfo:
        """A new stream. `also` is done in the same transaction, given its id: it has its first key, or there is none of
        both. Its name comes from the title when none is given, with a number
        after it when that is taken. Raises Conflict when a given name is taken, ValueError when it is not a
        name."""
        info = StreamInfo(
            id=new_id(),
            name=_valid(name) if name is not None else name_from_title(title),
            title=title,
            owner_id=owner_id,
            created_at=utc(self._clock),
            description=description,
            category=category,
            is_private=is_private,
            recording_enabled=recording_enabled,
            transcoding_profiles=tuple(transcoding_profiles),
        )
        return await self._database.transaction(_create, info, name is None, by, also)

    async def find(self, reference: str) -> StreamInfo | None:
        """By name or id."""
        column = "id" if is_stream_id(reference) else "name"
        rows = await self._database.query(
            f"SELECT {COLUMNS} FROM streams WHERE {column} = :value", {"value": reference}
        )
        return stream_record(rows[0]) if rows else None

    async def with_owner(self, stream_id: str) -> OwnedStream | None:
        """A stream with what matters of its owner."""
        if not is_id(stream_id):
            return None
        columns = ", ".join(f"s.{column}" for column in COLUMNS.split(", "))
        rows = await self._database.query(
            f"SELECT {columns}, u.disabled AS owner_disabled, u.role AS owner_role FROM streams s"
            " JOIN users u ON u.id = s.owner_id WHERE s.id = :id",
            {"id": stream_id},
        )
        if not rows:
            return None
        return OwnedStream(
            stream=stream_record(rows[0]),
            owner_disabled=bool(rows[0]["owner_disabled"]),
            owner_role=rows[0]["owner_role"],
        )

    async def page(
        self,
        page: int = 1,
        limit: int = 20,
        *,
        include_private: bool = False,
        owner_id: str | None = None,
        category: str | None = None,
        q: str | None = None,
        only: Collection[str] | None = None,
        without: Collection[str] = (),
        oldest_first: bool = False,
        sort: Sort = "-created",
    ) -> Page[StreamInfo]:
        """Newest first, unless said otherwise. `q` finds parts of names, titles and descriptions; `only` and
        `without` are ids, which is how a list is narrowed to what is live, or what is not."""
        conditions, params = _conditions(include_private, owner_id, category, q, only, without)
        rows = await self._database.query(f"SELECT count(*) AS total FROM streams WHERE {conditions}", params)
        order = _ORDERS["created" if oldest_first else sort]
        count, offset = window(page, limit)
        found = await self._database.query(
            f"SELECT {COLUMNS} FROM streams WHERE {conditions} ORDER BY {order} LIMIT :limit OFFSET :offset",
            {**params, "limit": count, "offset": offset},
        )
        return Page([stream_record(row) for row in found], rows[0]["total"], max(page, 1), count)

    async def update(
        self,
        stream_id: str,
        change: StreamChange,
        versions: Versions = None,
        by: Actor = SERVER,
    ) -> StreamInfo | None:
        """The stream after the change, None when there is none. Raises Conflict when the new name is taken,
        ValueError when it is not a name, and Outdated when its version is none of `versions`."""
        values: dict[str, Any] = msgspec.structs.asdict(change)
        if not is_id(stream_id):
            return None
        changed = {key: value for key, value in values.items() if value is not msgspec.UNSET}
        if "name" in changed:
            _valid(changed["name"])
        return await self._database.transaction(_change, stream_id, changed, utc(self._clock), versions, by)

    async def choose(
        self, stream_id: str, output: str, choices: Mapping[str, Any], by: Actor = SERVER
    ) -> StreamInfo | None:
        """Keep what the owner chose for one output. The stream after it, None when there is none."""
        if not is_id(stream_id):
            return None
        return await self._database.transaction(_choose, stream_id, output, choices, utc(self._clock), by)

    async def delete(self, stream_id: str, by: Actor = SERVER, versions: Versions = None) -> bool:
        """Delete a stream with its keys. Answers whether it was there. Raises Outdated when its version is none of
        `versions`."""
        if not is_id(stream_id):
            return False
        return await self._database.transaction(_delete, stream_id, utc(self._clock), by, versions)


def insert_stream(info: StreamInfo, may_number: bool) -> Body[StreamInfo]:
    """A step of a transaction: insert `info`, under its name with a number after it if that is taken and
    `may_number`."""
    name = info.name
    for number in range(2, NAMES_TRIED):
        rows = yield "SELECT 1 FROM streams WHERE name = :name", {"name": name}
        if not rows:
            break
        if not may_number:
            raise Conflict("This name is taken.")
        name = numbered(info.name, number)
    rows = yield (
        f"INSERT INTO streams ({COLUMNS}, updated_at) VALUES (:id, :name, :title, :owner_id, :created_at,"
        " :description, :category, :is_private, :recording_enabled, :transcoding_profiles,"
        f" :accepts_publishing, :outputs, :max_viewers, :created_at) RETURNING {COLUMNS}",
        {**msgspec.structs.asdict(info), "name": name},
    )
    return stream_record(rows[0])


def target(name: str) -> str:
    """A stream as the audit log names it."""
    return f"stream:{name}"


def stream_record(row: Row) -> StreamInfo:
    return record(row, StreamInfo, json=("transcoding_profiles", "outputs"))


def _create(
    info: StreamInfo, may_number: bool, by: Actor, also: Callable[[str], Body[Any]] | None
) -> Body[StreamInfo]:
    made = yield from insert_stream(info, may_number)
    details = {"id": made.id, "is_private": made.is_private}
    yield from note(by, "stream.create", target(made.name), made.created_at, details)
    if also is not None:
        yield from also(made.id)
    return made


def _change(
    stream_id: str, changed: dict[str, Any], now: datetime, versions: Versions, by: Actor
) -> Body[StreamInfo | None]:
    info = yield from _update(stream_id, changed, now, versions)
    if info is not None:
        action = "stream.change"
        details: dict[str, Any] = {"id": stream_id, "changed": sorted(changed)}
        if list(changed) == ["accepts_publishing"]:
            action = "stream.start" if info.accepts_publishing else "stream.stop"
        elif "is_private" in changed:
            details["is_private"] = info.is_private
        yield from note(by, action, target(info.name), now, details)
        yield from note_change(now, stream_id=stream_id)
    return info


def _delete(stream_id: str, now: datetime, by: Actor, versions: Versions) -> Body[bool]:
    rows = yield f"DELETE FROM streams WHERE id = :id RETURNING {COLUMNS}", {"id": stream_id}
    for row in rows:
        require_version(version(stream_record(row)), versions)
        yield from note(by, "stream.delete", target(row["name"]), now, {"id": stream_id})
        yield from note_change(now, stream_id=stream_id)
    return bool(rows)


def _update(
    stream_id: str, changed: dict[str, Any], now: datetime, versions: Versions = None
) -> Body[StreamInfo | None]:
    if versions is not None:
        rows = yield f"SELECT {COLUMNS} FROM streams WHERE id = :id", {"id": stream_id}
        if rows:
            require_version(version(stream_record(rows[0])), versions)
    if "name" in changed:
        taken = yield (
            "SELECT 1 FROM streams WHERE name = :name AND id <> :id",
            {"name": changed["name"], "id": stream_id},
        )
        if taken:
            raise Conflict("This name is taken.")
    columns = "".join(f"{column} = :{column}, " for column in changed)  # the Struct's field names
    rows = yield (
        f"UPDATE streams SET {columns}updated_at = :now WHERE id = :id RETURNING {COLUMNS}",
        {**changed, "id": stream_id, "now": now},
    )
    return stream_record(rows[0]) if rows else None


def _choose(
    stream_id: str, output: str, choices: Mapping[str, Any], now: datetime, by: Actor
) -> Body[StreamInfo | None]:
    rows = yield f"SELECT {COLUMNS} FROM streams WHERE id = :id", {"id": stream_id}
    if not rows:
        return None
    outputs = {**stream_record(rows[0]).outputs, output: choices}
    info = yield from _update(stream_id, {"outputs": outputs}, now)
    if info is not None:
        # What was chosen may be an address with a password in it, for all that is known here: only its fields are told.
        details = {"id": stream_id, "output": output, "fields": sorted(choices)}
        yield from note(by, "stream.output", target(info.name), now, details)
        yield from note_change(now, stream_id=stream_id)
    return info


def _conditions(
    include_private: bool,
    owner_id: str | None,
    category: str | None,
    q: str | None,
    only: Collection[str] | None,
    without: Collection[str],
) -> tuple[str, dict[str, Value]]:
    conditions, params = ["true"], dict[str, Value]()
    if not include_private:
        conditions.append("NOT is_private")
    if owner_id is not None:
        conditions.append("owner_id = :owner_id")
        params["owner_id"] = owner_id
    if category is not None:
        conditions.append("category = :category")
        params["category"] = category
    if q:
        fields = ("name", "title", "description")
        conditions.append("(" + " OR ".join(f"lower({field}) LIKE :q ESCAPE '\\'" for field in fields) + ")")
        params["q"] = contains(q)
    if only is not None:
        conditions.append(f"id IN ({_listed('only', only, params)})" if only else "false")
    if without:
        conditions.append(f"id NOT IN ({_listed('without', without, params)})")
    return " AND ".join(conditions), params


def _listed(name: str, ids: Collection[str], params: dict[str, Value]) -> str:
    if len(ids) > MOST_NAMED:
        raise ValueError(f"at most {MOST_NAMED} ids can be asked for at once")
    for index, value in enumerate(ids):
        params[f"{name}{index}"] = value
    return ", ".join(f":{name}{index}" for index in range(len(ids)))


def _valid(name: str) -> str:
    if not is_stream_name(name):
        raise ValueError(
            "a name is 1 to 64 lower-case letters, digits and inner dashes, and does not look like an id"
        )
    return name
