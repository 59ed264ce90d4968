"""A copy of an SQLite database that others write to meanwhile.

The one idea: SQLite copies what one reader sees at one moment (https://www.sqlite.org/backup.html). In WAL mode neither
the server's readers nor its writer wait for it.
"""

import os
import secrets
import sqlite3
from contextlib import closing
from pathlib import Path

from oxidecast.database.errors import DatabaseError, DatabaseUnavailable

BUSY_TIMEOUT = 10.0
"""Seconds that the copy waits where somebody has locked all of the database."""


class BackupFailed(DatabaseError):
    """The copy was not made; the sentence is for whoever asked for it."""


def back_up(database: Path, file: Path) -> int:
    """Copy the database to a new file, for its owner only; answers its size in bytes. It is there as a whole, looked
    through and synced, or not at all. Blocks for as long as it takes. Raises BackupFailed and DatabaseUnavailable."""
    try:
        # The name is taken first. Who dies half way leaves it empty, which nobody takes for a backup.
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        raise BackupFailed(f"{file} exists already, and is not written over") from None
    except OSError as error:
        raise BackupFailed(f"{file} cannot be written: {_reason(error)}") from None
    draft = file.with_name(f".{file.name}-{secrets.token_hex(8)}")
    try:
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        _copy(database, draft)
        _sync(draft)
        draft.rename(file)
        _sync(file.absolute().parent)
        return file.stat().st_size
    except BaseException as error:
        for path in (file, draft):
            path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise BackupFailed(f"{file} cannot be written: {_reason(error)}") from None
        if isinstance(error, sqlite3.Error):
            raise DatabaseUnavailable(
                "The database cannot be copied: it is damaged, or a disk is full."
            ) from None
        raise


def _copy(database: Path, draft: Path) -> None:
    # Not "ro": who may not write leaves SQLite's two other files behind where no server runs.
    source = sqlite3.connect(f"{database.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_TIMEOUT)
    with closing(source), closing(sqlite3.connect(draft)) as target:
        source.execute("PRAGMA query_only = ON")
        source.backup(target)
        # All in one file: nobody thinks of the two others that belong to a database in WAL mode.
        target.execute("PRAGMA journal_mode = DELETE")
        if target.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise DatabaseUnavailable("The database is damaged, and so would be its copy.")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: OSError) -> str:
    return os.strerror(error.errno or 0).lower()
