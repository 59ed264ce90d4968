"""The first start: an administrator with a random password, and a stream with a key to publish by.

It may be interrupted anywhere. The password is written to its file before the account exists, and found
there again by the next start; account, stream and key are made in one transaction, and only in a database
without users.
"""

import secrets
from datetime import datetime
from pathlib import Path

import msgspec
from twisted.internet.interfaces import IReactorTime

from oxidecast.accounts.errors import KeyUnreadable
from oxidecast.accounts.keys import KeySafe, PublishKeys
from oxidecast.accounts.passwords import Passwords
from oxidecast.database.audit import SERVER, note
from oxidecast.database.interface import Body, IDatabase
from oxidecast.database.keys import insert_key
from oxidecast.database.records import new_id, utc
from oxidecast.database.streams import Streams, insert_stream
from oxidecast.database.users import Users, insert_user, target
from oxidecast.settings.private import write_private_once
from oxidecast.streams.info import StreamInfo

USERNAME = "admin"
PASSWORD_FILE = "admin-password"
TITLE = "My stream"
NAME = "my-stream"


class FirstSteps(msgspec.Struct, frozen=True, kw_only=True):
    """What to show to someone who starts the server."""

    is_first_start: bool
    password_file: Path
    stream: StreamInfo | None
    """The oldest stream, None when all were deleted."""
    key: str | None
    """Its newest key, None when it has none, or none that the server secret opens."""

    def __repr__(self) -> str:
        return f"FirstSteps(is_first_start={self.is_first_start})"


async def bootstrap(
    database: IDatabase, clock: IReactorTime, passwords: Passwords, safe: KeySafe, data_directory: Path
) -> FirstSteps:
    """Make the first account and stream where there are none. To be called at every start, after the
    migrations, before anything is served. Raises SettingsError when the password's file cannot be written,
    and DatabaseError."""
    file = data_directory / PASSWORD_FILE
    made = False
    if not await database.query("SELECT 1 FROM users LIMIT 1"):
        password = write_private_once(file, secrets.token_urlsafe(18) + "\n").strip()
        hashed = await passwords.hash(password)
        stream_id, text = new_id(), safe.new()
        digest = safe.digest(text)
        assert digest is not None
        made = await database.transaction(
            _first, hashed, stream_id, digest, safe.seal(text, stream_id), utc(clock)
        )
        if not made:
            # Another server, which started at the same moment, made the account, and has its password.
            admin = await Users(database, clock).by_username(USERNAME)
            if admin is None or not await passwords.verify(password, admin.password_hash):
                forget_first_password(data_directory)
    oldest = await Streams(database, clock).page(limit=1, include_private=True, oldest_first=True)
    stream = oldest.items[0] if oldest.items else None
    key = None
    if stream is not None:
        try:
            newest = await PublishKeys(database, clock, safe).newest(stream.id)
            key = newest.text if newest is not None else None
        except KeyUnreadable:
            pass
    return FirstSteps(is_first_start=made, password_file=file, stream=stream, key=key)


def forget_first_password(data_directory: Path) -> None:
    """Remove the file of the first password, which has been replaced. Raises OSError when it cannot be removed."""
    (data_directory / PASSWORD_FILE).unlink(missing_ok=True)


def _first(hashed: str, stream_id: str, digest: str, sealed: bytes, now: datetime) -> Body[bool]:
    if (yield "SELECT 1 FROM users LIMIT 1", {}):
        return False
    admin = yield from insert_user(USERNAME, hashed, "admin", None, now)
    info = StreamInfo(id=stream_id, name=NAME, title=TITLE, owner_id=admin.id, created_at=now)
    yield from insert_stream(info, True)
    yield from insert_key(stream_id, digest, sealed, "", now)
    yield from note(SERVER, "user.create", target(USERNAME), now, {"id": admin.id, "role": "admin"})
    return True
