"""Unknown keys from one network, counted over all ways of publishing."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from oxidecast.accounts.admission import Admission
from oxidecast.accounts.errors import KNOWN_KEY
from oxidecast.accounts.failed_keys import FailedKeys
from oxidecast.interfaces import PublishRequest, Refused
from oxidecast.settings.sections import RateLimitSettings
from tests.streams.stage import Encoder, HubCase

GUESSES = 3


class FailedKeysTests(HubCase):
    """A hub whose authenticator knows `key-of-show`."""

    def setUp(self) -> None:
        super().setUp()
        self.time = Clock()
        settings = RateLimitSettings(failed_keys_burst=GUESSES, failed_keys_rate=0.1)
        self.hub.guard = FailedKeys(Admission(self.time, settings), remembered=2)

    def attempt(self, key: str, address: str = "192.0.2.1", protocol: str = "rtmp") -> str:
        """The refusal's code; empty when it publishes."""
        request = PublishRequest(protocol=protocol, address=address, key=key)
        asking = Deferred.fromCoroutine(self.hub.publish(request, Encoder(self)))
        asking.addCallbacks(lambda _: "", lambda failure: failure.value.code)
        return str(self.successResultOf(asking))

    def exhaust(self, **where: Any) -> None:
        for number in range(GUESSES):
            self.assertEqual(self.attempt(f"guess-{number}", **where), "bad_key")

    def test_after_so_many_unknown_keys_nobody_is_asked(self) -> None:
        self.exhaust()
        self.keys.error = AssertionError("asked")
        self.assertEqual(self.attempt("guess"), "too_many_failed_keys")
        self.assertEqual(self.registry.running[0].faults, 0)

    def test_over_all_ways_of_publishing(self) -> None:
        for protocol in ("rtmp", "whip", "srt"):
            self.assertEqual(self.attempt("guess", protocol=protocol), "bad_key")
        self.assertEqual(self.attempt("guess", protocol="whip"), "too_many_failed_keys")

    def test_the_sentence_says_when_to_try_again(self) -> None:
        self.exhaust()
        request = PublishRequest(protocol="rtmp", address="192.0.2.1", key="x")
        failure = self.failureResultOf(
            Deferred.fromCoroutine(self.hub.publish(request, Encoder(self))), Refused
        )
        self.assertEqual(
            failure.value.sentence,
            "Too many unknown stream keys came from your network: try again in 10 s.",
        )

    def test_later_it_may_guess_again(self) -> None:
        self.exhaust()
        self.time.advance(10)
        self.assertEqual(self.attempt("guess"), "bad_key")
        self.assertEqual(self.attempt("guess"), "too_many_failed_keys")

    def test_other_networks_do_not_wait(self) -> None:
        self.exhaust()
        self.assertEqual(self.attempt("key-of-show", "198.51.100.1"), "")

    def test_a_key_that_was_good_publishes_from_behind_the_same_address(self) -> None:
        self.assertEqual(self.attempt("key-of-show"), "")
        self.exhaust()
        self.assertEqual(self.attempt("key-of-show"), "")

    def test_a_good_key_that_is_new_here_waits(self) -> None:
        self.exhaust()
        self.assertEqual(self.attempt("key-of-show"), "too_many_failed_keys")
        self.time.advance(10)
        self.assertEqual(self.attempt("key-of-show"), "")

    def test_good_keys_cost_nothing(self) -> None:
        for _ in range(5 * GUESSES):
            self.assertEqual(self.attempt("key-of-show"), "")
            self.time.advance(60)

    def test_the_key_of_a_stopped_stream_is_no_guess(self) -> None:
        for code in sorted(KNOWN_KEY):
            self.keys.error = Refused(code, "Not now.")
            for _ in range(2 * GUESSES):
                self.assertEqual(self.attempt("key-of-show"), code)

    def test_a_database_that_is_away_is_nobodys_fault(self) -> None:
        self.keys.error = Refused("unavailable", "Try again later.")
        for number in range(2 * GUESSES):
            self.assertEqual(self.attempt(f"key-{number}"), "unavailable")

    def test_a_key_that_was_revoked_is_a_guess_from_then_on(self) -> None:
        self.assertEqual(self.attempt("key-of-show"), "")
        del self.keys.infos["key-of-show"]
        self.assertEqual(self.attempt("key-of-show"), "bad_key")
        for _ in range(GUESSES):
            self.assertEqual(self.attempt("key-of-show"), "bad_key")
        self.assertEqual(self.attempt("key-of-show"), "too_many_failed_keys")

    def test_many_at_once_are_as_many_guesses(self) -> None:
        self.keys.waiting = Deferred()
        outcomes: list[str] = []
        for number in range(10):
            request = PublishRequest(protocol="rtmp", address="192.0.2.1", key=f"guess-{number}")
            asking = Deferred.fromCoroutine(self.hub.publish(request, Encoder(self)))
            asking.addErrback(lambda failure: outcomes.append(failure.value.code))
        self.assertEqual(outcomes, ["too_many_failed_keys"] * (10 - GUESSES))
        self.keys.waiting.callback(None)

    def test_who_leaves_before_the_answer_has_guessed(self) -> None:
        self.keys.waiting = Deferred()
        for _ in range(GUESSES):
            request = PublishRequest(protocol="rtmp", address="192.0.2.1", key="guess")
            asking = Deferred.fromCoroutine(self.hub.publish(request, Encoder(self)))
            asking.addErrback(lambda failure: None)
            asking.cancel()
        self.assertEqual(self.attempt("guess"), "too_many_failed_keys")

    def test_only_so_many_keys_are_remembered_and_none_as_itself(self) -> None:
        guard: Any = self.hub.guard
        for number in range(5):
            guard.answered(PublishRequest(protocol="rtmp", address="192.0.2.1", key=f"key-{number}"), None)
        self.assertEqual(len(guard._good), 2)
        self.assertNotIn("key-4", repr(vars(guard)))
