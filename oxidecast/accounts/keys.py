"""Stream keys: 160 random bits in a text that people can read out, of which the database sees only a keyed
hash and a sealed copy.

Both secrets are derived from the server secret (HKDF, RFC 5869): whoever copies the database alone can
neither read a key nor test a guess.
"""

import hashlib
import hmac
import os
import secrets
from datetime import datetime, timedelta

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from twisted.internet.interfaces import IReactorTime

from oxidecast.accounts.errors import KeyUnreadable
from oxidecast.database.interface import IDatabase
from oxidecast.database.keys import KeyRecord, StreamKeys
from oxidecast.database.records import utc

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
    """The keys of streams, for their owners."""

    def __init__(self, database: IDatabase, clock: IReactorTime, safe: KeySafe) -> None:
        self._stored = StreamKeys(database, clock)
        self._clock = clock
        self._safe = safe

    def now(self) -> datetime:
        """The time by which keys expire."""
        return utc(self._clock)

    async def create(self, stream_id: str, name: str = "", expires_at: datetime | None = None) -> StreamKey:
        """One more key. Raises TooManyKeys, and Conflict when there is no such stream."""
        text, digest, sealed = self._made(stream_id)
        return self._opened(await self._stored.add(stream_id, digest, sealed, name, expires_at), text)

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

    async def rotate(self, stream_id: str, overlap: float = 0.0) -> StreamKey:
        """A new key in place of the newest, which stays valid for `overlap` seconds more. Who publishes
        with it goes on. Raises TooManyKeys when too many old ones are still valid."""
        text, digest, sealed = self._made(stream_id)
        until = utc(self._clock) + timedelta(seconds=overlap)
        return self._opened(await self._stored.replace_newest(stream_id, digest, sealed, until), text)

    async def revoke(self, stream_id: str, key_id: str) -> bool:
        """Answers whether there was such a key. Whoever publishes with it is for the caller to disconnect."""
        return await self._stored.revoke(stream_id, key_id)

    async def revoke_newest(self, stream_id: str) -> str | None:
        """The id of the key that it was, None when there was none."""
        for record in (await self._stored.valid(stream_id))[:1]:
            await self._stored.revoke(stream_id, record.id)
            return record.id
        return None

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
        )


def _derived(secret: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose).derive(secret)
