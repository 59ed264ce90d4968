"""What every engine behind IDatabase does alike: statements, values, transactions, closing."""

from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec
from twisted.internet.defer import gatherResults
from zope.interface.verify import verifyObject

from oxidecast.database import Conflict, DatabaseError, DatabaseUnavailable, IDatabase, postgres, sqlite
from oxidecast.database.interface import Body
from oxidecast.database.records import new_id, record
from oxidecast.database.streams import Streams
from oxidecast.database.users import Users
from tests.database.support import START, DatabaseCase, both_engines


class Kept(msgspec.Struct):
    """A row."""

    id: str
    sealed: bytes
    at: datetime
    address: str | None
    flag: bool


class Json(msgspec.Struct):
    """A row."""

    value: Any


INSERT = "INSERT INTO settings (name, value, updated_at) VALUES (:name, :value, :at)"


def setting(name: str, value: object = 1) -> dict[str, object]:
    return {"name": name, "value": str(value), "at": "2026-11-22T12:00:00.000000Z"}


def insert(*names: str) -> Body[int]:
    for name in names:
        yield INSERT, setting(name)  # type: ignore[misc]
    rows = yield "SELECT count(*) AS n FROM settings", {}
    return rows[0]["n"]


def insert_once(name: str) -> Body[None]:
    if not (yield "SELECT 1 FROM settings WHERE name = :name", {"name": name}):
        yield INSERT, setting(name)  # type: ignore[misc]


def count_up() -> Body[None]:
    rows = yield "SELECT value FROM settings", {}
    yield "UPDATE settings SET value = :value", {"value": str(int(rows[0]["value"]) + 1)}


def insert_and_raise(name: str) -> Body[None]:
    yield INSERT, setting(name)  # type: ignore[misc]
    raise KeyError(name)


@both_engines
class Statements(DatabaseCase):
    def test_it_provides_the_interface(self) -> None:
        verifyObject(IDatabase, self.database)

    async def test_rows_come_by_column_name(self) -> None:
        self.assertEqual(
            await self.database.query("SELECT 1 AS a, :b AS b", {"b": "x"}), [{"a": 1, "b": "x"}]
        )

    async def test_a_change_answers_how_many_rows_it_touched(self) -> None:
        await self.database.transaction(insert, "a", "b")
        self.assertEqual(await self.database.execute("UPDATE settings SET value = '2'"), 2)

    async def test_what_was_written_is_read_at_once(self) -> None:
        for number in range(20):
            await self.database.execute(INSERT, setting(f"n{number}"))  # type: ignore[arg-type]
            rows = await self.database.query("SELECT count(*) AS n FROM settings")
            self.assertEqual(rows[0]["n"], number + 1)

    async def test_foreign_keys_are_checked(self) -> None:
        change = self.database.execute(
            "INSERT INTO refresh_tokens VALUES ('i', 'nobody', 'f', 'd', 'now', 'now', NULL, NULL)"
        )
        await self.assertFailure(change, Conflict)

    async def test_a_mistake_of_ours_shows_no_sql(self) -> None:
        error = await self.assertFailure(self.database.query("SELECT secret FROM nowhere"), DatabaseError)
        self.assertEqual(type(error), DatabaseError)
        self.assertTrue(str(error).startswith("The database refused a statement"), error)
        self.assertNotIn("nowhere", str(error))


@both_engines
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

    async def test_none_is_lost_of_changes_that_were_read_before(self) -> None:
        await self.database.transaction(insert, "n")
        await gatherResults([self.database.transaction(count_up) for _ in range(20)])
        rows = await self.database.query("SELECT value FROM settings")
        self.assertEqual(int(rows[0]["value"]), 21)

    async def test_exclusive_ones_see_each_others_changes(self) -> None:
        await gatherResults([self.database.exclusive(insert_once, "n") for _ in range(5)])
        self.assertEqual(len(await self.database.query("SELECT * FROM settings")), 1)

    async def test_a_mistake_of_the_body_comes_out_as_it_is(self) -> None:
        await self.assertFailure(self.database.transaction(insert_and_raise, "n"), KeyError)
        await self.assertFailure(self.database.exclusive(insert_and_raise, "n"), KeyError)


@both_engines
class Values(DatabaseCase):
    """What is written comes back, by way of a Struct, as it was."""

    async def kept(self, **values: Any) -> Kept:
        user = await self.someone()
        stream = await Streams(self.database, self.clock).create(user.id, "Birds")
        row = {"id": new_id(), "stream_id": stream.id, "at": START, "sealed": b"", "address": None, **values}
        await self.database.execute(
            "INSERT INTO stream_keys (id, stream_id, digest, sealed, created_at, last_used_from)"
            " VALUES (:id, :stream_id, 'd', :sealed, :at, :address)",
            row,
        )
        rows = await self.database.query(
            "SELECT k.id, k.sealed, k.created_at AS at, k.last_used_from AS address, s.is_private AS flag"
            " FROM stream_keys k JOIN streams s ON s.id = k.stream_id"
        )
        return record(rows[0], Kept)

    async def test_bytes(self) -> None:
        everything = bytes(range(256))
        self.assertEqual((await self.kept(sealed=everything)).sealed, everything)

    async def test_a_time_of_another_zone_is_the_same_moment(self) -> None:
        moment = datetime(2026, 3, 1, 0, 30, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
        self.assertEqual((await self.kept(at=moment)).at, moment)

    async def test_addresses(self) -> None:
        for address in ("192.0.2.1", "2001:db8::1", None):
            self.assertEqual((await self.kept(address=address)).address, address)
            await self.database.execute("DELETE FROM stream_keys")
            await self.database.execute("DELETE FROM streams")
            await self.database.execute("DELETE FROM users")

    async def test_a_flag_is_a_flag(self) -> None:
        self.assertIs((await self.kept()).flag, False)

    async def test_an_id_is_a_text(self) -> None:
        id = new_id()
        self.assertEqual((await self.kept(id=id)).id, id)

    async def json(self, value: Any) -> Any:
        await self.database.execute("DELETE FROM settings")
        await self.database.execute(INSERT, {"name": "n", "value": value, "at": START})
        rows = await self.database.query("SELECT value FROM settings")
        return record(rows[0], Json, json=("value",)).value

    async def test_json(self) -> None:
        for value in ([], ["a", "b"], {"a": {"b": [1, 2.5, None, True]}}, {"%": ":x", "'": '"\\'}):
            self.assertEqual(await self.json(value), value)

    async def test_a_text_in_json(self) -> None:
        self.assertEqual(await self.json('"text"'), "text")

    async def test_texts_are_taken_as_they_are(self) -> None:
        for text in ("%s %(n)s %", ":n ::n", "'; DROP TABLE users; --", "\\", 'é "🐦"', "12:30"):
            rows = await self.database.query("SELECT :a AS a, 'x%' AS b", {"a": text})
            self.assertEqual(rows, [{"a": text, "b": "x%"}])

    async def test_nothing_is_found_by_a_text_with_nul(self) -> None:
        await self.someone("ada")
        self.assertIs(await Users(self.database, self.clock).by_username("ada\0"), None)

    async def test_json_with_nul_is_no_failure(self) -> None:
        self.assertEqual(list(await self.json({"a": "\0 \\u0000"})), ["a"])

    async def test_a_sum_is_an_integer(self) -> None:
        await self.database.transaction(insert, "a", "b")
        rows = await self.database.query("SELECT sum(length(name)) AS n FROM settings")
        self.assertEqual(rows, [{"n": 2}])


@both_engines
class Overload(DatabaseCase):
    async def test_too_much_work_is_refused_instead_of_queued(self) -> None:
        self.patch(sqlite, "MAXIMUM_WAITING", 3)
        self.patch(postgres, "MAXIMUM_WAITING", 3)
        waiting = [self.database.query("SELECT 1") for _ in range(3)]
        error = await self.assertFailure(self.database.query("SELECT 1"), DatabaseUnavailable)
        self.assertEqual(str(error), "The database does not keep up with its work.")
        await gatherResults(waiting)
        await self.database.query("SELECT 1")


@both_engines
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
