"""From the `[database] url` to a database."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from oxidecast.database.interface import IDatabase
from oxidecast.database.settings import POOL_SIZE
from oxidecast.database.sqlite import SqliteDatabase
from oxidecast.settings.errors import SettingsError


def open_database(url: str, data_directory: Path, reactor: Any, pool_size: int = POOL_SIZE) -> IDatabase:
    """The database that `url` names; a relative SQLite path lies in the data directory.

    Nothing is opened, connected or created before it is first used, so that this fails only with SettingsError.
    """
    if _is_postgres(url):
        return _open_postgres(url, pool_size, reactor)
    return SqliteDatabase(_file(url, data_directory), reactor)


def require_database(url: str, data_directory: Path) -> None:
    """For whoever must not make one. Raises SettingsError when the database that `url` names is not there yet.

    A server's database is never made by us; what uses it says that it is missing.
    """
    if _is_postgres(url):
        return
    file = _file(url, data_directory)
    try:
        there = file.exists()
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise SettingsError(f"The database {file} cannot be looked at: {reason}.") from None
    if not there:
        raise SettingsError(
            f"there is no database in {file.parent}: start the server first, or name its --data-dir"
        )


def sqlite_file(url: str, data_directory: Path) -> Path | None:
    """The file that `url` names; None for a server's database. Raises SettingsError."""
    return None if _is_postgres(url) else _file(url, data_directory)


def without_password(url: str) -> str:
    """A server's URL that may be shown. libpq takes secrets as parameters, too."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    kept = [
        pair for pair in parts.query.split("&") if "password" not in unquote(pair.partition("=")[0]).lower()
    ]
    return urlunsplit(parts._replace(netloc=user.partition(":")[0] + at + host, query="&".join(kept)))


def _is_postgres(url: str) -> bool:
    return url.startswith(("postgresql://", "postgres://"))


def _file(url: str, data_directory: Path) -> Path:
    scheme, _, rest = url.partition("://")
    path = rest.removeprefix("/")
    if scheme != "sqlite" or path == rest or not path or "\0" in path:
        raise SettingsError('database.url must be "sqlite:///" and a file\'s name.')
    return (data_directory / path).absolute()


def _open_postgres(url: str, pool_size: int, reactor: Any) -> IDatabase:
    try:
        from oxidecast.database.postgres import PostgresDatabase
    except ImportError:
        raise SettingsError(
            "database.url names a PostgreSQL server, whose driver is missing: pip install 'oxidecast[postgres]'."
        ) from None
    try:
        return PostgresDatabase(url, reactor, pool_size)
    except ValueError:
        raise SettingsError(
            "database.url must be like postgresql://user:password@host:5432/database."
        ) from None
