"""When new viewers are let in: on a clock, with a thread that is as busy as the test says."""

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.webrtc.capacity import CEILING, LATE, LEAST, LOOK, MOST, WINDOW, Capacity


class CapacityCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.used = 0.0
        self.watching = 0
        self.capacity = Capacity(self.clock, lambda: self.watching, lambda: self.used)
        self.capacity.start()
        self.addCleanup(self.capacity.stop)

    def work(self, share: float, seconds: float = 20.0) -> None:
        """The thread uses this share of its core."""
        for _ in range(round(seconds / LOOK)):
            self.used += share * LOOK
            self.clock.advance(LOOK)

    def crowd(self, most: int = 10_000) -> int:
        """How many are let in at once."""
        for count in range(most):
            if not self.capacity.has_room:
                return count
            self.capacity.came()
            self.watching += 1
        return most


def room(share: float, each: float) -> range:
    return range(int(share / each) - 1, int(share / each) + 2)


class TestCapacity(CapacityCase):
    def test_an_idle_server_has_room(self) -> None:
        self.assertTrue(self.capacity.has_room)
        self.work(0.01)
        self.watching = 1
        self.assertTrue(self.capacity.has_room)

    def test_nobody_is_let_in_beyond_the_ceiling(self) -> None:
        self.watching = 400
        self.work(CEILING - 0.1)
        self.assertTrue(self.capacity.has_room)
        self.work(CEILING)
        self.assertFalse(self.capacity.has_room)
        self.work(CEILING - 0.1)
        self.assertTrue(self.capacity.has_room, "there is room again when some have gone")

    def test_a_moment_of_work_refuses_nobody(self) -> None:
        self.watching = 100
        self.work(0.1)
        self.work(1.0, 1.0)
        self.assertTrue(self.capacity.has_room)

    def test_who_came_a_moment_ago_is_reckoned_before_it_is_measured(self) -> None:
        self.watching = 100
        self.work(0.3)  # 0.3 % each
        self.assertIn(self.crowd(), room(CEILING - 0.3, 0.003))
        self.work(0.3, 1.0)
        self.assertFalse(self.capacity.has_room, "what they cost is not seen yet")
        self.work(0.3, 3.0)
        self.assertTrue(self.capacity.has_room, "they cost nothing")

    def test_a_crowd_that_comes_to_a_server_with_other_work_is_not_refused_for_it(self) -> None:
        self.watching = 1
        self.work(0.3)
        self.assertIn(self.crowd(), room(CEILING - 0.3, MOST))

    def test_a_crowd_that_comes_to_an_empty_server_is_bounded(self) -> None:
        self.work(0.01)
        self.assertIn(self.crowd(), room(CEILING - 0.01, LEAST))

    def test_a_late_reactor_refuses_whatever_its_thread_uses(self) -> None:
        self.watching = 10
        self.work(0.1)
        for _ in range(100):
            self.clock.advance(LOOK + 2 * LATE)
        self.assertGreater(self.capacity.lateness, LATE)
        self.assertFalse(self.capacity.has_room)
        self.work(0.1)
        self.assertTrue(self.capacity.has_room)

    def test_a_machine_that_stood_still_refuses_nobody(self) -> None:
        self.watching = 10
        self.work(0.1)
        for _ in range(3):
            self.clock.rightNow += 5
            self.work(0.1, 1.0)
            self.assertTrue(self.capacity.has_room)

    def test_the_first_viewer_disturbs_nobody(self) -> None:
        self.work(1.0)
        self.assertTrue(self.capacity.has_room)
        self.watching = 1
        self.assertFalse(self.capacity.has_room)

    def test_a_clock_that_was_set_harms_for_moments_at_most(self) -> None:
        self.watching = 10
        self.work(0.1)
        for step in (-86_400.0, 86_400.0):
            self.clock.rightNow += step
            self.clock.advance(0)
            self.work(0.1, WINDOW * LOOK)
            self.assertTrue(0 <= self.capacity.load <= 1)
            self.work(0.1)
            self.assertTrue(self.capacity.has_room)

    def test_it_measures_this_very_thread(self) -> None:
        clock = Clock()
        capacity = Capacity(clock, lambda: 1)
        capacity.start()
        self.addCleanup(capacity.stop)
        for _ in range(5 * WINDOW):
            sum(range(20_000))
            clock.advance(LOOK)
        self.assertGreater(capacity.load, 0)
