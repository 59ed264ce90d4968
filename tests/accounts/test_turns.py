"""Turns are kept, come one by one, and go to nobody twice."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.accounts.turns import LONGEST_TURN, TURN_LASTS, Turns


class TurnsTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.turns = Turns(self.clock, 5000)

    def ask(self, who: object, thing: str = "door") -> float:
        return self.turns.ask(thing, who, 5.0)

    def test_the_first_goes_at_once_and_the_others_one_by_one(self) -> None:
        self.assertEqual([self.ask(who) for who in "abc"], [0.0, 5.0, 10.0])

    def test_who_asks_more_is_no_sooner(self) -> None:
        self.ask("a")
        self.assertEqual([self.ask("b") for _ in range(9)], [5.0] * 9)
        self.assertEqual(self.ask("c"), 10.0)

    def test_a_turn_is_kept_whoever_else_asks(self) -> None:
        for who in "abc":
            self.ask(who)
        for _ in range(10):
            self.clock.advance(1)
            self.ask("a")
            self.ask("b")
        self.assertEqual(self.ask("c"), 0.0)

    def test_it_is_used_once(self) -> None:
        self.ask("a")
        self.assertEqual(self.ask("a"), 5.0)
        self.clock.advance(5)
        self.assertEqual((self.ask("a"), self.ask("a")), (0.0, 5.0))

    def test_who_comes_late_still_has_it_and_who_comes_later_asks_again(self) -> None:
        for wait, answer in ((TURN_LASTS, 0.0), (TURN_LASTS + 1, 5.0)):
            self.setUp()
            self.ask("a")
            self.ask("b")
            self.clock.advance(5 + wait)
            self.ask("c")
            self.assertEqual(self.ask("b"), answer)

    def test_what_was_not_made_use_of_comes_back(self) -> None:
        self.ask("a")
        self.turns.give_back("door", "a")
        self.assertEqual(self.ask("a"), 0.0)

    def test_with_no_turn_left_nobody_is_given_one(self) -> None:
        for who in range(int(LONGEST_TURN / 5) + 1):
            self.assertEqual(self.ask(who), who * 5.0)
        self.assertEqual(self.ask("late"), 5.0)
        self.clock.advance(5)
        self.assertEqual(self.ask("later"), LONGEST_TURN)

    def test_things_have_turns_of_their_own(self) -> None:
        self.ask("a")
        self.assertEqual(self.ask("b", "gate"), 0.0)

    def test_a_clock_that_goes_back_lengthens_no_wait(self) -> None:
        for who in "abc":
            self.ask(who)
        self.clock.rightNow -= 500_000
        self.assertEqual([self.ask(who) for who in "cba"], [0.0, 5.0, 10.0])

    def test_memory_is_bounded(self) -> None:
        self.turns = Turns(self.clock, 5)
        for number in range(50):
            self.ask(number)
            self.ask(number, f"door {number}")
            self.turns.give_back(number, number)
        self.assertEqual(len(self.turns), 5)

    @given(st.lists(st.tuples(st.integers(0, 40), st.floats(0, 30)), max_size=200))
    @settings(max_examples=60, deadline=None)
    def test_no_order_of_asking_is_faster_than_the_gap(self, steps: list[tuple[int, float]]) -> None:
        self.setUp()
        passed: list[float] = []
        for who, seconds in steps:
            if self.ask(who) == 0.0:
                passed.append(self.clock.seconds())
            self.clock.advance(seconds)
        for last in range(len(passed)):
            for first in range(last):
                most = (passed[last] - passed[first] + TURN_LASTS) / 5.0 + 2
                self.assertLessEqual(last - first + 1, most)
