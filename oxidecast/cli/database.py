"""`oxidecast migrate` and `oxidecast backup`: the database as a whole, whether a server runs on it or not."""

import argparse
import os
import shlex
from pathlib import Path
from typing import Any

from oxidecast.cli.common import CommandError, places_of, react, say, system_actor


def arguments(command: Any, commands: Any) -> None:
    """Add the commands to the parser. `command` makes one of `commands`."""
    migrate = command(commands, "migrate", _migrate, "bring the database to this version's schema")
    migrate.add_argument("--dry-run", action="store_true", help="only say what would be done")
    backup = command(
        commands, "backup", _backup, "save an SQLite database to a new file, also while it is used"
    )
    backup.add_argument("file", metavar="FILE", type=Path)


def _migrate(options: argparse.Namespace) -> int:
    from twisted.internet import reactor

    from oxidecast.database import migrate, open_database, pending, require_database
    from oxidecast.database.audit import AuditLog

    url, data = _database(options)
    if not options.dry_run:
        require_database(url, data)
    database = open_database(url, data, reactor)

    async def work() -> None:
        from datetime import UTC, datetime

        steps = await pending(database)
        if not options.dry_run:
            steps = await migrate(database, datetime.now(UTC))
            if steps:
                details = {"schema": steps[-1].version}
                await AuditLog(database, reactor).add(system_actor(), "database.migrate", "", details)
        for step in steps:
            say(f"{'would run' if options.dry_run else 'ran'} {step.version:04} {step.name}")
        if not steps:
            say("nothing to do: the schema is up to date")

    return react(work, database.close)


def _backup(options: argparse.Namespace) -> int:
    from twisted.internet import reactor
    from twisted.internet.threads import deferToThread

    from oxidecast.database import open_database, pending, require_database
    from oxidecast.database.audit import AuditLog
    from oxidecast.database.backup import back_up
    from oxidecast.database.opening import sqlite_file, without_password

    url, data = _database(options)
    file = sqlite_file(url, data)
    if file is None:
        raise CommandError(
            "the database is PostgreSQL's own, which saves it by: "
            f"pg_dump --format=custom --file={shlex.quote(str(options.file))}"
            f" --dbname={shlex.quote(without_password(url))}"
        )
    require_database(url, data)
    database = open_database(url, data, reactor)

    async def work() -> None:
        size = await deferToThread(back_up, file, options.file)
        # A backup is what comes before a new version: an older schema stays as it is, and has no such table.
        if not await pending(database):
            await AuditLog(database, reactor).add(system_actor(), "database.backup")
        say(f"saved {options.file} ({size:,} bytes)")
        say(
            f"keep with it, for keys and logins: {data.absolute() / 'secrets.toml'}; and the recordings, if any"
        )

    return react(work, database.close)


def _database(options: argparse.Namespace) -> tuple[str, Path]:
    """The database's URL and the data directory."""
    from oxidecast.database.settings import DatabaseSettings
    from oxidecast.foundation import configure

    config, data = places_of(options)
    return configure(config, os.environ).settings.of(DatabaseSettings).url, data
