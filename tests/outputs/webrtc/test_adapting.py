"""Down fast, up by trying: one viewer's quality, on a clock, before lines that carry only so much."""

from unittest import TestCase

from twisted.internet.task import Clock

from oxidecast.outputs.webrtc.adapting import HOLD, MAX_HOLD, Adapting, Quality
from oxidecast.outputs.webrtc.network import Network
from oxidecast.streams.wanting import RenditionSpec

SOURCE = Quality("source", 2_500_000)
MIDDLE = Quality("480p:live", 1_100_000, RenditionSpec("480p", True))
LEAST = Quality("360p:live", 600_000, RenditionSpec("360p", True))

TICK = 0.05


class Line:
    """A line and the receiver at its end, as far as Chromium's was measured: its estimate begins at what it gets, falls
    to 0.85 of what comes through half a second after more comes than that, and is said four times a second."""

    def __init__(self, case: "TestAdapting") -> None:
        self.case = case
        self.capacity = 1e9
        self.estimate = 2_400_000.0
        self.over = 0.0
        self.count = self.sent = self.lost = 0

    def run(self, seconds: float) -> None:
        case = self.case
        for _ in range(round(seconds / TICK)):
            case.padded = 0
            case.clock.advance(TICK)
            self.count += 1
            sent = case.rate() + case.padded * 8 / TICK
            self.over = self.over + TICK if sent > self.capacity else 0.0
            if self.over > 0.5:
                self.estimate = min(self.estimate, 0.85 * self.capacity)
                self.sent += 300
                self.lost += round(300 * (1 - self.capacity / sent))
                if case.network.estimate(round(self.estimate), case.clock.seconds()) or case.network.report(
                    self.lost, self.sent, 0, case.rate(), case.clock.seconds()
                ):
                    self.trouble()
            elif self.count % 5 == 0:
                self.estimate *= 1.005
                case.network.estimate(round(self.estimate), case.clock.seconds())
            if self.count % 20 == 0:
                case.adapting.look()

    def trouble(self) -> None:
        self.case.network.settle(self.case.rate())
        self.case.adapting.troubled()


class TestAdapting(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.network = Network()
        self.qualities = [SOURCE, MIDDLE, LEAST]
        self.gone: list[str] = []
        self.padded = 0
        self.can_pad = True
        self.slow = False
        self.adapting = Adapting(self.network, self.clock, self.pad)
        self.adapting.offer("source", lambda: self.qualities, self.go)
        self.line = Line(self)

    def pad(self, size: int) -> int:
        self.padded += size if self.can_pad else 0
        return size if self.can_pad else 0

    def go(self, quality: Quality) -> None:
        self.gone.append(quality.name)
        if not self.slow:
            self.adapting.arrived(quality.name)

    def rate(self) -> float:
        return next(one.bitrate for one in self.qualities if one.name == self.adapting.current)

    def test_on_a_good_line_nothing_is_done(self) -> None:
        self.line.run(120)
        self.assertEqual((self.gone, self.padded), ([], 0))

    def test_down_within_a_second_to_what_there_is_room_for(self) -> None:
        self.line.capacity = 1_500_000
        self.line.run(1)
        self.assertEqual(self.gone, ["480p:live"])

    def test_at_once_to_the_least_if_there_is_no_more_room(self) -> None:
        self.line.capacity = 500_000
        self.line.run(1)
        self.assertEqual(self.gone, ["360p:live"])

    def test_up_again_when_the_line_is_well(self) -> None:
        self.line.capacity = 1_000_000
        self.line.run(3)
        self.assertEqual(self.adapting.current, "360p:live")
        self.line.capacity = 1e9
        self.line.run(30)
        self.assertEqual(self.gone[-2:], ["480p:live", "source"])

    def test_however_long_the_line_was_narrow(self) -> None:
        self.qualities = [SOURCE, LEAST]
        self.line.capacity = 1_000_000
        self.line.run(300)
        self.assertEqual(self.adapting.current, "360p:live")
        self.line.capacity = 1e9
        self.line.run(30)
        self.assertEqual(self.adapting.current, "source")

    def test_a_narrow_line_is_tried_seldom_and_not_gone_up_on(self) -> None:
        self.qualities = [SOURCE, LEAST]
        self.line.capacity = 1_000_000
        self.line.run(3)
        tries, was = 0, 0
        for _ in range(600):
            self.line.run(TICK * 2)
            tries, was = tries + (self.padded > 0 and not was), self.padded
        self.assertEqual(self.gone, ["360p:live"])
        self.assertLess(tries, 60 / HOLD)

    def test_a_try_ends_with_the_first_trouble(self) -> None:
        self.qualities = [SOURCE, LEAST]
        self.line.capacity = 1_000_000
        self.line.run(3)
        while not self.padded:
            self.line.run(TICK)
        self.line.run(2)
        before = self.padded
        self.line.run(2)
        self.assertEqual((before, self.padded), (0, 0))

    def test_where_nothing_can_be_sent_again_it_is_tried_by_doing(self) -> None:
        self.can_pad = False
        self.line.capacity = 1_000_000
        self.line.run(3)
        self.line.capacity = 1e9
        self.line.run(30)
        self.assertEqual(self.adapting.current, "source")

    def test_down_while_it_goes_up(self) -> None:
        self.line.capacity = 1_000_000
        self.line.run(3)
        self.slow, self.line.capacity = True, 1e9
        while self.adapting.going != "480p:live":
            self.line.run(TICK)
        self.network.estimate(2_000_000, self.clock.seconds())
        self.network.estimate(700_000, self.clock.seconds())
        self.line.trouble()
        self.assertEqual(self.gone[-1], "360p:live")

    def test_one_that_is_not_to_be_had_is_tried_again(self) -> None:
        self.slow, self.line.capacity = True, 1_000_000
        self.line.run(1)
        self.assertEqual((self.adapting.current, self.adapting.going), ("source", "360p:live"))
        self.adapting.failed()
        self.line.trouble()
        self.assertEqual(self.gone, ["360p:live", "360p:live"])

    def test_the_least_is_sent_all_again_after_a_while(self) -> None:
        self.qualities = [SOURCE]
        self.line.capacity = 1_000_000
        self.line.run(1)
        self.assertTrue(self.network.short)
        self.line.capacity = 1e9
        self.line.run(MAX_HOLD + 1)
        self.assertFalse(self.network.short)
        self.assertEqual(self.gone, [])

    def test_who_has_one_quality_for_good(self) -> None:
        adapting = Adapting(self.network, self.clock, self.pad)
        self.network.estimate(2_000_000, 0)
        self.network.estimate(1_000_000, 0)
        self.network.settle(SOURCE.bitrate)
        adapting.troubled()
        self.clock.advance(HOLD + 1)
        adapting.look()
        self.assertFalse(self.network.short)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nothing_is_left_when_it_stops(self) -> None:
        self.line.capacity = 1_000_000
        self.line.run(3)
        while not self.padded:
            self.line.run(TICK)
        self.adapting.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
