"""SQLite behind IDatabase, on real files: what commits, what rolls back, and what is said when it is away."""

import sqlite3
import stat
from pathlib import Path

from twisted.internet.defer import gatherResults
from zope.interface.verify import verifyObject

from oxidecast.database import Conflict, DatabaseError, DatabaseUnavailable, IDatabase
from oxidecast.database import sqlite as module
from oxidecast.database.interface import Body
from oxidecast.database.sqlite import SqliteDatabase
from tests.database.support import DatabaseCase
from tests.settings.support import temporary_folder

INSERT = "INSERT INTO settings (name, value, updated_at) VALUES (:name, :value, :at)"


def setting(name: str, value: object = 1) -> dict[str, object]:
    return {"name": name, "value": str(value), "at": "2026-11-22T12:00:00.000000Z"}


def insert(*names: str) -> Body[int]:
    for name in names:
        yield INSERT, setting(name)  # type: ignore[misc]
    rows = yield "SELECT count(*) AS n FROM settings", {}
    return rows[0]["n"]


def insert_and_raise(name: str) -> Body[None]:
    yield INSERT, setting(name)  # type: ignore[misc]
    raise KeyError(name)


class Statements(DatabaseCase):
    def test_it_provides_the_interface(self) -> None:
        verifyObject(IDatabase, self.database)

    async def test_rows_come_by_column_name(self) -> None:
        self.assertEqual(
            await self.database.query("SELECT 1 AS a, :b AS b", {"b": "x"}), [{"a": 1, "b": "x"}]
        )

    async def test_a_change_answers_how_many_rows_it_touched(self) -> None:
        await self.database.transaction(insert, "a", "b")
        self.assertEqual(await self.database.execute("UPDATE settings SET value = 2"), 2)

    async def test_what_was_written_is_read_at_once(self) -> None:
        for number in range(20):
            await self.database.execute(INSERT, setting(f"n{number}"))  # type: ignore[arg-type]
            rows = await self.database.query("SELECT count(*) AS n FROM settings")
            self.assertEqual(rows[0]["n"], number + 1)

    async def test_a_query_cannot_write(self) -> None:
        error = await self.assertFailure(self.database.query("DELETE FROM settings"), DatabaseUnavailable)
        self.assertEqual(str(error), "The database file cannot be written.")

    async def test_foreign_keys_are_checked(self) -> None:
        change = self.database.execute(
            "INSERT INTO refresh_tokens VALUES ('i', 'nobody', 'f', 'd', 'now', 'now', NULL, NULL)"
        )
        await self.assertFailure(change, Conflict)

    async def test_a_mistake_of_ours_shows_no_sql(self) -> None:
        error = await self.assertFailure(self.database.query("SELECT secret FROM nowhere"), DatabaseError)
        self.assertEqual(str(error), "The database refused a statement.")
        self.assertEqual(type(error), DatabaseError)


class Transactions(DatabaseCase):
    async def test_the_result_is_what_the_body_returns(self) -> None:
        self.assertEqual(await self.database.transaction(insert, "a", "b"), 2)

    async def test_an_exception_undoes_it_and_comes_out(self) -> None:
        await self.assertFailure(self.database.transaction(insert_and_raise, "a"), KeyError)
        self.assertEqual(await self.database.query("SELECT * FROM settings"), [])

    async def test_a_failed_statement_undoes_it(self) -> None:
        await self.assertFailure(self.database.transaction(insert, "a", "b", "a"), Conflict)
        self.assertEqual(await self.database.query("SELECT * FROM settings"), [])

    async def test_the_connection_is_as_good_as_new_after_a_failure(self) -> None:
        await self.assertFailure(self.database.transaction(insert, "a", "a"), Conflict)
        self.assertEqual(await self.database.transaction(insert, "a"), 1)

    async def test_many_at_once_do_not_lock_each_other_out(self) -> None:
        await gatherResults([self.database.transaction(insert, f"n{number}") for number in range(50)])
        rows = await self.database.query("SELECT count(*) AS n FROM settings")
        self.assertEqual(rows[0]["n"], 50)


class Away(DatabaseCase):
    async def assertAway(self, sentence: str, database: SqliteDatabase) -> None:
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
        await self.assertAway("The database is locked by another process.", self.opened(busy_timeout=0.05))

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

    async def test_too_much_work_is_refused_instead_of_queued(self) -> None:
        self.patch(module, "MAXIMUM_WAITING", 3)
        waiting = [self.database.query("SELECT 1") for _ in range(3)]
        error = await self.assertFailure(self.database.query("SELECT 1"), DatabaseUnavailable)
        self.assertEqual(str(error), "The database does not keep up with its work.")
        await gatherResults(waiting)
        await self.database.query("SELECT 1")


class Closing(DatabaseCase):
    async def test_what_was_begun_is_finished(self) -> None:
        begun = self.database.transaction(insert, "a")
        await self.database.close()
        self.assertEqual(await begun, 1)

    async def test_nothing_is_begun_after_it(self) -> None:
        await self.database.close()
        await self.assertFailure(self.database.query("SELECT 1"), DatabaseUnavailable)

    async def test_closing_twice_is_closing_once(self) -> None:
        await gatherResults([self.database.close(), self.database.close()])

    async def test_its_files_beside_the_database_are_gone(self) -> None:
        await self.database.close()
        self.assertEqual([file.name for file in self.file.parent.glob(f"{self.file.name}-*")], [])


class Files(DatabaseCase):
    def test_they_are_readable_by_their_owner_only(self) -> None:
        files = [self.file, *self.file.parent.glob(f"{self.file.name}-*")]
        self.assertEqual({stat.S_IMODE(file.stat().st_mode) for file in files}, {0o600})

    async def test_looking_for_a_table_creates_no_file(self) -> None:
        self.file = self.file.with_suffix(".absent")
        self.assertFalse(await self.opened().has_table("users"))
        self.assertFalse(self.file.exists())
