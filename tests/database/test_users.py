from twisted.internet.defer import Deferred

from oxidecast.database import Conflict
from oxidecast.database.audit import SERVER
from oxidecast.database.records import utc
from oxidecast.database.users import Users, change_user
from tests.database.support import START, DatabaseCase, both_engines


@both_engines
class UsersTable(DatabaseCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.users = Users(self.database, self.clock)

    async def test_a_user_is_found_as_it_was_made(self) -> None:
        made = await self.users.create("ada", "hash", "streamer", email="ada@example.com")
        self.assertEqual(made.created_at, START)
        self.assertEqual(await self.users.by_id(made.id), made)
        self.assertEqual(await self.users.by_username("ADA"), made)

    async def test_an_unknown_one_is_none(self) -> None:
        self.assertIs(await self.users.by_id("x"), None)
        self.assertIs(await self.users.by_username("x"), None)

    async def test_names_and_addresses_are_taken_in_any_case(self) -> None:
        await self.users.create("ada", "hash", "viewer", email="ada@example.com")
        for name, email in (("ADA", None), ("bob", "Ada@Example.com")):
            again = Deferred.fromCoroutine(self.users.create(name, "hash", "viewer", email=email))
            await self.assertFailure(again, Conflict)

    async def test_a_change_is_dated_and_says_whether_there_was_such_a_user(self) -> None:
        made = await self.users.create("ada", "hash", "viewer")
        self.clock.advance(60)
        changed = {"role": "streamer", "disabled": True}
        now = utc(self.clock)
        self.assertTrue(await self.users.renew_hash(made, "other"))
        self.assertTrue(await self.database.transaction(change_user, made.id, changed, now, SERVER))
        self.assertIs(await self.database.transaction(change_user, "x", changed, now, SERVER), None)
        user = await self.users.by_id(made.id)
        assert user is not None
        self.assertEqual((user.role, user.disabled, user.password_hash), ("streamer", True, "other"))
        self.assertEqual((user.updated_at - user.created_at).seconds, 60)

    async def test_a_hash_that_is_renewed_ends_no_token(self) -> None:
        made = await self.users.create("ada", "hash", "viewer")
        await self.users.renew_hash(made, "other")
        user = await self.users.by_id(made.id)
        assert user is not None
        self.assertEqual(user.token_generation, 0)

    async def test_a_hash_is_not_renewed_in_place_of_another_password(self) -> None:
        made = await self.users.create("ada", "hash", "viewer")
        await self.users.renew_hash(made, "another password")
        self.assertFalse(await self.users.renew_hash(made, "the first password"))
        user = await self.users.by_id(made.id)
        assert user is not None
        self.assertEqual(user.password_hash, "another password")

    async def test_a_page_has_the_true_total(self) -> None:
        for number in range(5):
            await self.users.create(f"user{number}", "hash", "viewer")
            self.clock.advance(1)
        page = await self.users.page(2, 2)
        self.assertEqual([user.username for user in page.items], ["user2", "user3"])
        self.assertEqual((page.total, page.page, page.limit, page.total_pages), (5, 2, 2, 3))

    async def test_a_page_can_be_narrowed(self) -> None:
        await self.users.create("ada", "hash", "admin")
        await self.users.create("a_b", "hash", "viewer")
        self.assertEqual([user.username for user in (await self.users.page(role="admin")).items], ["ada"])
        self.assertEqual([user.username for user in (await self.users.page(q="A_")).items], ["a_b"])

    async def test_the_password_hash_is_not_in_the_representation(self) -> None:
        self.assertNotIn("no hash", repr(await self.someone()))
