"""The commands, each as a process of its own, as people run them."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import oxidecast
from tests.database.cluster import cluster
from tests.database.support import create_database

ROOT = Path(__file__).resolve().parent.parent
FIRST_START = """
import os, sys
from pathlib import Path
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import react
from oxidecast.foundation import Foundation, configure

async def main(reactor):
    foundation = Foundation(configure(None, os.environ), Path(os.environ["OXIDECAST_DATA_DIR"]), reactor)
    await foundation.prepare()
    await foundation.close()

react(lambda reactor: ensureDeferred(main(reactor)))
"""
"""What the server does first, and the commands are not to do."""


class TestCommands(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    def run_command(
        self, *arguments: str, given: str = "", **environ: str
    ) -> subprocess.CompletedProcess[str]:
        return self.run_python("-m", "oxidecast.cli", *arguments, given=given, **environ)

    def first_start(self, **environ: str) -> None:
        """Let there be all that a server makes on its first start."""
        self.assertEqual(self.run_python("-c", FIRST_START, **environ).stderr, "")

    def run_python(
        self, *arguments: str, given: str = "", **environ: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=self.folder,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "OXIDECAST_DATA_DIR": str(self.folder / "data"),
                **environ,
            },
        )

    def test_version(self) -> None:
        self.assertEqual(self.run_command("version").stdout, f"OxideCast {oxidecast.__version__}\n")

    def test_plugins_lists_name_kind_version_origin_and_state(self) -> None:
        lines = self.run_command("plugins", OXIDECAST_PLUGINS_DISABLED='["testpattern"]').stdout.splitlines()
        rows = {line.split()[0]: line.split()[1:] for line in lines}
        self.assertEqual(rows["hls"], ["output", oxidecast.__version__, "oxidecast", "enabled"])
        self.assertEqual(rows["testpattern"][-1], "disabled")

    def test_the_key_of_the_first_stream_is_shown_and_a_password_is_set(self) -> None:
        self.first_start()
        first, second = (
            self.run_command("key", "show", "my-stream"),
            self.run_command("key", "show", "my-stream"),
        )
        self.assertEqual((first.returncode, len(first.stdout)), (0, 40))
        self.assertEqual(first.stdout, second.stdout)
        done = self.run_command("user", "passwd", "admin", given="a new password\n")
        self.assertEqual(done.stdout, "the password of admin is set; earlier logins have ended\n")
        self.assertNotIn("a new password", done.stdout + done.stderr)

    def test_accounts_are_made_listed_disabled_and_enabled(self) -> None:
        self.first_start()
        made = self.run_command("user", "add", "ada", "--role", "streamer", given="a new password\n")
        self.assertEqual((made.returncode, made.stdout), (0, "the streamer ada is made\n"), made)
        made = self.run_command("user", "add", "bob", "--email", "bob@example.org", "--generate")
        self.assertRegex(made.stdout, r"\Athe viewer bob is made\npassword: [\w-]{24}\n\Z")
        done = self.run_command("user", "disable", "ada")
        self.assertEqual(done.stdout, "ada is disabled; logins, keys and live streams end\n")
        rows = [line.split() for line in self.run_command("user", "list").stdout.splitlines()]
        self.assertEqual(
            [row[:4] for row in rows],
            [
                ["NAME", "ROLE", "STATE", "EMAIL"],
                ["admin", "admin", "enabled", "-"],
                ["ada", "streamer", "disabled", "-"],
                ["bob", "viewer", "enabled", "bob@example.org"],
            ],
        )
        done = self.run_command("user", "enable", "ada")
        self.assertEqual(done.stdout, "ada is enabled, and has to log in again\n")
        listed = json.loads(self.run_command("user", "list", "--json").stdout)
        self.assertEqual(
            [(user["username"], user["disabled"]) for user in listed],
            [("admin", False), ("ada", False), ("bob", False)],
        )
        self.assertNotIn("password_hash", listed[0])

    def test_what_an_account_cannot_be_is_one_sentence(self) -> None:
        self.first_start()
        for arguments, given, words in (
            (("add", "ada"), "short\n", "The password must have 8 to 1024 characters."),
            (("add", "a"), "a new password\n", "The username must be"),
            (("add", "ADMIN"), "a new password\n", "another account has this name"),
            (("add", "ada", "--email", "nowhere"), "a new password\n", "The email is not an e-mail address."),
            (("disable", "admin"), "", "This is the last enabled administrator."),
            (("disable", "ada"), "", "there is no user 'ada'"),
        ):
            done = self.run_command("user", *arguments, given=given)
            self.assertEqual((done.returncode, done.stderr.count("\n")), (1, 1), done)
            self.assertIn(words, done.stderr)

    def test_a_key_is_rotated_and_revoked(self) -> None:
        self.first_start()
        old = self.run_command("key", "show", "my-stream").stdout
        new = self.run_command("key", "rotate", "my-stream", "--overlap", "60").stdout
        self.assertNotEqual(old, new)
        self.assertEqual(self.run_command("key", "show", "my-stream").stdout, new)
        done = self.run_command("key", "revoke", "my-stream")
        self.assertIn("the newest key of my-stream is revoked", done.stdout)
        self.assertEqual(self.run_command("key", "show", "my-stream").stdout, old)
        self.run_command("key", "revoke", "my-stream")
        done = self.run_command("key", "revoke", "my-stream")
        self.assertEqual(
            (done.returncode, done.stderr), (1, "oxidecast: the stream 'my-stream' has no key\n")
        )
        wrong = self.run_command("key", "rotate", "my-stream", "--overlap", "-1")
        self.assertEqual((wrong.returncode, "expected seconds, from 0 to" in wrong.stderr), (2, True))

    def test_how_postgresql_is_backed_up_is_told_without_its_password(self) -> None:
        url = "postgresql://ada:planted@db:5432/oxidecast?sslmode=require"
        done = self.run_command("backup", "my backup", DATABASE_URL=url)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn(
            "pg_dump --format=custom --file='my backup'"
            " --dbname='postgresql://ada@db:5432/oxidecast?sslmode=require'\n",
            done.stderr,
        )
        self.assertNotIn("planted", done.stderr)
        self.assertEqual(os.listdir(self.folder), [])

    def test_a_backup_says_what_else_to_keep_and_writes_over_nothing(self) -> None:
        self.first_start()
        for code in (0, 1):
            done = self.run_command("backup", "saved.db")
            self.assertEqual(done.returncode, code, done)
        self.assertEqual(done.stderr, "oxidecast: saved.db exists already, and is not written over\n")
        done = self.run_command("backup", "again.db")
        self.assertIn(str(self.folder / "data" / "secrets.toml"), done.stdout)

    def test_a_backup_leaves_an_older_schema_as_it_is(self) -> None:
        self.first_start()
        database = self.folder / "data" / "oxidecast.db"
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("DELETE FROM schema_migrations WHERE version > 1")
        self.assertEqual(self.run_command("backup", "saved.db").returncode, 0)
        with closing(sqlite3.connect(self.folder / "saved.db")) as connection:
            rows = connection.execute("SELECT version FROM schema_migrations").fetchall()
        self.assertEqual(rows, [(1,)])

    def test_a_postgresql_database_is_migrated_and_used(self) -> None:
        url = cluster().url(create_database(self, cluster()))
        would, did, again = (
            self.run_command("migrate", *options, DATABASE_URL=url) for options in (("--dry-run",), (), ())
        )
        self.assertTrue(would.stdout.startswith("would run 0001 initial\n"), would)
        self.assertEqual(did.stdout, would.stdout.replace("would run", "ran"))
        self.assertEqual(again.stdout, "nothing to do: the schema is up to date\n")

    def test_a_command_uses_the_servers_postgresql_database(self) -> None:
        url = cluster().url(create_database(self, cluster()))
        self.first_start(DATABASE_URL=url)
        shown = self.run_command("key", "show", "my-stream", DATABASE_URL=url)
        self.assertEqual((shown.returncode, len(shown.stdout)), (0, 40), shown)

    def test_a_postgresql_database_that_does_not_exist_is_one_sentence(self) -> None:
        done = self.run_command("migrate", DATABASE_URL=cluster().url("nothing"))
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr, "oxidecast: PostgreSQL has no database of the name in database.url.\n")

    def test_admins_new_password_takes_the_file_of_the_first_one_away(self) -> None:
        self.first_start()
        file = self.folder / "data" / "admin-password"
        self.run_command("user", "passwd", "admin", given="short\n")
        self.assertTrue(file.exists(), "the password was not changed")
        self.run_command("user", "passwd", "admin", given="a new password\n")
        self.assertFalse(file.exists())

    def test_where_there_is_no_database_a_command_makes_none(self) -> None:
        for arguments in (
            ("key", "show", "my-stream"),
            ("user", "passwd", "admin"),
            ("migrate",),
            ("backup", "x"),
        ):
            done = self.run_command(*arguments, given="a new password\n")
            self.assertEqual((done.returncode, done.stdout), (1, ""), arguments)
            self.assertEqual(
                done.stderr,
                f"oxidecast: there is no database in {self.folder}/data:"
                " start the server first, or name its --data-dir\n",
            )
            self.assertEqual(os.listdir(self.folder), [], arguments)

    def test_where_there_are_no_secrets_a_command_makes_none(self) -> None:
        self.first_start()
        secrets = self.folder / "data" / "secrets.toml"
        secrets.unlink()
        done = self.run_command("key", "show", "my-stream")
        self.assertEqual((done.returncode, done.stderr.count("\n")), (1, 1), done.stderr)
        self.assertIn("secrets.toml", done.stderr)
        self.assertFalse(secrets.exists())

    def test_a_database_without_users_gets_none_from_a_command(self) -> None:
        self.first_start()
        (self.folder / "data" / "oxidecast.db").unlink()
        (self.folder / "data" / "oxidecast.db").touch()
        done = self.run_command("user", "passwd", "admin", given="a new password\n")
        self.assertEqual((done.returncode, done.stderr), (1, "oxidecast: there is no user 'admin'\n"))

    def test_what_a_migration_would_do_is_told_without_making_anything(self) -> None:
        done = self.run_command("migrate", "--dry-run")
        self.assertEqual((done.returncode, done.stdout.split()[:3]), (0, ["would", "run", "0001"]))
        self.assertEqual(os.listdir(self.folder), [])

    def test_a_file_in_place_of_the_data_directory_is_one_sentence(self) -> None:
        (self.folder / "data").write_text("a file")
        done = self.run_command("key", "show", "my-stream")
        self.assertEqual((done.returncode, done.stderr.count("\n")), (1, 1), done.stderr)

    def test_what_hinders_a_command_is_one_sentence_and_exit_code_1(self) -> None:
        self.first_start()
        for arguments, given, sentence in (
            (("key", "show", "nothing"), "", "oxidecast: there is no stream 'nothing'\n"),
            (("user", "passwd", "nobody"), "long enough\n", "oxidecast: there is no user 'nobody'\n"),
            (
                ("user", "passwd", "admin"),
                "short\n",
                "oxidecast: The password must have 8 to 1024 characters.\n",
            ),
        ):
            done = self.run_command(*arguments, given=given)
            self.assertEqual((done.returncode, done.stdout, done.stderr), (1, "", sentence))
        done = self.run_command("plugins", OXIDECAST_SERVER_PRT="1")
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr.count("\n"), 1)
        self.assertIn("OXIDECAST_SERVER_PORT", done.stderr)
