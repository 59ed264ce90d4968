"""Stream keys at rest: a keyed hash to find them by, and a sealed copy for their owner."""

from datetime import datetime

import msgspec
from twisted.internet.interfaces import IReactorTime

from oxidecast.database.errors import Conflict
from oxidecast.database.interface import Body, IDatabase
from oxidecast.database.records import is_id, new_id, record, utc
from oxidecast.database.streams import COLUMNS, stream_record
from oxidecast.streams.info import StreamInfo

_COLUMNS = (
    "id, stream_id, name, digest, sealed, created_at, expires_at, revoked_at, last_used_at, last_used_from"
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

    def __repr__(self) -> str:
        return f"KeyRecord({self.id!r})"


class FoundKey(msgspec.Struct, frozen=True, kw_only=True):
    """A valid key with its stream."""

    key: KeyRecord
    stream: StreamInfo
    owner_disabled: bool


class StreamKeys:
    """The stream_keys table. A key is valid until it expires or is revoked."""

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
    ) -> KeyRecord:
        """Raises TooManyKeys, and Conflict when there is no such stream."""
        return await self._database.transaction(
            _add, stream_id, digest, sealed, name, utc(self._clock), expires_at
        )

    async def find(self, digest: str) -> FoundKey | None:
        """The valid key of this digest."""
        key_columns = ", ".join(f"k.{column} AS key_{column}" for column in _COLUMNS.split(", "))
        stream_columns = ", ".join(f"s.{column}" for column in COLUMNS.split(", "))
        rows = await self._database.query(
            f"SELECT {key_columns}, {stream_columns}, u.disabled AS owner_disabled FROM stream_keys k"
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
            key=record(own, KeyRecord), stream=stream_record(row), owner_disabled=bool(row["owner_disabled"])
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
        return [record(row, KeyRecord) for row in rows]

    async def replace_newest(
        self, stream_id: str, digest: str, sealed: bytes, old_expires_at: datetime
    ) -> KeyRecord:
        """Add a key in place of the newest valid one, which keeps its name's place until `old_expires_at`. Raises
        TooManyKeys."""
        return await self._database.transaction(
            _replace_newest, stream_id, digest, sealed, old_expires_at, utc(self._clock)
        )

    async def revoke(self, stream_id: str, key_id: str) -> bool:
        """Answers whether there was such a key that was not revoked yet."""
        if not (is_id(stream_id) and is_id(key_id)):
            return False
        changed = await self._database.execute(
            "UPDATE stream_keys SET revoked_at = :now"
            " WHERE id = :id AND stream_id = :stream_id AND revoked_at IS NULL",
            {"id": key_id, "stream_id": stream_id, "now": utc(self._clock)},
        )
        return changed == 1

    async def used(self, key_id: str, address: str | None) -> None:
        await self._database.execute(
            "UPDATE stream_keys SET last_used_at = :now, last_used_from = :address WHERE id = :id",
            {"id": key_id, "address": address, "now": utc(self._clock)},
        )


def insert_key(
    stream_id: str,
    digest: str,
    sealed: bytes,
    name: str,
    now: datetime,
    expires_at: datetime | None = None,
) -> Body[KeyRecord]:
    """A step of a transaction."""
    rows = yield (
        "INSERT INTO stream_keys (id, stream_id, name, digest, sealed, created_at, expires_at)"
        f" VALUES (:id, :stream_id, :name, :digest, :sealed, :now, :expires_at) RETURNING {_COLUMNS}",
        {
            "id": new_id(),
            "stream_id": stream_id,
            "name": name,
            "digest": digest,
            "sealed": sealed,
            "now": now,
            "expires_at": expires_at,
        },
    )
    return record(rows[0], KeyRecord)


def _add(
    stream_id: str,
    digest: str,
    sealed: bytes,
    name: str,
    now: datetime,
    expires_at: datetime | None = None,
) -> Body[KeyRecord]:
    """Insert a key where there is room for one; keys that were valid once make room."""
    rows = yield (
        f"SELECT count(*) AS valid FROM stream_keys WHERE stream_id = :stream_id AND {_VALID}",
        {"stream_id": stream_id, "now": now},
    )
    if rows[0]["valid"] >= MOST:
        raise TooManyKeys
    yield (
        "DELETE FROM stream_keys WHERE stream_id = :stream_id AND (revoked_at < :now OR expires_at < :now)",
        {"stream_id": stream_id, "now": now},
    )
    return (yield from insert_key(stream_id, digest, sealed, name, now, expires_at))


def _replace_newest(
    stream_id: str, digest: str, sealed: bytes, old_expires_at: datetime, now: datetime
) -> Body[KeyRecord]:
    newest = yield (
        f"SELECT id, name, expires_at FROM stream_keys WHERE stream_id = :stream_id AND {_VALID}"
        " ORDER BY created_at DESC, id LIMIT 1",
        {"stream_id": stream_id, "now": now},
    )
    name = ""
    for row in newest:
        name = row["name"]
        yield (
            "UPDATE stream_keys SET expires_at = :at"
            " WHERE id = :id AND (expires_at IS NULL OR expires_at > :at)",
            {"id": row["id"], "at": old_expires_at},
        )
    return (yield from _add(stream_id, digest, sealed, name, now))
