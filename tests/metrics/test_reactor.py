"""How late the reactor is."""

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.metrics.reactor import INTERVAL, ReactorWatch


class ReactorTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.watch = ReactorWatch(self.clock)
        self.watch.startService()

    def test_on_time(self) -> None:
        self.clock.pump([INTERVAL] * 10)
        self.assertEqual((self.watch.lateness.count, round(self.watch.lateness.total, 6)), (10, 0))

    def test_late(self) -> None:
        self.clock.advance(INTERVAL + 0.3)
        self.assertAlmostEqual(self.watch.lateness.maximum, 0.3)
        self.clock.advance(INTERVAL)
        self.assertEqual(self.watch.lateness.count, 2)

    def test_it_stops(self) -> None:
        self.watch.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])
