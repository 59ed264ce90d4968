"""From the `[database] url` to a database."""

from pathlib import Path
from typing import Any

from oxidecast.database.interface import IDatabase
from oxidecast.database.sqlite import SqliteDatabase
from oxidecast.settings.errors import SettingsError


def open_database(url: str, data_directory: Path, reactor: Any) -> IDatabase:
    """The database that `url` names; a relative SQLite path lies in the data directory.

    Nothing is opened or created before it is first used, so that this fails only with SettingsError, for an
    address that this version does not serve.
    """
    scheme, _, rest = url.partition("://")
    if scheme in {"postgresql", "postgres"}:
        raise SettingsError(
            "database.url names a PostgreSQL server, which a later version will support: use sqlite:///oxidecast.db."
        )
    path = rest.removeprefix("/")
    if scheme != "sqlite" or path == rest or not path or "\0" in path:
        raise SettingsError('database.url must be "sqlite:///" and a file\'s name.')
    return SqliteDatabase(data_directory / path, reactor)
