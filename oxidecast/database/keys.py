"""Stream keys at rest: a keyed hash to find them by, and a sealed copy for their owner."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from twisted.internet.interfaces import IReactorTime

from oxidecast.database.audit import SERVER, Actor, note
from oxidecast.database.changes import note_change
from oxidecast.database.errors import Conflict, Outdated
from oxidecast.database.interface import Body, IDatabase, Row, Value
from oxidecast.database.records import (
    Versions,
    is_id,
    new_id,
    plain_address,
    record,
    require_version,
    utc,
    version_of,
)
from oxidecast.database.streams import COLUMNS, stream_record, target
from oxidecast.database.users import Role
from oxidecast.streams.info import StreamInfo

_COLUMNS = (
    "id, stream_id, name, digest, sealed, created_at, expires_at, revoked_at, last_used_at, last_used_from,"
    " allowed_addresses"
)
_VALID = "revoked_at IS NULL AND (expires_at IS NULL OR expires_at > :now)"


MOST = 20
"""Valid keys of one stream: every studio, car and telephone that sends to it, and those that are being replaced."""


class TooManyKeys(Conflict):
    """The stream has `MOST` valid keys already."""

    def __init__(self) -> None:
        super().__init__(f"A stream has at most {MOST} keys: revoke one first.")


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A stream key without its text."""

    id: str
    stream_id: str
    name: str
    digest: str
    sealed: bytes
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    last_used_from: str | None = None
    allowed_addresses: tuple[str, ...] = ()
    """Networks that it may be used from; none means from everywhere."""

    def __repr__(self) -> str:
        return f"KeyRecord({self.id!r})"


def version(key: KeyRecord) -> str:
    """A word that is another one whenever something of what can be changed is."""
    return version_of(key.name, key.expires_at, key.allowed_addresses)


class FoundKey(msgspec.Struct, frozen=True, kw_only=True):
    """A valid key with its stream."""

    key: KeyRecord
    stream: StreamInfo
    owner_disabled: bool
    owner_role: Role


class StreamKeys:
    """The stream_keys table. A key is valid until it expires or is revoked. Every change but its use is written to the
    audit log, as done by `by`."""

    def __init__(self, database: IDatabase, clock: IReactorTime) -> None:
        self._database = database
        self._clock = clock

    async def add(
        self,
        stream_id: str,
        digest: str,
        sealed: bytes,
        name: str = "",
        expires_at: datetime | None = None,
        allowed_addresses: Sequence[str] = (),
        by: Actor = SERVER,
    ) -> KeyRecord:
        """Raises TooManyKeys, and Conflict when there is no such stream."""
        return await self._database.transaction(
            create_key, stream_id, digest, sealed, name, utc(self._clock), expires_at, allowed_addresses, by
        )

    async def find(self, digest: str) -> FoundKey | None:
        """The valid key of this digest."""
        key_columns = ", ".join(f"k.{column} AS key_{column}" for column in _COLUMNS.split(", "))
        stream_columns = ", ".join(f"s.{column}" for column in COLUMNS.split(", "))
        rows = await self._database.query(
            f"SELECT {key_columns}, {stream_columns}, u.disabled AS owner_disabled, u.role AS owner_role"
            " FROM stream_keys k"
            " JOIN streams s ON s.id = k.stream_id JOIN users u ON u.id = s.owner_id"
            " WHERE k.digest = :digest AND k.revoked_at IS NULL"
            " AND (k.expires_at IS NULL OR k.expires_at > :now)",
            {"digest": digest, "now": utc(self._clock)},
        )
        if not rows:
            return None
        row = rows[0]
        own = {name.removeprefix("key_"): value for name, value in row.items() if name.startswith("key_")}
        return FoundKey(
            key=_key(own),
            stream=stream_record(row),
            owner_disabled=bool(row["owner_disabled"]),
            owner_role=row["owner_role"],
        )

    async def valid(self, stream_id: str) -> list[KeyRecord]:
        """The stream's valid keys, newest first."""
        if not is_id(stream_id):
            return []
        rows = await self._database.query(
            f"SELECT {_COLUMNS} FROM stream_keys WHERE stream_id = :stream_id AND {_VALID}"
            " ORDER BY created_at DESC, id",
            {"stream_id": stream_id, "now": utc(self._clock)},
        )
        return [_key(row) for row in rows]

    async def replace_newest(
        self, stream_id: str, digest: str, sealed: bytes, old_expires_at: datetime, by: Actor = SERVER
    ) -> KeyRecord:
        """Add a key in place of the newest valid one, which keeps its name's place until `old_expires_at`. The new one
        has its name, and may be used from where it might. Raises TooManyKeys."""
        return await self._database.transaction(
            _replace_newest, stream_id, digest, sealed, old_expires_at, utc(self._clock), by
        )

    async def change(
        self,
        stream_id: str,
        key_id: str,
        changed: Mapping[str, Any],
        by: Actor = SERVER,
        versions: Versions = None,
    ) -> KeyRecord | None:
        """Give a valid key other values, by column: of `name`, `expires_at` and `allowed_addresses`. The key after it,
        None when there is none. Raises Outdated when its version is none of `versions`."""
        if not (is_id(stream_id) and is_id(key_id)):
            return None
        return await self._database.transaction(
            _change, stream_id, key_id, dict(changed), utc(self._clock), by, versions
        )

    async def revoke(self, stream_id: str, key_id: str, by: Actor = SERVER) -> bool:
        """Answers whether there was such a key that was not revoked yet."""
        if not (is_id(stream_id) and is_id(key_id)):
            return False
        return await self._database.transaction(_revoke, stream_id, key_id, utc(self._clock), by)

    async def revoke_newest(
        self, stream_id: str, by: Actor = SERVER, expected: str | None = None
    ) -> list[str]:
        """Revoke the newest valid key, if it is the `expected` one where that is named; raises Outdated. The ids of the
        keys with which nobody may go on: that one, and those that were valid once."""
        if not is_id(stream_id):
            return []
        return await self._database.transaction(_revoke_newest, stream_id, utc(self._clock), by, expected)

    async def used(self, key_id: str, address: str | None) -> None:
        await self._database.execute(
            "UPDATE stream_keys SET last_used_at = :now, last_used_from = :address WHERE id = :id",
            {"id": key_id, "address": plain_address(address), "now": utc(self._clock)},
        )


def insert_key(
    stream_id: str,
    digest: str,
    sealed: bytes,
    name: str,
    now: datetime,
    expires_at: datetime | None = None,
    allowed_addresses: Sequence[str] = (),
) -> Body[KeyRecord]:
    """A step of a transaction."""
    rows = yield (
        "INSERT INTO stream_keys"
        " (id, stream_id, name, digest, sealed, created_at, expires_at, allowed_addresses)"
        " VALUES (:id, :stream_id, :name, :digest, :sealed, :now, :expires_at, :allowed_addresses)"
        f" RETURNING {_COLUMNS}",
        {
            "id": new_id(),
            "stream_id": stream_id,
            "name": name,
            "digest": digest,
            "sealed": sealed,
            "now": now,
            "expires_at": expires_at,
            "allowed_addresses": list(allowed_addresses),
        },
    )
    return _key(rows[0])


def _key(row: Row) -> KeyRecord:
    return record(row, KeyRecord, json=("allowed_addresses",))


def _target(stream_id: str) -> Body[str]:
    """The stream as the audit log names it."""
    rows = yield "SELECT name FROM streams WHERE id = :id", {"id": stream_id}
    return target(rows[0]["name"] if rows else stream_id)


def create_key(
    stream_id: str,
    digest: str,
    sealed: bytes,
    name: str,
    now: datetime,
    expires_at: datetime | None,
    allowed_addresses: Sequence[str],
    by: Actor,
) -> Body[KeyRecord]:
    """A step of a transaction."""
    made = yield from _add(stream_id, digest, sealed, name, now, expires_at, allowed_addresses)
    yield from note(by, "key.create", (yield from _target(stream_id)), now, {"key": made.id})
    return made


def _add(
    stream_id: str,
    digest: str,
    sealed: bytes,
    name: str,
    now: datetime,
    expires_at: datetime | None = None,
    allowed_addresses: Sequence[str] = (),
) -> Body[KeyRecord]:
    """Insert a key where there is room for one; keys that were valid once make room."""
    rows = yield (
        f"SELECT count(*) AS valid FROM stream_keys WHERE stream_id = :stream_id AND {_VALID}",
        {"stream_id": stream_id, "now": now},
    )
    if rows[0]["valid"] >= MOST:
        raise TooManyKeys
    yield (
        # The latest of them stay: somebody may still publish with one, and have to be cut (`_revoke_newest`).
        f"DELETE FROM stream_keys WHERE stream_id = :stream_id AND NOT ({_VALID}) AND id NOT IN"
        f" (SELECT id FROM stream_keys WHERE stream_id = :stream_id AND NOT ({_VALID})"
        " ORDER BY created_at DESC, id LIMIT :most)",
        {"stream_id": stream_id, "now": now, "most": MOST},
    )
    return (yield from insert_key(stream_id, digest, sealed, name, now, expires_at, allowed_addresses))


def _replace_newest(
    stream_id: str, digest: str, sealed: bytes, old_expires_at: datetime, now: datetime, by: Actor
) -> Body[KeyRecord]:
    old = yield from _newest(stream_id, now)
    if old is not None:
        yield (
            "UPDATE stream_keys SET expires_at = :at"
            " WHERE id = :id AND (expires_at IS NULL OR expires_at > :at)",
            {"id": old.id, "at": old_expires_at},
        )
    name, addresses = (old.name, old.allowed_addresses) if old is not None else ("", ())
    expires_at = (
        old.expires_at if old is not None else None
    )  # A key for a while does not become one for ever.
    made = yield from _add(stream_id, digest, sealed, name, now, expires_at, addresses)
    details = {
        "key": made.id,
        "replaces": old.id if old is not None else None,
        "overlap": max(0.0, (old_expires_at - now).total_seconds()),
    }
    yield from note(by, "key.rotate", (yield from _target(stream_id)), now, details)
    yield from note_change(now, stream_id=stream_id)
    return made


def _newest(stream_id: str, now: datetime) -> Body[KeyRecord | None]:
    rows = yield (
        f"SELECT {_COLUMNS} FROM stream_keys WHERE stream_id = :stream_id AND {_VALID}"
        " ORDER BY created_at DESC, id LIMIT 1",
        {"stream_id": stream_id, "now": now},
    )
    return _key(rows[0]) if rows else None


def _change(
    stream_id: str,
    key_id: str,
    changed: Mapping[str, Any],
    now: datetime,
    by: Actor,
    versions: Versions,
) -> Body[KeyRecord | None]:
    which = f"id = :id AND stream_id = :stream_id AND {_VALID}"
    params: dict[str, Value] = {"id": key_id, "stream_id": stream_id, "now": now}
    rows = yield f"SELECT {_COLUMNS} FROM stream_keys WHERE {which}", params
    if rows:
        require_version(version(_key(rows[0])), versions)
    columns = ", ".join(f"{column} = :{column}" for column in changed) or "name = name"  # names from the code
    rows = yield (
        f"UPDATE stream_keys SET {columns} WHERE {which} RETURNING {_COLUMNS}",
        {**changed, **params},
    )
    if not rows:
        return None
    details = {"key": key_id, "changed": sorted(changed)}
    yield from note(by, "key.change", (yield from _target(stream_id)), now, details)
    yield from note_change(now, stream_id=stream_id)
    return _key(rows[0])


def _revoke(stream_id: str, key_id: str, now: datetime, by: Actor) -> Body[bool]:
    rows = yield (
        "UPDATE stream_keys SET revoked_at = :now"
        " WHERE id = :id AND stream_id = :stream_id AND revoked_at IS NULL RETURNING id",
        {"id": key_id, "stream_id": stream_id, "now": now},
    )
    if rows:
        yield from note(by, "key.revoke", (yield from _target(stream_id)), now, {"key": key_id})
    # Also when it was not there any more: who publishes with a key that was rotated away is.
    yield from note_change(now, stream_id=stream_id, key_id=key_id)
    return bool(rows)


def _revoke_newest(stream_id: str, now: datetime, by: Actor, expected: str | None) -> Body[list[str]]:
    """The keys with which nobody may go on: the newest, and those that were valid once."""
    newest = yield from _newest(stream_id, now)
    if expected is not None and (newest is None or newest.id != expected):
        raise Outdated
    rows = yield (
        f"SELECT id FROM stream_keys WHERE stream_id = :stream_id AND NOT ({_VALID})",
        {"stream_id": stream_id, "now": now},
    )
    gone = [str(row["id"]) for row in rows]
    if newest is not None:
        yield from _revoke(stream_id, newest.id, now, by)
    for key_id in gone:
        yield from note_change(now, stream_id=stream_id, key_id=key_id)
    return gone if newest is None else [newest.id, *gone]
