"""The schema grows in whole steps, once, and never backwards."""

import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, gatherResults

from oxidecast.database import DatabaseError, SchemaTooNew, migrate, pending
from oxidecast.database.audit import AuditLog
from oxidecast.database.broadcasts import Broadcasts
from oxidecast.database.keys import StreamKeys
from oxidecast.database.migrations import find_migrations
from oxidecast.database.records import new_id
from oxidecast.database.streams import Streams
from oxidecast.database.users import Users
from oxidecast.settings.data import data_path
from tests.database.support import START, DatabaseCase, EmptyCase, both_engines
from tests.settings.support import temporary_folder

ROOT = Path(__file__).parents[2]
SHIPPED = len(find_migrations("sqlite"))
NEXT = f"{SHIPPED + 1:04}"
TABLES = (
    "users",
    "streams",
    "stream_keys",
    "refresh_tokens",
    "stream_sessions",
    "viewer_sessions",
    "viewer_hours",
    "stream_metrics",
    "recordings",
    "multicast_groups",
    "audit_log",
    "changes",
    "settings",
    "schema_migrations",
)
CHILD = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from twisted.internet import defer, task
from oxidecast.database.migrations import migrate
from oxidecast.database.opening import open_database

async def main(reactor):
    database = open_database(sys.argv[1], Path(), reactor)
    done = await migrate(database, datetime.now(UTC))
    print(len(done))
    await database.close()

sys.stdin.read()
task.react(lambda reactor: defer.ensureDeferred(main(reactor)))
"""


@both_engines
class Shipped(DatabaseCase):
    async def test_a_second_run_does_nothing(self) -> None:
        self.assertEqual(await migrate(self.database, START), [])
        self.assertEqual(await pending(self.database), [])

    async def test_every_table_is_there(self) -> None:
        for table in TABLES:
            self.assertTrue(await self.database.has_table(table), table)

    async def test_what_ran_is_recorded(self) -> None:
        rows = await self.database.query("SELECT * FROM schema_migrations ORDER BY version")
        self.assertEqual([row["version"] for row in rows], list(range(1, SHIPPED + 1)))
        self.assertEqual(rows[0]["name"], "initial")
        self.assertEqual(msgspec.convert(rows[0]["applied_at"], datetime), START)


@both_engines
class Earlier(EmptyCase):
    """From every schema before this one, with rows in it."""

    async def test_a_stream_of_the_first_schema(self) -> None:
        old = temporary_folder(self)
        for file in data_path("migrations").glob("0001_*.sql"):
            (old / file.name).write_text(file.read_text())
        await migrate(self.database, START, old)
        row = {"id": new_id(), "now": START}
        await self.database.execute(
            "INSERT INTO users (id, username, role, password_hash, created_at, updated_at)"
            " VALUES (:id, 'ada', 'streamer', 'no hash', :now, :now)",
            row,
        )
        await self.database.execute(
            "INSERT INTO streams (id, owner_id, name, title, transcoding_profiles, created_at, updated_at)"
            " VALUES (:id, :id, 'old', 'Old', '[]', :now, :now)",
            row,
        )
        await migrate(self.database, START)
        stream = await Streams(self.database, self.clock).find("old")
        assert stream is not None
        self.assertEqual((stream.title, stream.outputs), ("Old", {}))
        owner = await Users(self.database, self.clock).by_username("ada")
        assert owner is not None
        self.assertEqual((owner.id, owner.token_generation), (row["id"], 0))

    async def test_a_broadcast_and_its_viewers_of_the_second_schema(self) -> None:
        old = temporary_folder(self)
        for file in data_path("migrations").glob("000[12]_*.sql"):
            (old / file.name).write_text(file.read_text())
        await migrate(self.database, START, old)
        row: dict[str, Any] = {"id": new_id(), "now": START}
        for sql in (
            "INSERT INTO users (id, username, role, password_hash, created_at, updated_at)"
            " VALUES (:id, 'ada', 'streamer', 'no hash', :now, :now)",
            "INSERT INTO streams (id, owner_id, name, title, transcoding_profiles, created_at, updated_at)"
            " VALUES (:id, :id, 'old', 'Old', '[]', :now, :now)",
            "INSERT INTO stream_sessions (id, stream_id, protocol, started_at) VALUES (:id, :id, 'rtmp', :now)",
            "INSERT INTO viewer_sessions (id, stream_id, connection_type, started_at)"
            " VALUES (:id, :id, 'hls', :now)",
        ):
            await self.database.execute(sql, row)
        await migrate(self.database, START)
        found = await Broadcasts(self.database).page(row["id"])
        self.assertEqual([(one.protocol, one.unique_viewers) for one in found.items], [("rtmp", 0)])
        rows = await self.database.query("SELECT connection_type FROM viewer_sessions")
        self.assertEqual(rows, [{"connection_type": "hls"}])

    async def test_a_key_and_an_audit_log_of_the_second_schema(self) -> None:
        old = temporary_folder(self)
        for file in data_path("migrations").glob("000[12]_*.sql"):
            (old / file.name).write_text(file.read_text())
        await migrate(self.database, START, old)
        row = {"id": new_id(), "now": START}
        for sql in (
            "INSERT INTO users (id, username, role, password_hash, created_at, updated_at)"
            " VALUES (:id, 'ada', 'streamer', 'no hash', :now, :now)",
            "INSERT INTO streams (id, owner_id, name, title, transcoding_profiles, created_at, updated_at)"
            " VALUES (:id, :id, 'old', 'Old', '[]', :now, :now)",
            "INSERT INTO stream_keys (id, stream_id, digest, sealed, created_at)"
            " VALUES (:id, :id, 'digest', :sealed, :now)",
            "INSERT INTO audit_log (id, at, actor, action, details) VALUES (:id, :now, 'ada', 'login', '{}')",
        ):
            await self.database.execute(sql, {**row, "sealed": b"sealed"} if ":sealed" in sql else row)
        await migrate(self.database, START)
        found = await StreamKeys(self.database, self.clock).find("digest")
        assert found is not None
        self.assertEqual((found.stream.name, found.key.allowed_addresses), ("old", ()))
        [entry] = (await AuditLog(self.database, self.clock).page()).items
        self.assertEqual((entry.actor, entry.times, entry.last_at), ("ada", 1, None))


class FolderCase(DatabaseCase):
    """A copy of the migrations, to which a test adds."""

    changes_schema = True

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.folder = temporary_folder(self)
        for file in data_path("migrations").glob("*.sql"):
            (self.folder / file.name).write_text(file.read_text())

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)


@both_engines
class Folder(FolderCase):
    async def test_a_step_runs_once_it_is_there(self) -> None:
        script = "-- Birds.\nCREATE TABLE birds (\n    id uuid\n);\nCREATE TABLE nests (id uuid);"
        self.write(f"{NEXT}_birds.sql", script)
        self.assertEqual([step.name for step in await pending(self.database, self.folder)], ["birds"])
        self.assertFalse(await self.database.has_table("birds"))
        self.assertEqual(
            [step.version for step in await migrate(self.database, START, self.folder)], [SHIPPED + 1]
        )
        self.assertTrue(await self.database.has_table("nests"))

    async def test_rows_written_before_stay(self) -> None:
        user = await self.someone()
        self.write(f"{NEXT}_birds.sql", "ALTER TABLE users ADD COLUMN bird text NOT NULL DEFAULT 'wren';")
        await migrate(self.database, START, self.folder)
        rows = await self.database.query("SELECT id, bird FROM users")
        self.assertEqual(rows, [{"id": user.id, "bird": "wren"}])

    async def test_a_step_that_fails_leaves_the_schema_before_it(self) -> None:
        self.write(f"{NEXT}_birds.sql", "CREATE TABLE birds (id uuid);\nCREATE TABLE users (id uuid);")
        await self.assertFailure(
            Deferred.fromCoroutine(migrate(self.database, START, self.folder)), DatabaseError
        )
        self.assertFalse(await self.database.has_table("birds"))
        self.assertEqual(len(await pending(self.database, self.folder)), 1)

    async def test_a_newer_schema_is_refused(self) -> None:
        self.write(f"{NEXT}_birds.sql", "CREATE TABLE birds (id uuid);")
        await migrate(self.database, START, self.folder)
        for call in (migrate(self.database, START), pending(self.database)):
            error = await self.assertFailure(Deferred.fromCoroutine(call), SchemaTooNew)
            self.assertEqual(
                str(error),
                f"The database has schema {SHIPPED + 1} and this version of OxideCast knows {SHIPPED}:"
                " install the newer version again, or restore a backup.",
            )

    async def test_two_that_start_at_once_in_one_process(self) -> None:
        self.write(f"{NEXT}_birds.sql", "CREATE TABLE birds (id uuid);")
        others = [self.opened(), self.opened()]
        results = await gatherResults(
            [Deferred.fromCoroutine(migrate(other, START, self.folder)) for other in others]
        )
        self.assertEqual(sorted(len(result) for result in results), [0, 1])


@both_engines
class Together(EmptyCase):
    def test_three_processes_that_start_at_once_on_nothing(self) -> None:
        children = [
            subprocess.Popen(
                [sys.executable, "-c", CHILD, self.url],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=ROOT,
            )
            for _ in range(3)
        ]
        for child in children:
            assert child.stdin is not None
            child.stdin.close()
            child.stdin = None
        outputs = [child.communicate(timeout=30) for child in children]
        self.assertEqual([child.returncode for child in children], [0, 0, 0], outputs)
        self.assertEqual(sum(int(out) for out, _ in outputs), SHIPPED)


class Files(FolderCase):
    async def test_looking_what_is_pending_makes_no_database(self) -> None:
        self.file = self.file.with_suffix(".absent")
        self.assertEqual(len(await pending(self.opened(), self.folder)), SHIPPED)
        self.assertFalse(self.file.exists())

    def test_the_other_engines_files_are_left_out(self) -> None:
        self.write(f"{NEXT}_birds.postgres.sql", "x")
        self.write(f"{NEXT}_birds.sql", "x")
        for flavour, names in (
            ("sqlite", [f"{NEXT}_birds.sql"]),
            ("postgres", [f"{NEXT}_birds.sql", f"{NEXT}_birds.postgres.sql"]),
        ):
            step = find_migrations(flavour, self.folder)[SHIPPED]
            self.assertEqual([file.name for file in step.files], names)

    def test_a_folder_out_of_order_is_a_mistake_of_ours(self) -> None:
        for name in (f"{SHIPPED + 2:04}_birds.sql", "0001_birds.sql", "birds.sql"):
            self.write(name, "x")
            self.assertRaises(ValueError, find_migrations, "sqlite", self.folder)
            (self.folder / name).unlink()
