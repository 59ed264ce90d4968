"""Stream keys: 160 random bits in a text that people can read out, of which the database sees only a keyed
hash and a sealed copy.

Both secrets are derived from the server secret (HKDF, RFC 5869): whoever copies the database alone can
neither read a key nor test a guess.
"""

import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from twisted.internet.interfaces import IReactorTime

from oxidecast.accounts.errors import KeyUnreadable
from oxidecast.database.audit import SERVER, Actor, AuditLog
from oxidecast.database.interface import Body, IDatabase
from oxidecast.database.keys import KeyRecord, StreamKeys, create_key
from oxidecast.database.records import Versions, utc

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32: without i, l, o and u, which are mistaken for others or make words."""
LENGTH = 32
"""Characters of 5 bits each."""
GROUP = 4
LONGEST_TEXT = 128
"""Characters of a key as a client may send it, with dashes and blanks."""
_NONCE = 12

_MISREAD = str.maketrans({"i": "1", "l": "1", "o": "0", "-": None, " ": None})


class StreamKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key as its owner sees it."""

    id: str
    stream_id: str
    name: str
    text: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    last_used_from: str | None
    allowed_addresses: tuple[str, ...]
    """Networks that it may be used from; none means from everywhere."""

    def __repr__(self) -> str:
        return f"StreamKey({self.id!r})"


class KeySafe:
    """Makes keys, finds their digests, seals and opens them."""

    def __init__(self, server_secret: bytes) -> None:
        self._digest_key = _derived(server_secret, b"oxidecast stream key digest")
        self._cipher = AESGCM(_derived(server_secret, b"oxidecast stream key seal"))

    def new(self) -> str:
        """`7g3k-m2xd-...`: eight groups of four."""
        text = "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
        return "-".join(text[at : at + GROUP] for at in range(0, LENGTH, GROUP))

    def digest(self, text: str) -> str | None:
        """What the key is found by; None for a text that cannot be a key. Case, dashes and blanks do not
        matter, and the letters that the alphabet leaves out are read as what they look like."""
        if len(text) > LONGEST_TEXT:
            return None
        plain = text.strip().lower().translate(_MISREAD)
        if len(plain) != LENGTH or not set(plain) <= set(ALPHABET):
            return None
        return hmac.digest(self._digest_key, plain.encode(), hashlib.sha256).hex()

    def seal(self, text: str, stream_id: str) -> bytes:
        """Encrypted and bound to the stream: a copy in another stream's row does not open."""
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher.encrypt(nonce, text.encode(), stream_id.encode())

    def open(self, sealed: bytes, stream_id: str) -> str:
        """Raises KeyUnreadable."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], stream_id.encode()).decode()
        except (InvalidTag, ValueError):
            raise KeyUnreadable from None


class PublishKeys:
    """The keys of streams, for their owners. What `by` does is written to the audit log: every change, and every look
    that is somebody's."""

    def __init__(self, database: IDatabase, clock: IReactorTime, safe: KeySafe) -> None:
        self._stored = StreamKeys(database, clock)
        self._audit = AuditLog(database, clock)
        self._clock = clock
        self._safe = safe

    def now(self) -> datetime:
        """The time by which keys expire."""
        return utc(self._clock)

    async def create(
        self,
        stream_id: str,
        name: str = "",
        expires_at: datetime | None = None,
        allowed_addresses: Sequence[str] = (),
        by: Actor = SERVER,
    ) -> StreamKey:
        """One more key. Raises TooManyKeys, and Conflict when there is no such stream."""
        text, digest, sealed = self._made(stream_id)
        made = await self._stored.add(stream_id, digest, sealed, name, expires_at, allowed_addresses, by)
        return self._opened(made, text)

    def first(self, by: Actor) -> "FirstKey":
        """The key of a stream that is being made, for `Streams.create`."""
        return FirstKey(self, by)

    async def all(self, stream_id: str) -> list[StreamKey]:
        """The valid keys, newest first. Raises KeyUnreadable."""
        records = await self._stored.valid(stream_id)
        return [self._opened(record, self._safe.open(record.sealed, stream_id)) for record in records]

    async def listed(self, stream_id: str) -> list[tuple[KeyRecord, str | None]]:
        """The valid keys, newest first, each with its text where it can be read."""
        return [(record, self._text(record)) for record in await self._stored.valid(stream_id)]

    async def newest(self, stream_id: str) -> StreamKey | None:
        """Raises KeyUnreadable."""
        records = await self._stored.valid(stream_id)
        return self._opened(records[0], self._safe.open(records[0].sealed, stream_id)) if records else None

    async def shown(self, stream: str, key_ids: Sequence[str], by: Actor) -> None:
        """Write down that `by` is about to see keys of a stream, which is named as the audit log names it."""
        await self._audit.add(by, "key.read", stream, {"keys": list(key_ids)})

    async def rotate(self, stream_id: str, overlap: float = 0.0, by: Actor = SERVER) -> StreamKey:
        """A new key in place of the newest, which stays valid for `overlap` seconds more. Who publishes
        with it goes on. Raises TooManyKeys when too many old ones are still valid."""
        text, digest, sealed = self._made(stream_id)
        until = utc(self._clock) + timedelta(seconds=overlap)
        return self._opened(await self._stored.replace_newest(stream_id, digest, sealed, until, by), text)

    async def change(
        self,
        stream_id: str,
        key_id: str,
        changed: Mapping[str, Any],
        by: Actor = SERVER,
        versions: Versions = None,
    ) -> tuple[KeyRecord, str | None] | None:
        """Give a valid key another `name`, `expires_at` or `allowed_addresses`; who publishes with it goes on. The key
        with its text where it can be read, None when there is none. Raises Outdated when its version is none of
        `versions`."""
        record = await self._stored.change(stream_id, key_id, changed, by, versions)
        return (record, self._text(record)) if record is not None else None

    async def revoke(self, stream_id: str, key_id: str, by: Actor = SERVER) -> bool:
        """Answers whether there was such a key. Whoever publishes with it is for the caller to disconnect."""
        return await self._stored.revoke(stream_id, key_id, by)

    async def revoke_newest(
        self, stream_id: str, by: Actor = SERVER, expected: str | None = None
    ) -> list[str]:
        """The ids of the keys with which nobody may go on publishing: the newest, and those that were replaced before.
        Raises Outdated when the newest is not the `expected` one."""
        return await self._stored.revoke_newest(stream_id, by, expected)

    def _text(self, record: KeyRecord) -> str | None:
        try:
            return self._safe.open(record.sealed, record.stream_id)
        except KeyUnreadable:
            return None

    def _made(self, stream_id: str) -> tuple[str, str, bytes]:
        text = self._safe.new()
        digest = self._safe.digest(text)
        assert digest is not None
        return text, digest, self._safe.seal(text, stream_id)

    def _opened(self, record: KeyRecord, text: str) -> StreamKey:
        return StreamKey(
            id=record.id,
            stream_id=record.stream_id,
            name=record.name,
            text=text,
            created_at=record.created_at,
            expires_at=record.expires_at,
            last_used_at=record.last_used_at,
            last_used_from=record.last_used_from,
            allowed_addresses=record.allowed_addresses,
        )


def _derived(secret: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose).derive(secret)


class FirstKey:
    """Call it with the id of the stream, in its transaction; then it has the `text`."""

    def __init__(self, keys: PublishKeys, by: Actor) -> None:
        self.text = ""
        self._keys = keys
        self._by = by

    def __call__(self, stream_id: str) -> Body[KeyRecord]:
        self.text, digest, sealed = self._keys._made(stream_id)
        return create_key(stream_id, digest, sealed, "", utc(self._keys._clock), None, (), self._by)
