"""May this key publish, and to which stream?

The database is asked each time, so that a revoked key is refused at once. When it is away, keys that it
confirmed lately still publish: live media does not wait for it.
"""

import hmac
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple
from uuid import UUID, uuid5

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from oxidecast.accounts.errors import PublishRefused
from oxidecast.accounts.keys import KeySafe
from oxidecast.accounts.networks import is_within
from oxidecast.accounts.roles import Permission, role_may
from oxidecast.accounts.settings import KEY_LIFETIME
from oxidecast.database.errors import DatabaseError, DatabaseUnavailable
from oxidecast.database.interface import IDatabase
from oxidecast.database.keys import FoundKey, StreamKeys
from oxidecast.database.records import utc
from oxidecast.database.streams import Streams
from oxidecast.database.users import User, Users
from oxidecast.streams.info import Grant, StreamInfo, name_from_title

CACHED_KEYS = 10_000
"""About 10 MB; more than that many encoders do not come back during one outage."""
LOOKS = 5
"""How often a key is looked up again because an owner changed something meanwhile: who was let in by what was read
before a revocation, and came after it had looked for whom to cut, would publish for good."""

_WITHOUT_ACCOUNT = UUID("6f786964-6563-4173-9400-6f70656e0000")
"""Namespace of the ids of streams that exist only because somebody publishes."""


class _Remembered(NamedTuple):
    found: FoundKey
    confirmed: float


class KeyAuthenticator:
    """Checks keys against the database, and remembers what it said."""

    log = Logger()

    def __init__(
        self,
        database: IDatabase,
        clock: IReactorTime,
        safe: KeySafe,
        lifetime: float = KEY_LIFETIME,
        cached_keys: int = CACHED_KEYS,
    ) -> None:
        """A confirmed key counts for `lifetime` seconds while the database is away."""
        self._keys = StreamKeys(database, clock)
        self._clock = clock
        self._safe = safe
        self.lifetime = lifetime
        self._capacity = cached_keys
        self._remembered: OrderedDict[str, _Remembered] = OrderedDict()
        self.changes = 0
        """How often something was forgotten."""

    async def authenticate_publish(self, key: str, address: str | None = None) -> Grant:
        """The stream of a key. Raises PublishRefused: with `unavailable` when the database is away and the
        key is not remembered."""
        digest = self._safe.digest(key)
        if digest is None:
            raise PublishRefused("unknown_key")
        found = await self._find(digest)
        if found is None or not hmac.compare_digest(found.key.digest, digest):
            raise PublishRefused("unknown_key")
        allowed = found.key.allowed_addresses
        if allowed and not is_within(address, allowed):
            # Before anything else is said of the stream: who found the key somewhere learns nothing more.
            raise PublishRefused("address_not_allowed")
        if found.owner_disabled:
            raise PublishRefused("account_disabled")
        if not role_may(found.owner_role, Permission.PUBLISH):
            raise PublishRefused("role_may_not")
        if not found.stream.accepts_publishing:
            raise PublishRefused("stream_stopped")
        Deferred.fromCoroutine(self._note_use(found.key.id, address))  # the publisher does not wait for it
        return Grant(found.stream, found.key.id)

    def is_key(self, text: str) -> bool:
        """Whether a text has the shape of a stream key, valid or not: it must not become a name."""
        return self._safe.digest(text) is not None

    def forget(self, stream_id: str) -> None:
        """Drop what is remembered of a stream: it was changed, stopped or deleted, or its keys were."""
        self._forget(lambda stream: stream.id == stream_id)

    def forget_owner(self, user_id: str) -> None:
        """Drop what is remembered of all streams of an account, which was disabled or deleted."""
        self._forget(lambda stream: stream.owner_id == user_id)

    def forget_all(self) -> None:
        """Drop what is remembered of all streams."""
        self._forget(lambda _: True)

    def _forget(self, is_meant: Callable[[StreamInfo], bool]) -> None:
        self.changes += 1
        for digest, remembered in list(self._remembered.items()):
            if is_meant(remembered.found.stream):
                del self._remembered[digest]

    async def _find(self, digest: str) -> FoundKey | None:
        """What the database says of a key, or said lately when it is away."""
        for _ in range(LOOKS):
            changes = self.changes
            try:
                found = await self._keys.find(digest)
            except DatabaseUnavailable:
                found = self._recalled(digest)
                if found is None:
                    raise PublishRefused("unavailable") from None
                return found
            if changes == self.changes:
                self._remember(digest, found)
                return found
        raise PublishRefused("unavailable")

    def _remember(self, digest: str, found: FoundKey | None) -> None:
        self._remembered.pop(digest, None)
        if found is not None:
            self._remembered[digest] = _Remembered(found, self._clock.seconds())
            if len(self._remembered) > self._capacity:
                self._remembered.popitem(last=False)

    def _recalled(self, digest: str) -> FoundKey | None:
        remembered = self._remembered.get(digest)
        if remembered is None or self._clock.seconds() - remembered.confirmed >= self.lifetime:
            return None
        expires = remembered.found.key.expires_at
        return remembered.found if expires is None or expires > utc(self._clock) else None

    async def _note_use(self, key_id: str, address: str | None) -> None:
        try:
            await self._keys.used(key_id, address)
        except DatabaseError:
            self.log.debug("the use of a stream key was not noted")


class OpenAuthenticator:
    """For closed networks (`rtmp.enable_auth = false`): any text publishes, and names the stream.

    Where a stream of that name exists it is used, with its owner's choices; otherwise there is one for as
    long as somebody publishes, and the database does not know it.
    """

    def __init__(self, database: IDatabase, clock: IReactorTime, changes: Callable[[], int]) -> None:
        """`changes()` counts what owners changed, as `KeyAuthenticator.changes` does."""
        self._streams = Streams(database, clock)
        self._users = Users(database, clock)
        self._clock = clock
        self._changes = changes

    async def authenticate_publish(self, key: str, address: str | None = None) -> Grant:
        """Raises PublishRefused for a stream that its owner stopped, or whose owner's account is disabled."""
        name = name_from_title(key)
        stream, owner = await self._find(name)
        if stream is None:
            stream = StreamInfo(
                id=str(uuid5(_WITHOUT_ACCOUNT, name)),
                name=name,
                title=name,
                owner_id="",
                created_at=utc(self._clock),
            )
        if owner is not None and owner.disabled:
            raise PublishRefused("account_disabled")
        if owner is not None and not role_may(owner.role, Permission.PUBLISH):
            raise PublishRefused("role_may_not")
        if not stream.accepts_publishing:
            raise PublishRefused("stream_stopped")
        return Grant(stream, None)

    async def _find(self, name: str) -> tuple[StreamInfo | None, User | None]:
        """The stream of that name, with its owner. Raises PublishRefused when the database is away: it may be a private
        stream, or a stopped one."""
        for _ in range(LOOKS):
            changes = self._changes()
            try:
                stream = await self._streams.find(name)
                owner = await self._users.by_id(stream.owner_id) if stream is not None else None
            except DatabaseUnavailable:
                raise PublishRefused("unavailable") from None
            if changes == self._changes():
                return stream, owner
        raise PublishRefused("unavailable")
