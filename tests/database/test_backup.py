import os
import sqlite3
import stat
import threading
from contextlib import closing

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.database.backup import BackupFailed, back_up
from oxidecast.database.errors import DatabaseUnavailable
from oxidecast.database.opening import without_password
from oxidecast.database.streams import Streams
from tests.database.support import DatabaseCase
from tests.settings.support import temporary_folder


class Backup(DatabaseCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.folder = temporary_folder(self)
        self.copy = self.folder / "copy.db"

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(self.copy)) as connection:
            return connection.execute(sql).fetchall()

    async def test_all_is_in_one_file_for_its_owner_only(self) -> None:
        user = await self.someone()
        await Streams(self.database, self.clock).create(user.id, "Birds")
        size = await deferToThread(back_up, self.file, self.copy)
        self.assertEqual(os.listdir(self.folder), ["copy.db"])
        self.assertEqual(stat.S_IMODE(self.copy.stat().st_mode), 0o600)
        self.assertEqual(size, self.copy.stat().st_size)
        self.assertEqual(self.rows("SELECT name FROM streams"), [("birds",)])

    async def test_nothing_is_written_over(self) -> None:
        self.copy.write_text("precious")
        with self.assertRaisesRegex(BackupFailed, "exists already"):
            back_up(self.file, self.copy)
        self.assertEqual(self.copy.read_text(), "precious")

    async def test_a_place_that_is_not_there_is_a_sentence(self) -> None:
        with self.assertRaisesRegex(BackupFailed, "cannot be written: no such file or directory"):
            back_up(self.file, self.folder / "missing" / "copy.db")

    async def test_a_database_that_nobody_uses(self) -> None:
        await self.someone()
        await self.database.close()
        back_up(self.file, self.copy)
        self.assertEqual(self.rows("SELECT username FROM users"), [("ada",)])
        self.assertEqual(os.listdir(self.file.parent), [self.file.name])

    async def test_what_was_not_copied_leaves_nothing(self) -> None:
        await self.database.close()
        for name in os.listdir(self.file.parent):
            (self.file.parent / name).unlink()
        self.file.write_bytes(b"no database" * 1000)
        with self.assertRaises(DatabaseUnavailable):
            back_up(self.file, self.copy)
        self.assertEqual(os.listdir(self.folder), [])

    async def test_it_is_of_one_moment_while_others_write(self) -> None:
        """Each transaction writes two rows: whoever sees one sees both."""
        done = threading.Event()

        def write() -> None:
            with closing(sqlite3.connect(self.file, isolation_level=None, timeout=30)) as connection:
                number = 0
                while not done.is_set():
                    number += 1
                    connection.execute("BEGIN IMMEDIATE")
                    for half in "ab":
                        connection.execute(
                            "INSERT INTO settings VALUES (?, ?, '2026-01-01')",
                            (f"{number}{half}", "x" * 3000),
                        )
                    connection.execute("COMMIT")

        writer = deferToThread(write)
        try:
            for number in range(5):
                self.copy = self.folder / f"{number}.db"
                await deferToThread(back_up, self.file, self.copy)
                [(count, pairs)] = self.rows(
                    "SELECT count(*), count(DISTINCT substr(name, 1, length(name) - 1)) FROM settings"
                )
                self.assertEqual(count, 2 * pairs)  # type: ignore[operator]
        finally:
            done.set()
            await writer


class Urls(SynchronousTestCase):
    def test_no_password_is_shown(self) -> None:
        for url, shown in (
            ("postgresql://ada:planted@db:5432/oxidecast", "postgresql://ada@db:5432/oxidecast"),
            (
                "postgresql://ada:pl%40nted@db/oxidecast?sslmode=require",
                "postgresql://ada@db/oxidecast?sslmode=require",
            ),
            ("postgres://db/x?user=ada&password=planted", "postgres://db/x?user=ada"),
            ("postgres://db/x?p%61ssword=planted&sslpassword=planted", "postgres://db/x"),
            ("postgresql://[::1]:5432/x", "postgresql://[::1]:5432/x"),
        ):
            self.assertEqual(without_password(url), shown)
