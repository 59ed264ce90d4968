"""Brings a database to the schema that this version knows.

A migration is `NNNN_name.sql`, `NNNN_name.<flavour>.sql`, or both, the common file first. Each runs in one
transaction together with the row that records it, and looks again at what is recorded once it has its turn
(`IDatabase.exclusive`): so two servers that start at once do not run one twice, and a failure leaves the schema
before it.
"""

import re
import sqlite3
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from oxidecast.database.errors import DatabaseError
from oxidecast.database.interface import Body, IDatabase
from oxidecast.settings.data import data_path

_FILE = re.compile(r"(\d{4})_([a-z0-9_]+?)(?:\.(sqlite|postgres))?\.sql")


class SchemaTooNew(DatabaseError):
    """The database was written by a newer version."""


class Migration(NamedTuple):
    """One step of the schema."""

    version: int
    name: str
    files: tuple[Path, ...]

    def statements(self) -> list[str]:
        return [statement for file in self.files for statement in _split(file.read_text(encoding="utf-8"))]


def find_migrations(flavour: str, folder: Path | None = None) -> list[Migration]:
    """The migrations in `folder` (by default those that came with this version), in their order."""
    steps: dict[int, Migration] = {}
    for file in sorted((folder or data_path("migrations")).glob("*.sql"), key=_common_first):
        match = _FILE.fullmatch(file.name)
        if match is None:
            raise ValueError(f"{file.name} is not named like a migration")
        version, name = int(match[1]), match[2]
        step = steps.setdefault(version, Migration(version, name, ()))
        if step.name != name:
            raise ValueError(f"two migrations have the number {match[1]}")
        if match[3] in {None, flavour}:
            steps[version] = step._replace(files=(*step.files, file))
    if list(steps) != list(range(1, len(steps) + 1)):
        raise ValueError("the migrations are not numbered 1, 2, 3 ...")
    return list(steps.values())


async def pending(database: IDatabase, folder: Path | None = None) -> list[Migration]:
    """What `migrate` would run. Writes nothing, and creates no database. Raises SchemaTooNew."""
    version = 0
    if await database.has_table("schema_migrations"):
        rows = await database.query("SELECT max(version) AS version FROM schema_migrations")
        version = rows[0]["version"] or 0
    return _after(version, find_migrations(database.flavour, folder))


async def migrate(database: IDatabase, now: datetime, folder: Path | None = None) -> list[Migration]:
    """Run what is pending; answers what this call ran. Raises SchemaTooNew and DatabaseError."""
    return [step for step in await pending(database, folder) if await database.exclusive(_apply, step, now)]


def _apply(step: Migration, now: datetime) -> Body[bool]:
    yield (
        "CREATE TABLE IF NOT EXISTS schema_migrations"
        " (version bigint PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL)",
        {},
    )
    rows = yield "SELECT 1 FROM schema_migrations WHERE version >= :version", {"version": step.version}
    if rows:
        return False
    for statement in step.statements():
        yield statement, {}
    yield (
        "INSERT INTO schema_migrations (version, name, applied_at) VALUES (:version, :name, :now)",
        {"version": step.version, "name": step.name, "now": now},
    )
    return True


def _after(version: int, steps: list[Migration]) -> list[Migration]:
    if version > len(steps):
        raise SchemaTooNew(
            f"The database has schema {version} and this version of OxideCast knows {len(steps)}: "
            "install the newer version again, or restore a backup."
        )
    return steps[version:]


def _common_first(file: Path) -> tuple[str, bool]:
    return file.name.partition(".")[0], file.name.count(".") > 1


def _split(script: str) -> list[str]:
    """The statements of a script. Each ends with a semicolon at the end of a line."""
    statements: list[str] = []
    lines: list[str] = []
    for line in script.splitlines():
        if not lines and (not line.strip() or line.lstrip().startswith("--")):
            continue
        lines.append(line)
        if line.rstrip().endswith(";") and sqlite3.complete_statement("\n".join(lines)):
            statements.append("\n".join(lines))
            lines = []
    if lines:
        raise ValueError("a migration's last statement has no end")
    return statements
