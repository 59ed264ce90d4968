"""`/streams/{stream}/key` and `/keys`: the secrets that publish, for the stream's owner.

The one idea: `/key` is the newest key, which is all that most owners ever have; `/keys` are all of them.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from oxidecast.accounts.errors import KeyUnreadable
from oxidecast.accounts.keys import PublishKeys, StreamKey
from oxidecast.accounts.networks import parse_networks
from oxidecast.database.errors import Outdated
from oxidecast.database.keys import KeyRecord, TooManyKeys, version
from oxidecast.database.streams import target
from oxidecast.streams.info import is_stream_id
from oxidecast.web.access import StreamAccess
from oxidecast.web.api import PAGING, ApiError, Call, Page, Reply, Route, invalid, not_found
from oxidecast.web.consequences import Consequences
from oxidecast.web.fields import KeyName, Networks, Time
from oxidecast.web.tags import etag, expected

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
    allowed_addresses: Networks | None = None


class KeyChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is left out stays. Null says for `expires_at` that the key does not expire, for all else that it is left
    out; an empty list of `allowed_addresses`, that it may be used from everywhere."""

    name: KeyName | None = None
    expires_at: Time | UnsetType | None = UNSET
    allowed_addresses: Networks | None = None


class KeyView(msgspec.Struct, frozen=True, kw_only=True):
    """A key as its owner sees it. `stream_key` is null when the server secret has changed since it was made;
    `allowed_addresses` are the networks that it may be used from, none when that is from everywhere."""

    id: str
    name: str
    stream_key: str | None
    created_at: Time
    expires_at: Time | None
    last_used_at: Time | None
    last_used_from: str | None
    allowed_addresses: tuple[str, ...]


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
            Route("DELETE", newest, self.revoke_newest, if_match=True, **owner),
            Route("POST", f"{newest}/rotate", self.rotate, body=Rotation, body_optional=True, **conflict),
            Route("GET", every, self.list, answer=Page[KeyView], query=PAGING, **owner),
            Route("POST", every, self.create, body=NewKey, body_optional=True, status=201, **conflict),
            Route(
                "PATCH",
                f"{every}/{{key}}",
                self.change,
                body=KeyChange,
                answer=KeyView,
                if_match=True,
                **owner,
            ),
            Route("DELETE", f"{every}/{{key}}", self.revoke, **owner),
        )

    async def show(self, call: Call) -> Reply:
        """The newest key. Its ETag is what a DELETE may name by If-Match."""
        info = await self._access.managed(call)
        try:
            key = await self._keys.newest(info.id)
        except KeyUnreadable as error:
            raise ApiError(409, error.code, str(error))
        if key is None:
            raise not_found("This stream has no key: make one.")
        await self._keys.shown(target(info.name), [key.id], call.actor)
        return Reply(_view(key, key.text), headers=[etag(key.id)])

    async def rotate(self, call: Call) -> KeyView:
        """A new key in place of the newest, which stays valid for the overlap. Who publishes with it is not cut."""
        info = await self._access.managed(call)
        body = call.optional_body(Rotation)
        try:
            key = await self._keys.rotate(info.id, body.overlap_seconds or 0.0, call.actor)
        except TooManyKeys as error:
            raise ApiError(409, "too_many_keys", str(error))
        self._consequences.keys_changed(info.id)
        return _view(key, key.text)

    async def revoke_newest(self, call: Call) -> None:
        """Revoke the newest key, and cut who publishes with it, or with one that was replaced before. The next newest
        takes its place: who repeats this names by If-Match the key that is meant. Where none is, none is left."""
        info = await self._access.managed(call)
        versions = expected(call)
        if versions is not None and len(versions) != 1:
            raise Outdated
        meant = None if versions is None else next(iter(versions))
        gone = await self._keys.revoke_newest(info.id, call.actor, meant)
        for key_id in gone:
            self._consequences.key_revoked(info.id, key_id)

    async def list(self, call: Call) -> Page[KeyView]:
        """All valid keys, newest first."""
        page, limit = call.paging()
        info = await self._access.managed(call)
        every = await self._keys.listed(info.id)  # They are few.
        listed = every[(page - 1) * limit : page * limit]
        if listed:
            await self._keys.shown(target(info.name), [record.id for record, _ in listed], call.actor)
        views = [_view(record, text) for record, text in listed]
        return Page(views, len(every), page, limit, -(-len(every) // limit))

    async def create(self, call: Call) -> Reply:
        """One more key, which is then the newest."""
        info = await self._access.managed(call)
        body = call.optional_body(NewKey)
        try:
            key = await self._keys.create(
                info.id,
                body.name or "",
                self._expiry(body.expires_at),
                _networks(body.allowed_addresses or []),
                call.actor,
            )
        except TooManyKeys as error:
            raise ApiError(409, "too_many_keys", str(error))
        return Reply(_view(key, key.text), 201, [("Location", f"/api/v1/streams/{info.name}/keys/{key.id}")])

    async def change(self, call: Call) -> Reply:
        """Change a key's name, expiry, or the addresses that it may be used from. Who publishes with it goes on."""
        info = await self._access.managed(call)
        body, key_id = call.body(KeyChange), call.arguments["key"]
        changed: dict[str, Any] = {}
        if body.name is not None:
            changed["name"] = body.name
        if body.expires_at is not UNSET:
            changed["expires_at"] = self._expiry(body.expires_at)
        if body.allowed_addresses is not None:
            changed["allowed_addresses"] = list(_networks(body.allowed_addresses))
        key = await self._keys.change(info.id, key_id, changed, call.actor, expected(call))
        if key is None:
            raise not_found("This stream has no such key.")
        self._consequences.keys_changed(info.id)
        return Reply(_view(*key), headers=[etag(version(key[0]))])

    async def revoke(self, call: Call) -> None:
        """Revoke a key, and cut who publishes with it. One that is not there is as good as revoked."""
        info = await self._access.managed(call)
        key_id = call.arguments["key"]
        if is_stream_id(key_id):
            await self._keys.revoke(info.id, key_id, call.actor)
            # Also when it was not valid any more: who publishes with a key that was rotated away is still there.
            self._consequences.key_revoked(info.id, key_id)

    def _expiry(self, at: datetime | None) -> datetime | None:
        if at is None:
            return None
        now = self._keys.now()
        if not now < at < now + LONGEST_LIFE:
            raise invalid("expires_at", "expected a time from now on, and within ten years")
        return at.astimezone(UTC)


def _networks(texts: Sequence[str]) -> tuple[str, ...]:
    try:
        return parse_networks(texts)
    except ValueError as error:
        raise invalid("allowed_addresses", str(error))


def _view(key: StreamKey | KeyRecord, text: str | None) -> KeyView:
    return KeyView(
        id=key.id,
        name=key.name,
        stream_key=text,
        created_at=key.created_at,
        expires_at=key.expires_at,
        last_used_at=key.last_used_at,
        last_used_from=key.last_used_from,
        allowed_addresses=key.allowed_addresses,
    )
