"""A real database for each test: an SQLite file, or a database of a PostgreSQL server."""

import sys
from datetime import UTC, datetime
from itertools import count
from typing import TypeVar

from twisted.internet import reactor
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from oxidecast.database import IDatabase
from oxidecast.database.audit import SERVER
from oxidecast.database.migrations import migrate
from oxidecast.database.postgres import PostgresDatabase
from oxidecast.database.records import utc
from oxidecast.database.sqlite import SqliteDatabase
from oxidecast.database.users import User, Users, change_user
from tests.database.cluster import Cluster, cluster
from tests.settings.support import temporary_folder

START = datetime(2026, 11, 22, 12, tzinfo=UTC)

C = TypeVar("C", bound="type[EmptyCase]")


def both_engines(case: C) -> C:
    """A case that runs on SQLite and, as one of its own beside it, on PostgreSQL."""
    name = f"{case.__name__}OnPostgres"
    other = type(name, (case,), {"flavour": "postgres", "__module__": case.__module__})
    setattr(sys.modules[case.__module__], name, other)
    return case


class EmptyCase(TestCase):
    """`self.database` has nothing in it yet; `self.clock` stands at noon of a day in 2026."""

    flavour = "sqlite"

    async def setUp(self) -> None:  # type: ignore[override]
        self.clock = Clock()
        self.clock.advance(START.timestamp())
        if self.flavour == "postgres":
            self.cluster = cluster()
            self.url = self.cluster.url(await self.new_database())
        else:
            self.file = temporary_folder(self) / "test.db"
            self.url = f"sqlite:///{self.file}"
        self.database = self.opened()

    async def new_database(self) -> str:
        """The name of an empty database in the cluster, dropped with the test."""
        return create_database(self, self.cluster)

    def opened(self) -> IDatabase:
        """One more connection to the test's database."""
        database: IDatabase
        if self.flavour == "postgres":
            database = PostgresDatabase(self.url, reactor)
        else:
            database = SqliteDatabase(self.file, reactor)
        self.addCleanup(database.close)
        return database


class DatabaseCase(EmptyCase):
    """`self.database` is migrated."""

    changes_schema = False
    """On PostgreSQL the others share a database, from which all rows are deleted: a copy for each takes 0.1 s."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        if self.flavour == "sqlite":
            await migrate(self.database, utc(self.clock))

    async def new_database(self) -> str:
        name = await migrated(self.cluster)
        delete_rows(self.cluster, name)
        return create_database(self, self.cluster, name) if self.changes_schema else name

    async def someone(self, username: str = "ada") -> User:
        return await Users(self.database, self.clock).create(username, "no hash", "streamer")

    async def disable(self, user: User) -> None:
        await self.database.transaction(change_user, user.id, {"disabled": True}, utc(self.clock), SERVER)


_numbers = count(1)


def create_database(case: SynchronousTestCase, cluster: Cluster, template: str = "template0") -> str:
    """A copy of `template`, dropped with the test; its name."""
    name = f"test{next(_numbers)}"
    cluster.run(f"CREATE DATABASE {name} TEMPLATE {template}")
    case.addCleanup(cluster.run, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    return name


async def migrated(cluster: Cluster) -> str:
    """The name of a database that has the schema, made once."""
    if not cluster.run("SELECT 1 FROM pg_database WHERE datname = 'migrated'"):
        cluster.run("CREATE DATABASE migrating TEMPLATE template0")
        database = PostgresDatabase(cluster.url("migrating"), reactor)
        try:
            await migrate(database, START)
        finally:
            await database.close()
        cluster.run("ALTER DATABASE migrating RENAME TO migrated")
    return "migrated"


def delete_rows(cluster: Cluster, name: str) -> None:
    """From all tables but that of the migrations."""
    tables = cluster.run(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'schema_migrations'",
        name,
    )
    deletions = "; ".join(f"DELETE FROM {table}" for (table,) in tables)
    cluster.run(f"SET session_replication_role = replica; {deletions}", name)  # references are not looked at
