"""A real SQLite file for each test, with the schema in it."""

from datetime import UTC, datetime

from twisted.internet import reactor
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from oxidecast.database.migrations import migrate
from oxidecast.database.records import utc
from oxidecast.database.sqlite import SqliteDatabase
from oxidecast.database.users import User, Users
from tests.settings.support import temporary_folder

START = datetime(2026, 11, 22, 12, tzinfo=UTC)


class DatabaseCase(TestCase):
    """`self.database` is migrated; `self.clock` stands at noon of a day in 2026."""

    async def setUp(self) -> None:  # type: ignore[override]
        self.clock = Clock()
        self.clock.advance(START.timestamp())
        self.file = temporary_folder(self) / "test.db"
        self.database = self.opened()
        await migrate(self.database, utc(self.clock))

    def opened(self, busy_timeout: float = 5.0) -> SqliteDatabase:
        """One more connection to the test's file."""
        database = SqliteDatabase(self.file, reactor, busy_timeout)
        self.addCleanup(database.close)
        return database

    async def someone(self, username: str = "ada") -> User:
        return await Users(self.database, self.clock).create(username, "no hash", "streamer")

    async def fill_disk(self) -> None:
        """Let the database grow no more."""
        await self.database.execute("PRAGMA max_page_count = 1")
