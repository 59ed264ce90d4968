"""What the server's own authenticator answers, with its collaborators played by the test."""

from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from oxidecast.accounts.errors import InvalidToken, PublishRefused
from oxidecast.accounts.gate import AccountsGate
from oxidecast.accounts.signing import Keyring, secret_key
from oxidecast.accounts.tokens import Tokens
from oxidecast.database.errors import DatabaseUnavailable
from oxidecast.interfaces import IAuthenticator, PlayRequest, PublishRequest, Refused
from oxidecast.streams.info import Grant
from tests.streams.stage import info


class GateCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.tokens = Tokens(Keyring(secret_key(b"s" * 32)), self.clock, 3600)
        self.known: Any = Grant(info("show"), "key-id")
        self.bearer_error: Exception = InvalidToken()
        self.user: Any = None
        self.giver: Any = None

    key = ""
    """A text that has the shape of a key."""

    def gate(self, open_for: frozenset[str] = frozenset()) -> AccountsGate:
        async def known(key: str, address: str) -> Grant:
            if isinstance(self.known, Exception):
                raise self.known
            return self.known

        async def anybody(key: str, address: str) -> Grant:
            return Grant(info(key), None)

        async def bearer(token: str) -> Any:
            if self.user is None:
                raise self.bearer_error
            return self.user

        async def giver(claims: Any) -> Any:
            if isinstance(self.giver, Exception):
                raise self.giver
            return self.giver

        return AccountsGate(
            SimpleNamespace(authenticate_publish=known, is_key=lambda key: key == self.key),  # type: ignore[arg-type]
            SimpleNamespace(authenticate_publish=anybody),  # type: ignore[arg-type]
            SimpleNamespace(bearer=bearer, giver=giver),  # type: ignore[arg-type]
            self.tokens,
            open_for,
        )

    def result(self, answer: Any) -> Any:
        results: list[Any] = []
        Deferred.fromCoroutine(answer).addErrback(
            lambda failure: failure.trap(Refused) and failure.value.code
        ).addBoth(results.append)
        return results[0]

    def publish(self, open_for: frozenset[str] = frozenset()) -> Any:
        request = PublishRequest(protocol="rtmp", address="192.0.2.1", key="any")
        answer = self.result(self.gate(open_for).may_publish(request))
        return answer.stream.name if isinstance(answer, Grant) else answer

    def play(self, token: str, private: bool = True) -> Any:
        request = PlayRequest(protocol="hls", address="192.0.2.1", token=token)
        return self.result(self.gate().may_play(info("show", is_private=private), request))


class TestPublish(GateCase):
    def test_it_is_an_authenticator(self) -> None:
        verifyObject(IAuthenticator, self.gate())

    def test_a_key_opens_its_stream(self) -> None:
        self.assertEqual(self.publish(), "show")

    def test_an_unknown_key_is_for_the_next_one_to_know(self) -> None:
        self.known = PublishRefused("unknown_key")
        self.assertIsNone(self.publish())

    def test_what_is_known_and_not_allowed_is_refused(self) -> None:
        for code in ("stream_stopped", "account_disabled", "unavailable"):
            self.known = PublishRefused(code)
            self.assertEqual(self.publish(), code)

    def test_where_anybody_publishes_only_a_known_no_counts(self) -> None:
        for code, answer in (
            ("unknown_key", "any"),
            ("unavailable", "any"),
            ("stream_stopped", "stream_stopped"),
        ):
            self.known = PublishRefused(code)
            self.assertEqual(self.publish(frozenset({"rtmp"})), answer)

    def test_a_key_is_no_name_whatever_it_is_worth(self) -> None:
        self.key = "any"
        for code in ("unknown_key", "unavailable"):
            self.known = PublishRefused(code)
            self.assertEqual(self.publish(frozenset({"rtmp"})), code)

    def test_open_is_open_for_the_named_ingest_alone(self) -> None:
        self.known = PublishRefused("unknown_key")
        self.assertIsNone(self.publish(frozenset({"whip"})))


class TestPlay(GateCase):
    def test_public_streams_and_no_token_are_no_opinion(self) -> None:
        self.assertIsNone(self.play("anything", private=False))
        self.assertIsNone(self.play(""))

    def test_a_playback_token_of_this_stream(self) -> None:
        self.assertTrue(self.play(self.tokens.playback(info("show").id)))
        self.assertEqual(self.play(self.tokens.playback(info("other").id)), "token_invalid")

    def test_one_that_is_for_another_address(self) -> None:
        self.assertTrue(self.play(self.tokens.playback(info("show").id, "192.0.2.1")))
        self.assertEqual(self.play(self.tokens.playback(info("show").id, "192.0.2.2")), "token_invalid")

    def test_one_that_has_ended_with_its_givers_others(self) -> None:
        self.giver = InvalidToken()
        self.assertEqual(self.play(self.tokens.playback(info("show").id)), "token_invalid")

    def test_one_opens_while_nobody_can_say_whether_its_giver_still_may(self) -> None:
        self.giver = DatabaseUnavailable("away")
        self.assertIs(self.play(self.tokens.playback(info("show").id)), True)

    def test_an_expired_one_is_said_to_be(self) -> None:
        token = self.tokens.playback(info("show").id)
        self.clock.advance(301)
        self.assertEqual(self.play(token), "token_expired")

    def test_an_access_token_of_who_may_manage_it(self) -> None:
        self.user = SimpleNamespace(id="owner", role="viewer", disabled=False)
        self.assertTrue(self.play("access"))
        self.user.id = "somebody"
        self.assertIsNone(self.play("access"))

    def test_a_database_that_is_away_opens_nothing_and_says_so(self) -> None:
        self.bearer_error = DatabaseUnavailable("away")
        self.assertEqual(self.play("access"), "unavailable")
