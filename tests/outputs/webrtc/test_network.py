"""What is made of what a receiver says, by numbers alone."""

import math
from unittest import TestCase

from hypothesis import given
from hypothesis import strategies as st

from oxidecast.outputs.webrtc.network import LONGER, MANY_MISSED, Network

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

    def test_much_loss_in_two_reports_is_trouble(self) -> None:
        self.assertFalse(self.network.report(0.15, 0.05, RATE, 1))
        self.assertTrue(self.network.report(0.15, 0.05, RATE, 2))
        self.assertLess(self.network.room, RATE)

    def test_noise_is_none(self) -> None:
        for second in range(60):
            self.assertFalse(self.network.report(0.02 if second % 3 else 0.11, 0.05, RATE, second))
        for number in range(0, 20_000, 20):
            self.assertFalse(self.network.missed(number, RATE, number / 250))

    def test_a_way_that_became_long_is_trouble(self) -> None:
        self.assertFalse(self.network.report(0, 0.05, RATE, 1))
        self.assertFalse(self.network.report(0, 0.06 + LONGER, RATE, 2))
        self.assertFalse(self.network.report(0, 0.05, RATE, 3))
        self.assertFalse(self.network.report(0, 0.06 + LONGER, RATE, 4))
        self.assertTrue(self.network.report(0, 0.06 + LONGER, RATE, 5))
        self.assertTrue(self.settled())

    def test_many_missed_in_a_row_are_trouble_at_once(self) -> None:
        told = [self.network.missed(100 + number * 2, RATE, 1) for number in range(MANY_MISSED)]
        self.assertEqual(told, [False] * (MANY_MISSED - 1) + [True])
        self.assertTrue(self.settled())

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
                network.report(fraction, fraction, RATE, now)
            elif kind == "missed":
                network.missed(number, RATE, now)
            elif kind == "settle":
                network.settle(number)
            elif network.short:
                network.sent(1200, now)
            self.assertGreater(network.room, 0)
            self.assertGreaterEqual(network.behind(now), 0)
