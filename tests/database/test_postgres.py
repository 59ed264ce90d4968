"""PostgreSQL that is away, comes back, hangs, refuses, or cuts a transaction in half."""

import subprocess
import time
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase
from txpostgres import txpostgres

from oxidecast.database import DatabaseError, DatabaseUnavailable, connections, migrate, postgres
from oxidecast.database.connections import Connection
from oxidecast.database.interface import Body
from oxidecast.database.postgres import PostgresDatabase
from oxidecast.database.streams import Streams
from tests.database.cluster import program
from tests.database.support import START, DatabaseCase, EmptyCase, create_database
from tests.database.test_engines import INSERT, insert, setting
from tests.settings.support import temporary_folder

SOON = 8.0
"""Seconds within which every call has to end, and a server that is back has to be used again."""


class PostgresCase(DatabaseCase):
    flavour = "postgres"
    timeout = 60

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.addCleanup(self.cluster.start)

    async def busy(self) -> None:
        """Open all connections of the pool."""
        await gatherResults([self.database.query("SELECT pg_sleep(0.1)") for _ in range(postgres.POOL_SIZE)])

    async def assertAway(self, call: Deferred[Any], sentence: str | None = None) -> None:
        began = time.monotonic()
        error = await self.assertFailure(call, DatabaseUnavailable)
        self.assertLess(time.monotonic() - began, SOON)
        if sentence is not None:
            self.assertEqual(str(error), sentence)

    async def assertServesAgain(self) -> None:
        began = time.monotonic()
        while True:
            try:
                await gatherResults([self.database.query("SELECT 1") for _ in range(20)], consumeErrors=True)
                return
            except Exception as error:
                if time.monotonic() - began > SOON:
                    raise AssertionError("it does not serve again") from error
            await deferLater(reactor, 0.1)

    def sessions(self) -> int:
        """Connections that the database has."""
        name = self.url.rpartition("/")[2]
        ((count,),) = self.cluster.run(
            f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}' AND application_name = 'oxidecast'"
        )
        assert isinstance(count, int)
        return count

    def end_sessions(self) -> None:
        self.cluster.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'oxidecast'"
        )


class Outage(PostgresCase):
    async def outage(self, end: Callable[[], None]) -> None:
        await self.busy()
        end()
        for _ in range(10):
            await self.assertAway(self.database.query("SELECT 1"))
        self.cluster.start()
        await self.assertServesAgain()
        await self.busy()
        self.assertEqual(self.sessions(), postgres.POOL_SIZE)

    async def test_killed_and_started_again(self) -> None:
        await self.outage(self.cluster.kill)

    async def test_stopped_and_started_again(self) -> None:
        await self.outage(self.cluster.stop)

    async def test_what_runs_when_it_is_killed_fails(self) -> None:
        await self.busy()
        calls: list[Deferred[Any]] = [self.database.query("SELECT pg_sleep(5)") for _ in range(3)]
        calls.append(self.database.execute("SELECT pg_sleep(5)"))
        calls.append(self.database.transaction(sleeping))
        await deferLater(reactor, 0.2)
        self.cluster.kill()
        for call in calls:
            await self.assertAway(call)

    async def test_what_waits_when_it_is_killed_fails(self) -> None:
        calls = [self.database.query("SELECT pg_sleep(3)") for _ in range(postgres.POOL_SIZE * 4)]
        await deferLater(reactor, 0.2)
        self.cluster.kill()
        for call in calls:
            await self.assertAway(call)

    async def test_calls_fail_at_once_while_it_is_away(self) -> None:
        self.cluster.kill()
        await self.assertAway(self.database.query("SELECT 1"), "Nothing answers at PostgreSQL's address.")
        began = time.monotonic()
        for _ in range(100):
            await self.assertAway(self.database.query("SELECT 1"))
        self.assertLess(time.monotonic() - began, 1)

    async def test_single_connections_that_end_are_not_noticed(self) -> None:
        await self.busy()
        for _ in range(3):
            self.end_sessions()
            await deferLater(reactor, 0.05)
            await gatherResults(
                [self.database.transaction(insert, f"n{time.monotonic_ns()}") for _ in range(5)]
            )

    async def test_a_transaction_cut_in_half_is_undone(self) -> None:
        call = self.database.transaction(insert_and_sleep, "half")
        await deferLater(reactor, 0.3)
        self.cluster.kill()
        await self.assertAway(call)
        self.cluster.start()
        await self.assertServesAgain()
        self.assertEqual(await self.database.query("SELECT * FROM settings"), [])

    async def test_a_session_that_is_ended_undoes_its_transaction(self) -> None:
        call = self.database.transaction(insert_and_sleep, "half")
        await deferLater(reactor, 0.3)
        self.end_sessions()
        await self.assertAway(call)
        self.assertEqual(await self.database.query("SELECT * FROM settings"), [])


class Hanging(PostgresCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        for name, seconds in (("GRACE", 0.2), ("STATEMENT_TIMEOUT", 0.5), ("CONNECT_TIMEOUT", 0.5)):
            self.patch(connections, name, seconds)
        self.patch(connections, "PREPARATION", "SET statement_timeout = 500; SET timezone = 'UTC'")
        self.database = self.opened()

    async def test_a_statement_that_takes_too_long_is_given_up(self) -> None:
        await self.assertAway(self.database.query("SELECT pg_sleep(60)"), "The database took too long.")

    async def test_an_exclusive_transaction_takes_its_time(self) -> None:
        self.assertEqual(await self.database.exclusive(sleep, 1.2), "slept")

    async def test_a_frozen_server_is_not_waited_for(self) -> None:
        await self.busy_quickly()
        self.addCleanup(self.cluster.go_on)
        self.cluster.pause()
        await gatherResults([Deferred.fromCoroutine(self.assertAway(call)) for call in self.calls()])
        await self.assertAway(self.database.query("SELECT 1"))
        self.cluster.go_on()
        await self.assertServesAgain()

    async def busy_quickly(self) -> None:
        await gatherResults([self.database.query("SELECT pg_sleep(0.05)") for _ in range(5)])

    def calls(self) -> list[Deferred[Any]]:
        return [
            self.database.query("SELECT 1"),
            self.database.execute("UPDATE settings SET value = '1'"),
            self.database.transaction(insert, "a"),
        ]


class Waiting(PostgresCase):
    async def test_for_a_connection_ends(self) -> None:
        self.patch(connections, "WAITING_TIME", 0.2)
        held = [self.database.query("SELECT pg_sleep(1)") for _ in range(postgres.POOL_SIZE)]
        await self.assertAway(self.database.query("SELECT 1"), "The database does not keep up with its work.")
        await gatherResults(held)
        await self.database.query("SELECT 1")

    async def test_no_more_connections_are_opened_than_the_pool_has(self) -> None:
        await gatherResults([self.database.query("SELECT pg_sleep(0.02)") for _ in range(50)])
        self.assertEqual(self.sessions(), postgres.POOL_SIZE)


class Refused(EmptyCase):
    """One sentence each, without host, user, name or password."""

    flavour = "postgres"

    async def assertRefused(self, url: str, sentence: str) -> None:
        database = PostgresDatabase(url, reactor)
        self.addCleanup(database.close)
        for _ in range(2):  # the second is of the back-off
            error = await self.assertFailure(database.query("SELECT 1"), DatabaseUnavailable)
            self.assertEqual(str(error), sentence)

    async def test_a_wrong_password(self) -> None:
        url = self.cluster.url("postgres", password="hunter2")
        await self.assertRefused(url, "PostgreSQL refuses the user or the password of database.url.")

    async def test_an_unknown_user(self) -> None:
        url = self.url.replace("//postgres:", "//nobody:")
        await self.assertRefused(url, "PostgreSQL refuses the user or the password of database.url.")

    async def test_no_password(self) -> None:
        url = f"postgresql://postgres@127.0.0.1:{self.cluster.port}/postgres"
        await self.assertRefused(url, "PostgreSQL wants a password, and database.url has none.")

    async def test_a_database_that_does_not_exist(self) -> None:
        url = self.cluster.url("nothing")
        await self.assertRefused(url, "PostgreSQL has no database of the name in database.url.")

    async def test_a_host_that_does_not_exist(self) -> None:
        url = "postgresql://postgres@nowhere.invalid/postgres"
        await self.assertRefused(url, "The host of database.url is not known.")

    async def test_a_port_where_nobody_listens(self) -> None:
        url = "postgresql://postgres@127.0.0.1:1/postgres"
        await self.assertRefused(url, "Nothing answers at PostgreSQL's address.")

    async def test_a_host_by_name_is_reached_by_any_of_its_addresses(self) -> None:
        database = PostgresDatabase(self.url.replace("127.0.0.1", "localhost"), reactor)
        self.addCleanup(database.close)
        self.assertEqual(await database.query("SELECT 1 AS n"), [{"n": 1}])

    async def test_encryption_that_the_server_does_not_have(self) -> None:
        await self.assertRefused(
            f"{self.url}?sslmode=require", "PostgreSQL and database.url do not agree on encryption (sslmode)."
        )


class Backup(PostgresCase):
    async def test_what_pg_dump_saves_pg_restore_brings_back(self) -> None:
        user = await self.someone()
        stream = await Streams(self.database, self.clock).create(user.id, "Birds")
        dump = str(temporary_folder(self) / "oxidecast.dump")
        run("pg_dump", "--format=custom", f"--file={dump}", self.url)
        other = self.cluster.url(create_database(self, self.cluster))
        run("pg_restore", "--clean", "--if-exists", "--no-owner", f"--dbname={other}", dump)
        restored = PostgresDatabase(other, reactor)
        self.addCleanup(restored.close)
        self.assertEqual(await migrate(restored, START), [])
        self.assertEqual(await Streams(restored, self.clock).find("birds"), stream)


class Errors(PostgresCase):
    async def test_no_statement_and_no_value_is_behind_an_error(self) -> None:
        await self.database.transaction(insert, "planted")
        error = await self.assertFailure(self.database.transaction(insert, "planted"), DatabaseError)
        self.assertTrue(error.__suppress_context__)
        self.assertIs(error.__cause__, None)

    async def test_a_disk_that_is_full_is_an_outage(self) -> None:
        await self.assertAway(self.database.exclusive(failing, "53100"), "The database's disk is full.")

    async def test_a_standby_cannot_be_written(self) -> None:
        name = self.url.rpartition("/")[2]
        self.cluster.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        self.addCleanup(self.cluster.run, f"ALTER DATABASE {name} RESET default_transaction_read_only")
        await self.assertAway(
            self.opened().execute(INSERT, setting("a")),  # type: ignore[arg-type]
            "The database cannot be written.",
        )

    async def test_others_who_always_come_first_are_an_outage(self) -> None:
        self.patch(postgres, "LONGEST_DETOUR", 0.001)
        await self.assertAway(
            self.database.transaction(failing, "40001"), "The database is too busy: others always came first."
        )

    async def test_a_deadlock_is_tried_again(self) -> None:
        await self.database.transaction(insert, "a", "b")
        await gatherResults(
            [self.database.transaction(touch, "a", "b"), self.database.transaction(touch, "b", "a")]
        )


def run(name: str, *arguments: str) -> None:
    """One of PostgreSQL's programs."""
    subprocess.run([program(name), *arguments], check=True, timeout=30)


def failing(code: str) -> Body[None]:
    yield f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{code}'; END $$", {}


def touch(first: str, second: str) -> Body[None]:
    for name in (first, second):
        yield "UPDATE settings SET value = '2' WHERE name = :name", {"name": name}
        yield "SELECT pg_sleep(0.1)", {}


def sleep(seconds: float) -> Body[str]:
    yield "SELECT pg_sleep(:seconds)", {"seconds": seconds}
    return "slept"


def sleeping() -> Body[None]:
    yield "SELECT pg_sleep(5)", {}


def insert_and_sleep(name: str) -> Body[None]:
    yield INSERT, setting(name)  # type: ignore[misc]
    yield "SELECT pg_sleep(5)", {}
    yield INSERT, setting(f"{name} more")  # type: ignore[misc]


class Broken(SynchronousTestCase):
    def test_a_descriptor_that_is_gone_is_the_end_and_no_error_of_the_reactor(self) -> None:
        """libpq closes its socket when it finds it broken, while psycopg still calls the connection open."""
        lost: list[Connection] = []
        connection = Connection(Clock(), lost.append)

        def vanished(self: object) -> None:
            raise ValueError("file descriptor cannot be a negative integer (-1)")

        self.patch(txpostgres.Connection, "doRead", vanished)
        self.patch(txpostgres.Connection, "connectionLost", lambda self, reason: None)
        connection.doRead()
        self.assertEqual(lost, [connection])
