"""What is made of what a receiver says, by numbers alone."""

import math
import random
from unittest import TestCase

from hypothesis import given
from hypothesis import strategies as st

from oxidecast.outputs.webrtc.network import (
    LONGER,
    MANY_MISSED,
    MOST_PATIENCE,
    NOISY,
    QUIET,
    REPORTED,
    Network,
)

RATE = 2_600_000.0


class TestNetwork(TestCase):
    def setUp(self) -> None:
        self.network = Network()

    def settled(self, rate: float = RATE) -> bool:
        self.network.settle(rate)
        return self.network.short

    def test_a_low_estimate_is_no_trouble(self) -> None:
        self.assertFalse(self.network.estimate(500_000, 1))
        self.assertFalse(self.network.estimate(495_000, 2))
        self.assertEqual(self.network.room, math.inf)
        self.assertFalse(self.settled())

    def test_one_that_falls_is(self) -> None:
        self.network.estimate(2_500_000, 1)
        self.assertTrue(self.network.estimate(1_400_000, 2))
        self.assertEqual((self.network.room, self.network.troubled_at), (1_400_000, 2))
        self.assertTrue(self.settled())
        self.assertFalse(self.settled(600_000))

    def test_a_hiccup_is_too_small_to_matter(self) -> None:
        self.network.estimate(2_700_000, 1)
        self.network.estimate(round(RATE * 0.85), 2)
        self.assertFalse(self.settled())

    def test_after_trouble_the_room_follows_the_estimate(self) -> None:
        for bitrate in (2_500_000, 800_000, 799_000, 850_000):
            self.network.estimate(bitrate, 1)
        self.assertEqual(self.network.room, 850_000)
        self.network.forget()
        self.assertEqual(self.network.room, math.inf)
        self.assertFalse(self.network.estimate(840_000, 2))
        self.assertEqual(self.network.room, math.inf)

    def test_much_loss_in_many_packets_is_trouble(self) -> None:
        self.assertFalse(self.network.report(30, REPORTED // 2, 0, RATE, 1))
        self.assertTrue(self.network.report(2 * REPORTED // 10, REPORTED, 0, RATE, 2))
        self.assertLess(self.network.room, RATE)
        self.assertFalse(self.network.report(2 * REPORTED // 10, 2 * REPORTED, 0, RATE, 3))

    def test_however_often_much_is_lost_half_of_it_may_be_sent(self) -> None:
        for number in range(1000):
            self.network.missed(number, RATE, number / 250)
        self.assertGreaterEqual(self.network.room, RATE / 2)

    def test_one_in_twenty_is_none_however_it_is_told(self) -> None:
        noise = random.Random(6)
        lost = 0
        for number in range(30_000):
            if noise.random() < 0.05:
                lost += 1
                self.assertFalse(self.network.missed(number, RATE, number / 250))
            if noise.random() < 0.1:
                self.assertFalse(self.network.report(lost, number, 0.1, RATE, number / 250))
        self.assertEqual(self.network.room, math.inf)

    def test_what_was_lost_before_a_change_is_not_held_against_what_comes_after(self) -> None:
        self.network.report(0, 1000, 0, RATE, 1)
        self.network.changed(600_000, 2)
        self.assertFalse(self.network.report(500, 1500, 0, 600_000, 2.1))
        self.assertFalse(self.network.report(500, 2000, 0, 600_000, 4))
        self.assertEqual(self.network.room, math.inf)

    def test_a_way_that_became_long_is_trouble(self) -> None:
        long = 0.06 + LONGER
        told = [self.network.report(0, 0, trip, RATE, 1) for trip in (0.05, long, 0.05, long, 0, long)]
        self.assertEqual(told, [False] * 5 + [True])
        self.assertTrue(self.settled())

    def test_many_missed_in_a_row_are_trouble_at_once(self) -> None:
        told = [self.network.missed(100 + number * 2, RATE, 1) for number in range(MANY_MISSED)]
        self.assertEqual(told, [False] * (MANY_MISSED - 1) + [True])
        self.assertTrue(self.settled())

    def test_where_packets_get_lost_frames_are_held_until_they_come_again(self) -> None:
        self.assertIsNone(self.network.patience(0.1, 0))
        for number in range(NOISY):
            self.assertFalse(self.network.is_noisy(1))
            self.network.missed(number * 40, RATE, 1)
        self.assertTrue(self.network.is_noisy(2))
        self.assertAlmostEqual(self.network.patience(0.1, 2) or 0, 0.25)
        self.assertEqual(self.network.patience(3, 2), MOST_PATIENCE)
        self.assertEqual(self.network.patience(0.1, 2 + QUIET), 0)
        self.assertFalse(self.network.is_noisy(2 + QUIET))

    def test_what_is_missed_again_counts_once(self) -> None:
        self.assertFalse(any(self.network.missed(100, RATE, 1) for _ in range(100)))

    def test_what_waits_on_the_way(self) -> None:
        self.network.estimate(2_500_000, 0)
        self.network.estimate(1_000_000, 0)
        self.network.settle(RATE)
        self.assertEqual(self.network.sent(125_000, 1), 1.0)
        self.assertAlmostEqual(self.network.behind(1.25), 0.75)
        self.assertAlmostEqual(self.network.sent(12_500, 1.5), 0.6)
        self.assertEqual(self.network.behind(3), 0)
        self.network.queued(3)
        self.assertAlmostEqual(self.network.behind(3), 0.25)
        self.network.forget()
        self.assertEqual(self.network.behind(3), 0)

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(("estimate", "report", "missed", "settle", "sent")),
                st.integers(0, 1 << 40),
                st.floats(0, 1),
            ),
            max_size=200,
        )
    )
    def test_whatever_is_said_there_is_some_room(self, said: list[tuple[str, int, float]]) -> None:
        network = Network()
        for now, (kind, number, fraction) in enumerate(said):
            if kind == "estimate":
                network.estimate(number, now)
            elif kind == "report":
                network.report(number & 0xFFFF, number, fraction, RATE, now)
            elif kind == "missed":
                network.missed(number, RATE, now)
            elif kind == "settle":
                network.settle(number)
            elif network.short:
                network.sent(1200, now)
            self.assertGreater(network.room, 0)
            self.assertGreaterEqual(network.behind(now), 0)
