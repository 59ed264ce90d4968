"""Logging in and staying logged in."""

from collections.abc import Coroutine
from typing import Any

from argon2 import PasswordHasher
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList

from oxidecast.accounts import (
    AccountError,
    Accounts,
    BadCredentials,
    InvalidAccount,
    InvalidToken,
    Keyring,
    LoginThrottle,
    Overloaded,
    Passwords,
    Tokens,
    TooManyAttempts,
    secret_key,
)
from oxidecast.accounts.accounts import PATIENCE, Login
from oxidecast.accounts.passwords import MAXIMUM_OF_SITE
from oxidecast.accounts.tokens import PlaybackClaims
from oxidecast.database import Conflict, DatabaseUnavailable
from oxidecast.database.records import new_id
from tests.accounts.support import PASSWORD, SECRET, AccountsCase
from tests.database.support import START, both_engines

HOME = "192.0.2.1"


class AccountsTest(AccountsCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.accounts = self.made(self.passwords)
        self.ada = await self.accounts.create("ada", PASSWORD, "streamer")

    def made(self, passwords: Passwords) -> Accounts:
        return Accounts(
            self.database,
            self.clock,
            passwords,
            Tokens(Keyring(secret_key(SECRET)), self.clock, 3600.0),
            LoginThrottle(self.clock, 3, 10.0),
            86_400.0,
        )

    async def login(self) -> Login:
        return await self.accounts.login("ada", PASSWORD, HOME)

    async def refused(self, call: Coroutine[Any, Any, Any], kind: type[Exception]) -> Any:
        return await self.assertFailure(Deferred.fromCoroutine(call), kind)


@both_engines
class LoggingIn(AccountsTest):
    async def test_it_gives_tokens_and_the_user(self) -> None:
        login = await self.login()
        self.assertEqual((login.user, login.expires_in), (self.ada, 3600))
        self.assertEqual((await self.accounts.bearer(login.access_token)).username, "ada")

    async def test_it_is_dated(self) -> None:
        await self.login()
        user = await self.accounts.users.by_id(self.ada.id)
        assert user is not None
        self.assertEqual(user.last_login_at, START)

    async def test_the_name_is_read_in_any_case(self) -> None:
        await self.accounts.login("ADA", PASSWORD, HOME)

    async def test_all_failures_look_the_same(self) -> None:
        await self.accounts.create("bob", PASSWORD)
        await self.accounts.set_disabled((await self.accounts.login("bob", PASSWORD, HOME)).user.id, True)
        answers = set()
        for username, password in (("ada", "wrong"), ("eve", PASSWORD), ("bob", PASSWORD), ("\0'", "\ud800")):
            error = await self.refused(self.accounts.login(username, password, HOME), BadCredentials)
            answers.add((str(error), error.code))
        self.assertEqual(len(answers), 1)

    async def test_too_many_failures_wait(self) -> None:
        for _ in range(3):
            await self.refused(self.accounts.login("ada", "wrong", HOME), BadCredentials)
        error = await self.refused(self.login(), TooManyAttempts)
        self.assertEqual(error.retry_after, 10)
        await self.accounts.login("ada", PASSWORD, "192.0.2.2")

    async def test_many_logins_that_succeed_do_not_wait(self) -> None:
        for _ in range(8):
            await self.login()

    async def test_a_hash_with_old_costs_is_renewed(self) -> None:
        stronger = Passwords(reactor, self.threads, PasswordHasher(2, 64, 1))
        await self.made(stronger).login("ada", PASSWORD, HOME)
        user = await self.accounts.users.by_id(self.ada.id)
        assert user is not None
        self.assertFalse(stronger.is_outdated(user.password_hash))

    async def overtaken(self, change: Coroutine[Any, Any, Any]) -> None:
        """A login whose account changes after its password was verified."""
        verify = self.passwords.verify

        async def slow(password: str, hashed: str | None, address: str | None) -> bool:
            right = await verify(password, hashed, address)
            await change
            return right

        patched = self.patch(self.passwords, "verify", slow)
        await self.refused(self.login(), BadCredentials)
        patched.restore()
        rows = await self.database.query("SELECT count(*) AS n FROM refresh_tokens")
        self.assertEqual(rows[0]["n"], 0)

    async def test_one_that_is_overtaken_by_a_new_password_is_none(self) -> None:
        await self.overtaken(self.accounts.set_password(self.ada.id, "another password"))
        await self.accounts.login("ada", "another password", HOME)

    async def test_one_that_is_overtaken_by_being_disabled_is_none(self) -> None:
        await self.overtaken(self.accounts.set_disabled(self.ada.id, True))

    async def test_renewing_a_hash_brings_no_old_password_back(self) -> None:
        stronger = Passwords(reactor, self.threads, PasswordHasher(2, 64, 1))
        hash_ = stronger.hash

        async def slow(password: str) -> str:
            await self.accounts.set_password(self.ada.id, "another password")
            return await hash_(password)

        self.patch(stronger, "hash", slow)
        await self.refused(self.made(stronger).login("ada", PASSWORD, HOME), BadCredentials)
        await self.accounts.login("ada", "another password", HOME)

    async def test_what_tried_no_password_counts_as_no_try(self) -> None:
        verify = self.passwords.verify

        async def overloaded(*_: Any) -> bool:
            raise Overloaded

        self.patch(self.passwords, "verify", overloaded)
        for _ in range(20):
            await self.refused(self.login(), Overloaded)
        self.patch(self.passwords, "verify", verify)
        await self.login()

    async def test_one_network_that_fills_the_queue_keeps_no_other_out(self) -> None:
        for number in range(10):
            await self.accounts.create(f"user{number}", PASSWORD)
        calls = [self.accounts.login(f"user{number}", PASSWORD, HOME) for number in range(10)]
        there = [Deferred.fromCoroutine(call) for call in calls]
        await self.accounts.login("ada", PASSWORD, "192.0.2.2")
        await self.accounts.create("made-meanwhile", PASSWORD)
        answers = await DeferredList(there, consumeErrors=True)
        refused = [failure for right, failure in answers if not right]
        for failure in refused:
            failure.trap(TooManyAttempts)
        self.assertGreaterEqual(len(answers) - len(refused), MAXIMUM_OF_SITE)

    async def test_where_a_login_goes_on_its_owner_is_known(self) -> None:
        """A server that was started again knows nobody; browsers still have their tokens."""
        login = await self.login()
        self.accounts.throttle = throttle = LoginThrottle(self.clock, 3, 10.0)
        for number in range(60):
            throttle.attempt(f"198.51.100.{number}", "ada")
        await self.accounts.refresh(login.refresh_token, HOME)
        await self.login()
        await self.refused(self.accounts.login("ada", PASSWORD, "203.0.113.1"), TooManyAttempts)

    async def test_a_login_is_not_shown(self) -> None:
        login = await self.login()
        self.assertNotIn(login.refresh_token, repr(login))
        self.assertNotIn(login.access_token, repr(login))

    async def test_without_a_database_it_says_so(self) -> None:
        await self.database.close()
        await self.refused(self.login(), DatabaseUnavailable)


@both_engines
class Refreshing(AccountsTest):
    async def test_it_gives_new_tokens(self) -> None:
        first = await self.login()
        second = await self.accounts.refresh(first.refresh_token)
        self.assertNotEqual(first.refresh_token, second.refresh_token)
        self.assertEqual((await self.accounts.bearer(second.access_token)).id, self.ada.id)
        await self.accounts.refresh(second.refresh_token)

    async def test_a_used_token_ends_its_login(self) -> None:
        first = await self.login()
        second = await self.accounts.refresh(first.refresh_token)
        await self.refused(self.accounts.refresh(first.refresh_token), InvalidToken)
        await self.refused(self.accounts.refresh(second.refresh_token), InvalidToken)

    async def test_other_logins_of_the_user_stay(self) -> None:
        other, first = await self.login(), await self.login()
        await self.accounts.refresh(first.refresh_token)
        await self.refused(self.accounts.refresh(first.refresh_token), InvalidToken)
        await self.accounts.refresh(other.refresh_token)

    async def test_of_two_at_the_same_moment_one_wins_and_the_login_ends(self) -> None:
        first = await self.login()
        answers = await DeferredList(
            [Deferred.fromCoroutine(self.accounts.refresh(first.refresh_token)) for _ in range(2)],
            consumeErrors=True,
        )
        won = [answer for good, answer in answers if good]
        lost = [answer for good, answer in answers if not good]
        self.assertEqual((len(won), len(lost)), (1, 1))
        lost[0].trap(InvalidToken)  # type: ignore[union-attr]
        # Which of them was the thief cannot be known (RFC 9700, 4.14.2).
        await self.refused(self.accounts.refresh(won[0].refresh_token), InvalidToken)

    async def test_a_lost_answer_that_is_asked_for_again_ends_the_login(self) -> None:
        first = await self.login()
        lost = await self.accounts.refresh(first.refresh_token)
        await self.refused(self.accounts.refresh(first.refresh_token), InvalidToken)
        await self.refused(self.accounts.refresh(lost.refresh_token), InvalidToken)
        self.assertEqual((await self.login()).user.id, self.ada.id)

    async def test_one_that_is_overtaken_by_a_new_password_gives_nothing(self) -> None:
        first = await self.login()
        by_id = self.accounts.users.by_id

        async def late(user_id: str) -> Any:
            await self.accounts.set_password(self.ada.id, "another password")
            return await by_id(user_id)

        self.patch(self.accounts.users, "by_id", late)
        await self.refused(self.accounts.refresh(first.refresh_token), InvalidToken)

    async def test_an_old_token_has_expired(self) -> None:
        login = await self.login()
        self.clock.advance(86_400)
        error = await self.refused(self.accounts.refresh(login.refresh_token), InvalidToken)
        self.assertEqual(error.code, "token_expired")

    async def test_using_it_lengthens_a_login(self) -> None:
        login = await self.login()
        for _ in range(3):
            self.clock.advance(80_000)
            login = await self.accounts.refresh(login.refresh_token)

    async def test_an_access_token_is_no_refresh_token(self) -> None:
        login = await self.login()
        await self.refused(self.accounts.refresh(login.access_token), InvalidToken)
        await self.refused(self.accounts.bearer(login.refresh_token), InvalidToken)

    async def test_anything_else_is_refused(self) -> None:
        for token in ("", "x", "x" * 100_000, "\ud800", "\0"):
            await self.refused(self.accounts.refresh(token), InvalidToken)

    async def test_logout_ends_it_and_may_be_repeated(self) -> None:
        login = await self.login()
        for _ in range(2):
            await self.accounts.logout(login.refresh_token)
        await self.accounts.logout("unknown")
        await self.refused(self.accounts.refresh(login.refresh_token), InvalidToken)

    async def test_expired_tokens_do_not_pile_up(self) -> None:
        for _ in range(5):
            await self.login()
            self.clock.advance(86_400)
        await self.login()
        rows = await self.database.query("SELECT count(*) AS n FROM refresh_tokens")
        self.assertEqual(rows[0]["n"], 1)

    async def test_no_token_is_in_the_database(self) -> None:
        login = await self.login()
        rows = await self.database.query("SELECT * FROM refresh_tokens")
        self.assertNotIn(login.refresh_token, str(rows))


@both_engines
class Changing(AccountsTest):
    async def test_a_new_password_ends_all_logins(self) -> None:
        login = await self.login()
        self.assertTrue(await self.accounts.set_password(self.ada.id, "another password"))
        await self.refused(self.accounts.refresh(login.refresh_token), InvalidToken)
        await self.refused(self.login(), BadCredentials)
        await self.accounts.login("ada", "another password", HOME)

    async def test_a_new_password_ends_the_access_tokens_of_before(self) -> None:
        login = await self.login()
        self.clock.advance(1)
        await self.accounts.set_password(self.ada.id, "another password")
        error = await self.refused(self.accounts.bearer(login.access_token), InvalidToken)
        self.assertEqual(error.code, "token_invalid")

    async def test_at_one_moment_a_token_from_before_ends_and_one_from_after_is_good(self) -> None:
        before = await self.login()
        await self.accounts.set_password(self.ada.id, "another password")
        after = await self.accounts.login("ada", "another password", HOME)
        await self.refused(self.accounts.bearer(before.access_token), InvalidToken)
        self.assertEqual((await self.accounts.bearer(after.access_token)).id, self.ada.id)

    async def test_a_clock_that_goes_back_brings_no_token_back(self) -> None:
        self.clock.advance(60)
        before = await self.login()
        self.clock.rightNow -= 30
        await self.accounts.set_password(self.ada.id, "another password")
        await self.refused(self.accounts.bearer(before.access_token), InvalidToken)
        self.clock.rightNow -= 30
        after = await self.accounts.login("ada", "another password", HOME)
        self.assertEqual((await self.accounts.bearer(after.access_token)).id, self.ada.id)

    async def test_what_ends_no_login(self) -> None:
        login = await self.login()
        await self.accounts.change(self.ada.id, role="viewer", email="ada@example.com", disabled=False)
        self.assertEqual((await self.accounts.bearer(login.access_token)).role, "viewer")
        await self.accounts.refresh(login.refresh_token)

    async def test_a_tokens_account_that_was_disabled_and_enabled_logs_in_anew(self) -> None:
        login = await self.login()
        await self.accounts.set_disabled(self.ada.id, True)
        await self.accounts.set_disabled(self.ada.id, False)
        await self.refused(self.accounts.bearer(login.access_token), InvalidToken)
        await self.refused(self.accounts.refresh(login.refresh_token), InvalidToken)

    async def test_a_new_password_ends_nobody_elses_tokens(self) -> None:
        await self.accounts.create("bob", PASSWORD)
        bob = await self.accounts.login("bob", PASSWORD, HOME)
        self.clock.advance(1)
        await self.accounts.set_password(self.ada.id, "another password")
        self.assertEqual((await self.accounts.bearer(bob.access_token)).username, "bob")

    async def test_a_disabled_account_is_out_at_once(self) -> None:
        login = await self.login()
        await self.accounts.set_disabled(self.ada.id, True)
        await self.refused(self.accounts.bearer(login.access_token), InvalidToken)
        await self.refused(self.accounts.refresh(login.refresh_token), InvalidToken)

    async def test_an_enabled_one_logs_in_again(self) -> None:
        await self.accounts.set_disabled(self.ada.id, True)
        await self.accounts.set_disabled(self.ada.id, False)
        await self.login()

    async def test_an_unknown_account_is_said_so(self) -> None:
        self.assertFalse(await self.accounts.set_password("x", PASSWORD))
        self.assertFalse(await self.accounts.set_disabled("x", True))

    async def test_a_taken_name_is_a_conflict(self) -> None:
        await self.refused(self.accounts.create("Ada", PASSWORD), Conflict)

    async def test_fields_have_rules(self) -> None:
        for username, password, email, field in (
            ("ab", PASSWORD, None, "username"),
            ("a" * 51, PASSWORD, None, "username"),
            ("a b c", PASSWORD, None, "username"),
            ("adà", PASSWORD, None, "username"),
            ("bob", "1234567", None, "password"),
            ("bob", PASSWORD, "bob", "email"),
        ):
            error = await self.refused(self.accounts.create(username, password, email=email), InvalidAccount)
            self.assertEqual(error.field, field)
            self.assertIsInstance(error, AccountError)


@both_engines
class GivingAway(AccountsTest):
    """A playback token ends with the other tokens of who gave it away."""

    def claims(self, by: tuple[str, int] | None) -> PlaybackClaims:
        tokens = Tokens(Keyring(secret_key(SECRET)), self.clock, 3600.0)
        return tokens.verify_playback(tokens.playback("s1", by=by), "s1", HOME)

    async def test_one_that_nobody_gave_stands_by_itself(self) -> None:
        self.assertIsNone(await self.accounts.giver(self.claims(None)))

    async def test_it_stands_while_the_account_does(self) -> None:
        claims = self.claims((self.ada.id, self.ada.token_generation))
        self.assertEqual(await self.accounts.giver(claims), self.ada)
        await self.accounts.set_password(self.ada.id, PASSWORD)
        await self.refused(self.accounts.giver(claims), InvalidToken)

    async def test_of_an_account_that_is_disabled_or_unknown_it_does_not(self) -> None:
        await self.accounts.set_disabled(self.ada.id, True)
        for user_id in (self.ada.id, new_id(), "x"):
            for generation in (self.ada.token_generation, self.ada.token_generation + 1):
                await self.refused(self.accounts.giver(self.claims((user_id, generation))), InvalidToken)

    async def test_a_database_that_hangs_is_not_waited_for(self) -> None:
        self.patch(self.database, "query", lambda *args: Deferred())
        asked = self.refused(self.accounts.giver(self.claims((self.ada.id, 0))), DatabaseUnavailable)
        waiting = Deferred.fromCoroutine(asked)
        self.clock.advance(PATIENCE)
        await waiting
