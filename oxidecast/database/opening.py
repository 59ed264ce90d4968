"""From the `[database] url` to a database."""

from pathlib import Path
from typing import Any

from oxidecast.database.interface import IDatabase
from oxidecast.database.settings import POOL_SIZE
from oxidecast.database.sqlite import SqliteDatabase
from oxidecast.settings.errors import SettingsError


def open_database(url: str, data_directory: Path, reactor: Any, pool_size: int = POOL_SIZE) -> IDatabase:
    """The database that `url` names; a relative SQLite path lies in the data directory.

    Nothing is opened, connected or created before it is first used, so that this fails only with SettingsError.
    """
    scheme, _, rest = url.partition("://")
    if scheme in {"postgresql", "postgres"}:
        return _open_postgres(url, pool_size, reactor)
    path = rest.removeprefix("/")
    if scheme != "sqlite" or path == rest or not path or "\0" in path:
        raise SettingsError('database.url must be "sqlite:///" and a file\'s name.')
    return SqliteDatabase(data_directory / path, reactor)


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
