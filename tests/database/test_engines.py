"""What every engine behind IDatabase does alike: statements, values, transactions, closing."""

from twisted.internet.defer import gatherResults
from zope.interface.verify import verifyObject

from oxidecast.database import Conflict, DatabaseError, DatabaseUnavailable, IDatabase, postgres, sqlite
from oxidecast.database.interface import Body
from tests.database.support import DatabaseCase, both_engines

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
