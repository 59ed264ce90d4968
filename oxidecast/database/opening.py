"""From the `[database] url` to a database."""

import os
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
    return SqliteDatabase(_file(url, data_directory), reactor)


def require_database(url: str, data_directory: Path) -> None:
    """For whoever must not make one. Raises SettingsError when the database that `url` names is not there yet."""
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


def _file(url: str, data_directory: Path) -> Path:
    scheme, _, rest = url.partition("://")
    if scheme in {"postgresql", "postgres"}:
        raise SettingsError(
            "database.url names a PostgreSQL server, which a later version will support: use sqlite:///oxidecast.db."
        )
    path = rest.removeprefix("/")
    if scheme != "sqlite" or path == rest or not path or "\0" in path:
        raise SettingsError('database.url must be "sqlite:///" and a file\'s name.')
    return (data_directory / path).absolute()
