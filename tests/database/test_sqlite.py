"""What only SQLite does: files, their modes, and what is said when they cannot be used."""

import sqlite3
import stat
from pathlib import Path

from twisted.internet import reactor

from oxidecast.database import DatabaseUnavailable, IDatabase
from oxidecast.database.sqlite import SqliteDatabase
from tests.database.support import DatabaseCase
from tests.database.test_engines import INSERT, insert, setting
from tests.settings.support import temporary_folder


class Away(DatabaseCase):
    async def fill_disk(self) -> None:
        """Let the database grow no more."""
        await self.database.execute("PRAGMA max_page_count = 1")

    async def assertAway(self, sentence: str, database: IDatabase) -> None:
        error = await self.assertFailure(database.transaction(insert, "x"), DatabaseUnavailable)
        self.assertEqual(str(error), sentence)

    async def test_disk_full(self) -> None:
        await self.fill_disk()
        error = await self.assertFailure(
            self.database.execute(INSERT, setting("big", "x" * 100_000)),  # type: ignore[arg-type]
            DatabaseUnavailable,
        )
        self.assertEqual(str(error), "The database's disk is full.")

    async def test_it_goes_on_when_the_disk_has_room_again(self) -> None:
        await self.fill_disk()
        await self.assertFailure(
            self.database.execute(INSERT, setting("big", "x" * 100_000)),  # type: ignore[arg-type]
            DatabaseUnavailable,
        )
        await self.database.execute("PRAGMA max_page_count = 100000")
        self.assertEqual(await self.database.execute(INSERT, setting("big", "x" * 100_000)), 1)  # type: ignore[arg-type]

    async def test_locked_too_long(self) -> None:
        other = sqlite3.connect(self.file, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("BEGIN IMMEDIATE")
        impatient = SqliteDatabase(self.file, reactor, busy_timeout=0.05)
        self.addCleanup(impatient.close)
        await self.assertAway("The database is locked by another process.", impatient)

    async def test_reading_goes_on_while_another_process_writes(self) -> None:
        other = sqlite3.connect(self.file, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("BEGIN IMMEDIATE")
        self.assertEqual(await self.database.query("SELECT * FROM settings"), [])

    async def test_not_a_database(self) -> None:
        self.file = self.file.with_suffix(".txt")
        self.file.write_bytes(b"not a database" * 1000)
        await self.assertAway("The database file is not an SQLite database.", self.opened())

    async def test_the_file_is_a_folder(self) -> None:
        self.file = temporary_folder(self)
        await self.assertAway("The database file cannot be opened: is a directory.", self.opened())

    async def test_the_folder_is_not_there(self) -> None:
        self.file = Path("/nowhere/oxidecast.db")
        await self.assertAway("The database file cannot be opened: no such file or directory.", self.opened())

    async def test_a_query_cannot_write(self) -> None:
        error = await self.assertFailure(self.database.query("DELETE FROM settings"), DatabaseUnavailable)
        self.assertEqual(str(error), "The database file cannot be written.")


class Files(DatabaseCase):
    async def test_those_beside_the_database_are_gone_when_it_is_closed(self) -> None:
        await self.database.close()
        self.assertEqual([file.name for file in self.file.parent.glob(f"{self.file.name}-*")], [])

    def test_they_are_readable_by_their_owner_only(self) -> None:
        files = [self.file, *self.file.parent.glob(f"{self.file.name}-*")]
        self.assertEqual({stat.S_IMODE(file.stat().st_mode) for file in files}, {0o600})

    async def test_looking_for_a_table_creates_no_file(self) -> None:
        self.file = self.file.with_suffix(".absent")
        self.assertFalse(await self.opened().has_table("users"))
        self.assertFalse(self.file.exists())
