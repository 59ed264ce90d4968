"""The way of events to an endpoint, on a clock."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from oxidecast.webhooks.client import Answer, Undelivered
from oxidecast.webhooks.courier import (
    FLUSH,
    LONGEST_AGE,
    LONGEST_PAUSE,
    LONGEST_RETRY_AFTER,
    MOST_TRIES,
    QUEUE,
    Courier,
    retry_after,
)
from oxidecast.webhooks.events import event
from tests.webhooks.receiver import Scripted

START = 1_800_000_000.0


def answer(status: int, **headers: str) -> Answer:
    found = Headers({name.replace("_", "-"): [value] for name, value in headers.items()})
    return Answer(status, found, b"", True)


class CourierCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(START)
        self.poster = Scripted()
        self.addCleanup(self.poster.close)
        self.courier = Courier("site", self.poster, b"key", self.clock, lambda low, high: high)  # type: ignore[arg-type]
        self.said: list[str] = []

        def observe(entry: Any) -> None:
            if "name" in entry and entry.get("log_namespace", "").endswith("Courier"):
                self.said.append(f"{entry['log_level'].name}: {entry['log_format'].format(**entry)}")

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)

    def send(self, *names: str) -> None:
        for name in names:
            self.courier.send(event(name, self.clock.seconds(), {}))

    def reply(self, status: int, **headers: str) -> None:
        self.poster.waiting.pop(0).callback(answer(status, **headers))

    def fail(self, reason: str = "it is away") -> None:
        self.poster.waiting.pop(0).errback(Undelivered(reason))

    @property
    def names(self) -> list[str]:
        """What was posted, in order."""
        return [str(body).partition('"type":"')[2].partition('"')[0] for _, body in self.poster.posts]


class Delivery(CourierCase):
    def test_one_after_another_in_order(self) -> None:
        self.send("a", "b", "c")
        self.assertEqual(self.names, ["a"])
        self.reply(200)
        self.reply(204)
        self.reply(202)
        self.assertEqual(self.names, ["a", "b", "c"])
        self.assertEqual((self.courier.counts["delivered"], len(self.courier.queue)), (3, 0))

    def test_after_a_rest_it_goes_on(self) -> None:
        self.send("a")
        self.reply(200)
        self.send("b")
        self.reply(200)
        self.assertEqual(self.names, ["a", "b"])

    def test_what_fails_is_tried_again_with_growing_pauses(self) -> None:
        self.send("a")
        for pause in (1, 2, 4, 8, 16, 32, 60, 60):
            self.fail()
            self.clock.advance(pause - 0.1)
            self.assertEqual(self.poster.waiting, [], pause)
            self.clock.advance(0.1)
            self.assertEqual(len(self.poster.waiting), 1, pause)
        self.reply(200)
        self.assertEqual((self.courier.counts["failed"], self.courier.counts["delivered"]), (8, 1))

    def test_a_try_is_the_same_event_signed_anew(self) -> None:
        self.send("a")
        self.reply(503)
        self.clock.advance(LONGEST_PAUSE)
        (first, body), (second, again) = self.poster.posts
        self.assertEqual((first["webhook-id"], body), (second["webhook-id"], again))
        self.assertEqual(int(second["webhook-timestamp"]) - int(first["webhook-timestamp"]), LONGEST_PAUSE)
        self.assertNotEqual(first["webhook-signature"], second["webhook-signature"])

    def test_those_behind_wait_and_keep_their_order(self) -> None:
        self.send("a", "b")
        self.reply(500)
        self.clock.advance(1)
        self.reply(200)
        self.reply(200)
        self.assertEqual(self.names, ["a", "a", "b"])

    def test_pauses_are_the_endpoint_s_and_end_with_a_success(self) -> None:
        self.send("a")
        for pause in (1, 2, 4):
            self.fail()
            self.clock.advance(pause)
        self.reply(200)
        self.send("b")
        self.fail()
        self.clock.advance(1)
        self.assertEqual(self.names[-2:], ["b", "b"])

    def test_an_answer_that_trying_again_does_not_change(self) -> None:
        for status in (301, 307, 400, 401, 404, 410):
            self.send("a")
            self.reply(status)
            self.assertEqual(self.poster.waiting, [])
        self.assertEqual((self.courier.counts["refused"], len(self.courier.queue)), (6, 0))

    def test_who_asks_to_be_left_alone_is(self) -> None:
        self.send("a")
        self.reply(429, retry_after="30")
        self.clock.advance(29.9)
        self.assertEqual(self.poster.waiting, [])
        self.clock.advance(0.1)
        self.assertEqual(len(self.poster.waiting), 1)


class Bounds(CourierCase):
    def test_an_event_that_makes_its_receiver_fail_keeps_the_others_so_long(self) -> None:
        self.send("a", "b")
        for _ in range(MOST_TRIES):
            self.reply(500)
            self.clock.advance(LONGEST_PAUSE)
        self.assertEqual(self.names.count("a"), MOST_TRIES)
        self.assertEqual((self.names[-1], self.courier.counts["given_up"]), ("b", 1))

    def test_what_is_old_is_given_up(self) -> None:
        self.send("a", "b")
        while self.clock.seconds() <= START + LONGEST_AGE:
            self.fail()
            self.clock.advance(LONGEST_PAUSE)
        self.assertEqual((len(self.courier.queue), self.courier.counts["given_up"]), (0, 2))
        self.assertNotIn("b", self.names)

    def test_of_too_many_the_oldest_that_wait_are_dropped(self) -> None:
        self.send("first", *(f"n{number}" for number in range(QUEUE + 5)))
        self.assertEqual((len(self.courier.queue), self.courier.counts["dropped"]), (QUEUE, 6))
        self.assertEqual([one.type for one in list(self.courier.queue)[:2]], ["first", "n6"])

    def test_an_outage_is_said_once_and_its_end(self) -> None:
        self.send("a", "b")
        for _ in range(5):
            self.fail()
            self.clock.advance(LONGEST_PAUSE)
        self.reply(200)
        self.reply(200)
        self.assertEqual(
            self.said,
            [
                "warn: webhook site: events are not delivered: it is away",
                "info: webhook site: events are delivered again",
            ],
        )


class Stopping(CourierCase):
    def stop(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.courier.stop())

    def test_with_nothing_to_do_at_once(self) -> None:
        self.successResultOf(self.stop())

    def test_what_waits_is_posted_first(self) -> None:
        self.send("a", "b")
        stopped = self.stop()
        self.reply(200)
        self.assertNoResult(stopped)
        self.reply(200)
        self.successResultOf(stopped)
        self.assertEqual(self.names, ["a", "b"])

    def test_an_endpoint_that_is_ill_is_tried_once(self) -> None:
        self.send("a", "b")
        self.fail()
        stopped = self.stop()
        self.assertEqual(self.names, ["a", "a"])
        self.fail()
        self.successResultOf(stopped)
        self.assertEqual((self.courier.counts["given_up"], len(self.courier.queue)), (2, 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_one_that_does_not_answer_is_left(self) -> None:
        self.send("a", "b")
        stopped = self.stop()
        self.clock.advance(FLUSH)
        self.successResultOf(stopped)
        self.assertEqual(self.courier.counts["given_up"], 2)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class RetryAfter(SynchronousTestCase):
    def seconds(self, value: bytes) -> float:
        return retry_after(Headers({b"Retry-After": [value]}), 784111770.0)

    def test_seconds_and_dates(self) -> None:
        self.assertEqual(self.seconds(b"7"), 7)
        self.assertEqual(self.seconds(b"Sun, 06 Nov 1994 08:49:37 GMT"), 7)
        self.assertEqual(self.seconds(b"Sun, 06 Nov 1994 08:49:00 GMT"), 0)
        self.assertEqual(retry_after(Headers(), 0), 0)

    def test_it_is_bounded(self) -> None:
        self.assertEqual(self.seconds(b"999999999"), LONGEST_RETRY_AFTER)
        self.assertEqual(self.seconds(b"Sun, 06 Nov 2094 08:49:37 GMT"), LONGEST_RETRY_AFTER)

    @given(st.one_of(st.binary(max_size=40), st.from_regex(rb"\A\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT\Z")))
    def test_anything_is_a_time_within_the_bound(self, value: bytes) -> None:
        self.assertTrue(
            0 <= self.seconds(value.replace(b"\n", b"").replace(b"\r", b"")) <= LONGEST_RETRY_AFTER
        )
