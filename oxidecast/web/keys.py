"""`/streams/{stream}/key` and `/keys`: the secrets that publish, for the stream's owner.

The one idea: `/key` is the newest key, which is all that most owners ever have; `/keys` are all of them.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from oxidecast.accounts.errors import KeyUnreadable
from oxidecast.accounts.keys import PublishKeys, StreamKey
from oxidecast.database.keys import KeyRecord, TooManyKeys
from oxidecast.streams.info import is_stream_id
from oxidecast.web.access import StreamAccess
from oxidecast.web.api import ApiError, Call, Reply, Route, invalid, not_found
from oxidecast.web.consequences import Consequences
from oxidecast.web.fields import KeyName, Time

LONGEST_OVERLAP = 30 * 86_400
"""Seconds; who needs two keys for longer makes a second one."""

LONGEST_LIFE = timedelta(days=3660)
"""Ten years: a date beyond is a mistake, and near the end of the calendar it does not fit every time zone."""


class Rotation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`overlap_seconds` is how long the old key stays valid; 0 by default."""

    overlap_seconds: Annotated[float, Meta(ge=0, le=LONGEST_OVERLAP)] | None = None


class NewKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of what may be left out, null says that it is."""

    name: KeyName | None = None
    expires_at: Time | None = None


class KeyView(msgspec.Struct, frozen=True, kw_only=True):
    """A key as its owner sees it. `stream_key` is null when the server secret has changed since it was made."""

    id: str
    name: str
    stream_key: str | None
    created_at: Time
    expires_at: Time | None
    last_used_at: Time | None
    last_used_from: str | None


class KeyRoutes:
    """The handlers."""

    def __init__(self, access: StreamAccess, keys: PublishKeys, consequences: Consequences) -> None:
        self._access = access
        self._keys = keys
        self._consequences = consequences

    def routes(self) -> Sequence[Route]:
        newest, every = "/streams/{stream}/key", "/streams/{stream}/keys"
        owner: dict[str, Any] = {"login": True, "refusals": (403,)}
        conflict: dict[str, Any] = {"login": True, "refusals": (403, 409), "answer": KeyView}
        return (
            Route("GET", newest, self.show, **conflict),
            Route("DELETE", newest, self.revoke_newest, **owner),
            Route("POST", f"{newest}/rotate", self.rotate, body=Rotation, body_optional=True, **conflict),
            Route("GET", every, self.list, answer=list[KeyView], **owner),
            Route("POST", every, self.create, body=NewKey, body_optional=True, status=201, **conflict),
            Route("DELETE", f"{every}/{{key}}", self.revoke, **owner),
        )

    async def show(self, call: Call) -> KeyView:
        """The newest key."""
        info = await self._access.managed(call)
        try:
            key = await self._keys.newest(info.id)
        except KeyUnreadable as error:
            raise ApiError(409, error.code, str(error))
        if key is None:
            raise not_found("This stream has no key: make one.")
        return _view(key, key.text)

    async def rotate(self, call: Call) -> KeyView:
        """A new key in place of the newest, which stays valid for the overlap. Who publishes with it is not cut."""
        info = await self._access.managed(call)
        body = call.optional_body(Rotation)
        try:
            key = await self._keys.rotate(info.id, body.overlap_seconds or 0.0)
        except TooManyKeys as error:
            raise ApiError(409, "too_many_keys", str(error))
        self._consequences.keys_changed(info.id)
        return _view(key, key.text)

    async def revoke_newest(self, call: Call) -> None:
        """Revoke the newest key, and cut who publishes with it. Where there is none, none is left."""
        info = await self._access.managed(call)
        key_id = await self._keys.revoke_newest(info.id)
        if key_id is not None:
            self._consequences.key_revoked(info.id, key_id)

    async def list(self, call: Call) -> list[KeyView]:
        """All valid keys, newest first."""
        info = await self._access.managed(call)
        return [_view(record, text) for record, text in await self._keys.listed(info.id)]

    async def create(self, call: Call) -> Reply:
        """One more key, which is then the newest."""
        info = await self._access.managed(call)
        body = call.optional_body(NewKey)
        try:
            key = await self._keys.create(info.id, body.name or "", self._expiry(body.expires_at))
        except TooManyKeys as error:
            raise ApiError(409, "too_many_keys", str(error))
        return Reply(_view(key, key.text), 201, [("Location", f"/api/v1/streams/{info.name}/keys/{key.id}")])

    async def revoke(self, call: Call) -> None:
        """Revoke a key, and cut who publishes with it. One that is not there is as good as revoked."""
        info = await self._access.managed(call)
        key_id = call.arguments["key"]
        if is_stream_id(key_id):
            await self._keys.revoke(info.id, key_id)
            # Also when it was not valid any more: who publishes with a key that was rotated away is still there.
            self._consequences.key_revoked(info.id, key_id)

    def _expiry(self, at: datetime | None) -> datetime | None:
        if at is None:
            return None
        now = self._keys.now()
        if not now < at < now + LONGEST_LIFE:
            raise invalid("expires_at", "expected a time from now on, and within ten years")
        return at.astimezone(UTC)


def _view(key: StreamKey | KeyRecord, text: str | None) -> KeyView:
    return KeyView(
        id=key.id,
        name=key.name,
        stream_key=text,
        created_at=key.created_at,
        expires_at=key.expires_at,
        last_used_at=key.last_used_at,
        last_used_from=key.last_used_from,
    )
