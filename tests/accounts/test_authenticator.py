"""Who may publish, and what goes on when the database does not."""

from typing import Any

from twisted.internet.defer import Deferred

from oxidecast.accounts import KeyAuthenticator, OpenAuthenticator, PublishKeys, PublishRefused
from oxidecast.accounts.settings import KEY_LIFETIME
from oxidecast.database.streams import StreamChange, Streams
from tests.accounts.support import AccountsCase
from tests.database.support import both_engines


class AuthenticatorCase(AccountsCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.keys = PublishKeys(self.database, self.clock, self.safe)
        self.streams = Streams(self.database, self.clock)
        self.owner = await self.someone()
        self.stream = await self.streams.create(self.owner.id, "Birds")
        self.key = await self.keys.create(self.stream.id)
        self.authenticator = KeyAuthenticator(self.database, self.clock, self.safe, cached_keys=3)

    async def demote(self) -> None:
        await self.database.execute("UPDATE users SET role = 'viewer' WHERE id = :id", {"id": self.owner.id})

    async def assertRefused(self, code: str, key: str | None = None) -> None:
        answer = self.authenticator.authenticate_publish(key if key is not None else self.key.text)
        error = await self.assertFailure(Deferred.fromCoroutine(answer), PublishRefused)
        self.assertEqual(error.code, code)


@both_engines
class Keys(AuthenticatorCase):
    async def test_a_key_gives_its_stream(self) -> None:
        grant = await self.authenticator.authenticate_publish(self.key.text)
        self.assertEqual((grant.stream, grant.key_id), (self.stream, self.key.id))

    async def test_a_key_may_be_for_some_addresses_only(self) -> None:
        await self.keys.change(self.stream.id, self.key.id, {"allowed_addresses": ["203.0.113.0/24"]})
        for address in ("203.0.113.9", "::ffff:203.0.113.9"):
            await self.authenticator.authenticate_publish(self.key.text, address)
        for other in ("203.0.114.9", "2001:db8::1", None):
            answer = Deferred.fromCoroutine(self.authenticator.authenticate_publish(self.key.text, other))
            error = await self.assertFailure(answer, PublishRefused)
            self.assertEqual(
                (error.code, str(error)),
                ("address_not_allowed", "This stream key may not be used from here."),
            )

    async def test_from_elsewhere_nothing_is_learnt_of_the_stream(self) -> None:
        await self.keys.change(self.stream.id, self.key.id, {"allowed_addresses": ["203.0.113.0/24"]})
        await self.streams.update(self.stream.id, StreamChange(accepts_publishing=False))
        await self.database.execute("UPDATE users SET disabled = true")
        await self.assertRefused("address_not_allowed")

    async def test_also_while_the_database_is_away(self) -> None:
        await self.keys.change(self.stream.id, self.key.id, {"allowed_addresses": ["203.0.113.0/24"]})
        await self.authenticator.authenticate_publish(self.key.text, "203.0.113.9")
        await self.database.close()
        await self.authenticator.authenticate_publish(self.key.text, "203.0.113.8")
        await self.assertRefused("address_not_allowed")

    async def test_a_rotation_keeps_the_addresses(self) -> None:
        await self.keys.change(self.stream.id, self.key.id, {"allowed_addresses": ["203.0.113.0/24"]})
        self.key = await self.keys.rotate(self.stream.id)
        self.assertEqual(self.key.allowed_addresses, ("203.0.113.0/24",))
        await self.assertRefused("address_not_allowed")

    async def test_an_owner_who_may_not_publish_is_refused(self) -> None:
        await self.demote()
        await self.assertRefused("role_may_not")

    async def test_a_wrong_key_is_refused(self) -> None:
        for key in ("", "birds", self.stream.id, self.safe.new(), "x" * 10_000, "'; DROP TABLE users"):
            await self.assertRefused("unknown_key", key)

    async def test_a_refusal_does_not_quote_the_key(self) -> None:
        wrong = self.safe.new()
        answer = Deferred.fromCoroutine(self.authenticator.authenticate_publish(wrong))
        error = await self.assertFailure(answer, PublishRefused)
        self.assertNotIn(wrong, str(error))

    async def test_a_revoked_key_is_refused_at_once(self) -> None:
        await self.authenticator.authenticate_publish(self.key.text)
        await self.keys.revoke(self.stream.id, self.key.id)
        await self.assertRefused("unknown_key")

    async def test_an_expired_key_is_refused(self) -> None:
        await self.keys.rotate(self.stream.id)
        await self.assertRefused("unknown_key")

    async def test_a_stopped_stream_says_so(self) -> None:
        await self.streams.update(self.stream.id, StreamChange(accepts_publishing=False))
        await self.assertRefused("stream_stopped")

    async def test_a_disabled_owner_is_said_so(self) -> None:
        await self.disable(self.owner)
        await self.assertRefused("account_disabled")

    async def test_what_was_read_before_a_change_counts_no_more_after_it(self) -> None:
        find = self.authenticator._keys.find

        async def find_slowly(digest: str) -> Any:
            found = await find(digest)
            if await self.keys.revoke(self.stream.id, self.key.id):
                self.authenticator.forget(self.stream.id)
            return found

        self.patch(self.authenticator._keys, "find", find_slowly)
        await self.assertRefused("unknown_key")

    async def test_a_look_up_that_is_overtaken_without_end_is_given_up(self) -> None:
        find = self.authenticator._keys.find

        async def find_slowly(digest: str) -> Any:
            self.authenticator.forget("another stream")
            return await find(digest)

        self.patch(self.authenticator._keys, "find", find_slowly)
        await self.assertRefused("unavailable")

    async def test_the_use_of_a_key_is_noted(self) -> None:
        await self.authenticator.authenticate_publish(self.key.text, "192.0.2.1")
        await self.database.close()
        self.database = self.opened()
        [key] = await PublishKeys(self.database, self.clock, self.safe).all(self.stream.id)
        self.assertEqual(key.last_used_from, "192.0.2.1")


@both_engines
class DatabaseAway(AuthenticatorCase):
    async def lose(self, *used: str) -> None:
        for key in used:
            await self.authenticator.authenticate_publish(key)
        await self.database.close()

    async def test_a_key_used_before_still_publishes(self) -> None:
        await self.lose(self.key.text)
        grant = await self.authenticator.authenticate_publish(self.key.text)
        self.assertEqual(grant.stream, self.stream)

    async def test_an_unknown_key_cannot_be_checked(self) -> None:
        await self.lose(self.key.text)
        await self.assertRefused("unavailable", self.safe.new())

    async def test_what_cannot_be_a_key_is_refused_as_ever(self) -> None:
        await self.lose()
        await self.assertRefused("unknown_key", "birds")

    async def test_a_key_that_was_revoked_before_does_not_come_back(self) -> None:
        await self.authenticator.authenticate_publish(self.key.text)
        await self.keys.revoke(self.stream.id, self.key.id)
        await self.assertRefused("unknown_key")
        await self.lose()
        await self.assertRefused("unavailable")

    async def test_a_key_expires_all_the_same(self) -> None:
        await self.keys.rotate(self.stream.id, 60)
        await self.lose(self.key.text)
        self.clock.advance(60)
        await self.assertRefused("unavailable")

    async def test_no_key_is_remembered_for_ever(self) -> None:
        await self.lose(self.key.text)
        self.clock.advance(KEY_LIFETIME + 1)
        await self.assertRefused("unavailable")

    async def test_the_settings_say_how_long(self) -> None:
        await self.lose(self.key.text)
        self.authenticator.lifetime = 60
        self.clock.advance(59)
        await self.authenticator.authenticate_publish(self.key.text)
        self.clock.advance(1)
        await self.assertRefused("unavailable")

    async def test_it_may_be_not_at_all(self) -> None:
        self.authenticator.lifetime = 0
        await self.lose(self.key.text)
        await self.assertRefused("unavailable")

    async def test_a_forgotten_stream_cannot_be_checked(self) -> None:
        await self.lose(self.key.text)
        self.authenticator.forget(self.stream.id)
        await self.assertRefused("unavailable")

    async def test_a_forgotten_owners_streams_cannot_be_checked(self) -> None:
        await self.lose(self.key.text)
        self.authenticator.forget_owner("somebody else")
        await self.authenticator.authenticate_publish(self.key.text)
        self.authenticator.forget_owner(self.owner.id)
        await self.assertRefused("unavailable")

    async def test_the_oldest_goes_when_too_many_are_remembered(self) -> None:
        others = [(await self.keys.create(self.stream.id)).text for _ in range(3)]
        await self.lose(self.key.text, *others)
        await self.assertRefused("unavailable")
        await self.authenticator.authenticate_publish(others[0])


@both_engines
class WithoutKeys(AuthenticatorCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.open = OpenAuthenticator(self.database, self.clock, lambda: self.authenticator.changes)

    async def test_any_text_names_a_stream(self) -> None:
        first = (await self.open.authenticate_publish("../Front Door")).stream
        again = (await self.open.authenticate_publish("../Front Door")).stream
        self.assertEqual((first.name, first.id), ("front-door", again.id))

    async def test_a_stream_that_exists_is_used(self) -> None:
        self.assertEqual((await self.open.authenticate_publish("birds")).stream, self.stream)

    async def test_a_stopped_one_is_refused(self) -> None:
        await self.streams.update(self.stream.id, StreamChange(accepts_publishing=False))
        answer = Deferred.fromCoroutine(self.open.authenticate_publish("birds"))
        await self.assertFailure(answer, PublishRefused)

    async def test_one_whose_owner_is_disabled_is_refused(self) -> None:
        await self.disable(self.owner)
        answer = Deferred.fromCoroutine(self.open.authenticate_publish("birds"))
        self.assertEqual((await self.assertFailure(answer, PublishRefused)).code, "account_disabled")

    async def test_one_that_is_stopped_while_it_is_looked_up_is_refused(self) -> None:
        find = self.open._streams.find

        async def find_slowly(name: str) -> Any:
            found = await find(name)
            if found is not None and found.accepts_publishing:
                await self.streams.update(self.stream.id, StreamChange(accepts_publishing=False))
                self.authenticator.forget(self.stream.id)
            return found

        self.patch(self.open._streams, "find", find_slowly)
        answer = Deferred.fromCoroutine(self.open.authenticate_publish("birds"))
        self.assertEqual((await self.assertFailure(answer, PublishRefused)).code, "stream_stopped")

    async def test_a_look_up_that_is_overtaken_without_end_is_given_up(self) -> None:
        find = self.open._streams.find

        async def find_slowly(name: str) -> Any:
            self.authenticator.forget("another stream")
            return await find(name)

        self.patch(self.open._streams, "find", find_slowly)
        answer = Deferred.fromCoroutine(self.open.authenticate_publish("birds"))
        self.assertEqual((await self.assertFailure(answer, PublishRefused)).code, "unavailable")

    async def test_without_the_database_nobody_knows_whose_name_it_is(self) -> None:
        await self.database.close()
        answer = Deferred.fromCoroutine(self.open.authenticate_publish("door"))
        self.assertEqual((await self.assertFailure(answer, PublishRefused)).code, "unavailable")

    async def test_one_whose_owner_may_not_publish_is_refused(self) -> None:
        await self.demote()
        answer = Deferred.fromCoroutine(self.open.authenticate_publish("birds"))
        self.assertEqual((await self.assertFailure(answer, PublishRefused)).code, "role_may_not")
