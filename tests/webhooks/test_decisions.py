"""What answers mean, and what happens when there is none."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from oxidecast.interfaces import PlayRequest, Refused
from oxidecast.webhooks import decisions
from oxidecast.webhooks.client import Answer, Undelivered
from oxidecast.webhooks.decisions import (
    AT_ONCE,
    LONGEST_SENTENCE,
    MOST_WAITING,
    REMEMBERED_FOR,
    Decider,
    PlayDecider,
    Verdict,
)
from oxidecast.webhooks.settings import DeciderSettings
from tests.streams.stage import info
from tests.webhooks.receiver import SECRET, Scripted

NO = "This is not allowed here."


def reply(status: int = 200, body: Any = None, whole: bool = True) -> Answer:
    raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    return Answer(status, Headers(), raw, whole)


class DecisionCase(SynchronousTestCase):
    on_failure = "deny"

    def setUp(self) -> None:
        self.clock = Clock()
        self.poster = Scripted()
        settings = DeciderSettings(url="https://example.com/", secret=SECRET, on_failure=self.on_failure)  # type: ignore[arg-type]
        self.addCleanup(self.poster.close)
        self.decider = Decider("on_publish", settings, self.poster, self.clock)  # type: ignore[arg-type]

    def ask(self) -> Deferred[str]:
        """A verdict in words."""
        asked = Deferred.fromCoroutine(self.decider.ask("publish.requested", {}, "the-key"))
        return asked.addCallbacks(_verdict, _refused)

    def answered(self, answer: Answer) -> str:
        asked = self.ask()
        self.poster.waiting.pop(0).callback(answer)
        return self.successResultOf(asked)

    def unanswered(self) -> str:
        asked = self.ask()
        self.poster.waiting.pop(0).errback(Undelivered("it is away"))
        return self.successResultOf(asked)


def _verdict(verdict: Verdict) -> str:
    words = [word for word, is_so in (("yes", verdict.allowed), ("failed", verdict.failed)) if is_so]
    return " ".join([*words, verdict.stream]).strip() or "no objection"


def _refused(failure: Any) -> str:
    failure.trap(Refused)
    return f"{failure.value.code}: {failure.value.sentence}"


class Answers(DecisionCase):
    def test_a_success_holds_nothing_against_it(self) -> None:
        for answer in (reply(), reply(204), reply(200, {}), reply(200, {"more": 1}), reply(200, b"  ")):
            self.assertEqual(self.answered(answer), "no objection")

    def test_yes_is_said_in_so_many_words(self) -> None:
        self.assertEqual(self.answered(reply(200, {"allow": True})), "yes")

    def test_a_stream_may_be_named(self) -> None:
        self.assertEqual(self.answered(reply(200, {"stream": "show"})), "show")

    def test_no(self) -> None:
        for answer in (reply(401), reply(403), reply(403, b"<html>"), reply(200, {"allow": False})):
            self.assertEqual(self.answered(answer), f"refused: {NO}")

    def test_a_reason_is_shown(self) -> None:
        for status, body in (
            (403, {"reason": "Pay first."}),
            (200, {"allow": False, "reason": "Pay first."}),
        ):
            self.assertEqual(self.answered(reply(status, body)), "refused: Pay first.")

    def test_a_reason_is_one_short_line_without_the_secret(self) -> None:
        self.assertEqual(
            self.answered(reply(403, {"reason": "a\r\nb\x00c\x1b[1m \u202e d"})), "refused: a b c [1m d"
        )
        self.assertEqual(
            self.answered(reply(403, {"reason": "x" * 5000})), f"refused: {'x' * LONGEST_SENTENCE}"
        )
        self.assertEqual(self.answered(reply(403, {"reason": "the-key is wrong"})), f"refused: {NO}")

    def test_what_makes_no_sense_is_a_failure(self) -> None:
        for answer in (
            reply(200, b"OK"),
            reply(200, b"<html>"),
            reply(200, {"allow": "yes"}),
            reply(200, {"stream": 7}),
            reply(200, [1]),
            reply(200, b"[" * 10_000),
            reply(200, {}, whole=False),
            reply(302),
            reply(404),
            reply(429),
            reply(500),
        ):
            self.assertTrue(self.answered(answer).startswith("unavailable: "), answer)

    @given(st.integers(100, 599), st.binary(max_size=100), st.booleans())
    def test_anything_means_something(self, status: int, body: bytes, whole: bool) -> None:
        try:
            decisions._read(Answer(status, Headers(), body, whole), "key")
        except (Refused, Undelivered):
            pass

    @given(st.text(max_size=400), st.text(max_size=3))
    def test_any_reason_can_be_shown(self, reason: str, secret: str) -> None:
        try:
            decisions._read(Answer(403, Headers(), json.dumps({"reason": reason}).encode(), True), secret)
        except Refused as refused:
            shown = refused.sentence
            self.assertTrue(shown.isprintable() and 0 < len(shown) <= LONGEST_SENTENCE)
            self.assertTrue(not secret or secret not in shown or shown == NO)


class Failing(DecisionCase):
    def test_denying(self) -> None:
        self.assertTrue(self.unanswered().startswith("unavailable: "))
        self.assertEqual(self.decider.counts, {"failed": 1})

    def test_its_turn_is_waited_for_no_longer_than_for_an_answer(self) -> None:
        asked = [self.ask() for _ in range(AT_ONCE + 1)]
        self.assertEqual(len(self.poster.waiting), AT_ONCE)
        self.clock.advance(5)
        self.assertTrue(self.successResultOf(asked[-1]).startswith("unavailable: "))

    def test_a_turn_comes_when_another_is_over(self) -> None:
        asked = [self.ask() for _ in range(AT_ONCE + 1)]
        self.poster.waiting.pop(0).callback(reply())
        self.assertEqual(len(self.poster.waiting), AT_ONCE)
        self.poster.waiting[-1].callback(reply(200, {"stream": "last"}))
        self.assertEqual(self.successResultOf(asked[-1]), "last")

    def test_those_who_wait_are_bounded(self) -> None:
        for _ in range(AT_ONCE + MOST_WAITING):
            self.ask()
        self.assertTrue(self.successResultOf(self.ask()).startswith("unavailable: "))

    def test_who_goes_away_gives_its_place_free(self) -> None:
        asked = [self.ask() for _ in range(AT_ONCE)]
        for one in asked:
            one.addErrback(lambda failure: None)
            one.cancel()
        self.poster.waiting.clear()
        self.assertEqual(self.answered(reply()), "no objection")


class Allowing(DecisionCase):
    on_failure = "allow"

    def test_a_failure_holds_nothing_against_it(self) -> None:
        self.assertEqual(self.unanswered(), "failed")

    def test_no_is_still_no(self) -> None:
        self.assertEqual(self.answered(reply(403)), f"refused: {NO}")


class Playing(DecisionCase):
    def setUp(self) -> None:
        super().setUp()
        self.players = PlayDecider(self.decider, self.clock, send_token=False)

    def play(self, address: str = "192.0.2.1", token: str = "", stream: str = "show") -> Deferred[str]:
        request = PlayRequest(protocol="hls", address=address, token=token)
        return Deferred.fromCoroutine(self.players.ask(info(stream), request)).addCallbacks(
            _verdict, _refused
        )

    def test_one_question_is_asked_once_in_a_while(self) -> None:
        for answer, words in ((reply(200, {"allow": True}), "yes"), (reply(403), f"refused: {NO}")):
            first = self.play()
            self.poster.waiting.pop(0).callback(answer)
            self.assertEqual(self.successResultOf(first), words)
            self.assertEqual(self.successResultOf(self.play()), words)
            self.assertEqual(self.poster.waiting, [])
            self.clock.advance(REMEMBERED_FOR)

    def test_those_who_ask_meanwhile_get_the_same_answer(self) -> None:
        asked = [self.play() for _ in range(3)]
        self.assertEqual(len(self.poster.waiting), 1)
        asked[0].addErrback(lambda failure: None)
        asked[0].cancel()
        self.poster.waiting.pop(0).callback(reply(200, {"allow": True}))
        self.assertEqual([self.successResultOf(one) for one in asked[1:]], ["yes", "yes"])

    def test_other_viewers_streams_and_tokens_are_other_questions(self) -> None:
        self.play()
        self.play(address="192.0.2.2")
        self.play(stream="other")
        self.play(token="t")
        self.assertEqual(len(self.poster.waiting), 4)

    def test_a_failure_is_not_remembered(self) -> None:
        first = self.play()
        self.poster.waiting.pop(0).callback(reply(500))
        self.assertTrue(self.successResultOf(first).startswith("unavailable: "))
        self.play()
        self.assertEqual(len(self.poster.waiting), 1)

    def test_what_is_remembered_is_bounded(self) -> None:
        self.patch(decisions, "MOST_REMEMBERED", 3)
        for number in range(5):
            self.play(address=f"192.0.2.{number}")
            self.poster.waiting.pop(0).callback(reply())
        self.assertEqual(len(self.players._known), 3)

    def test_a_token_is_sent_only_where_that_is_chosen(self) -> None:
        self.play(token="a-token")
        self.players = PlayDecider(self.decider, self.clock, send_token=True)
        self.play(token="a-token")
        sent = [json.loads(body)["data"] for _, body in self.poster.posts]
        self.assertEqual([data.get("token") for data in sent], [None, "a-token"])
        self.assertNotIn(b"a-token", self.poster.posts[0][1])
