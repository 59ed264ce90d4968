"""What is known of a viewer's way, and of several together."""

from unittest import TestCase

from oxidecast.formats import rtcp
from oxidecast.formats.rtcp import Report
from oxidecast.outputs.webrtc.quality import Figures, summed


def report(fraction: float = 0.0, lost: int = 0, last: int = 0, delay: int = 0) -> Report:
    return Report(1, fraction, lost, 900, last, delay)


class TestOne(TestCase):
    def test_losses(self) -> None:
        figures = Figures()
        figures.heard(report(0.5, 5), 10, 0.0)
        figures.heard(report(0.25, 4), 20, 0.0)
        told = figures.told()
        self.assertEqual(
            [told[name] for name in ("packets", "lost", "loss", "worst_loss")], [20, 5, 0.25, 0.5]
        )
        self.assertEqual(told["jitter"], 0.01)

    def test_round_trips_are_smoothed(self) -> None:
        figures = Figures()
        figures.heard(report(), 1, 1000.0)
        self.assertEqual(figures.round_trip, 0)
        for trip in (0.1, 0.5):
            said = rtcp.ntp(1000.0) >> 16 & 0xFFFFFFFF
            figures.heard(report(last=said), 1, 1000.0 + trip)
        self.assertAlmostEqual(figures.round_trip, 0.15, 3)
        self.assertAlmostEqual(figures.worst_round_trip, 0.5, 3)

    def test_bitrate(self) -> None:
        figures = Figures()
        for second in range(100):
            figures.measure(float(second), 1000 * second)
            figures.measure(float(second), 1000 * second)
        self.assertAlmostEqual(figures.bitrate, 8000)

    def test_all_is_told_but_how_it_was_measured(self) -> None:
        figures = Figures()
        figures.measure(1.0, 1)
        self.assertEqual({*figures.told(), "measured"}, set(Figures.__struct_fields__))


class TestTogether(TestCase):
    def test_nobody(self) -> None:
        self.assertEqual(set(summed([]).values()), {0})

    def test_sums_and_the_worst(self) -> None:
        one = Figures(bitrate=1e6, packets=90, lost=9, loss=0.2, round_trip=0.1, nacks=3, first_picture=0.1)
        two = Figures(bitrate=2e6, packets=10, lost=1, loss=0.1, round_trip=0.3, nacks=4, switches=1)
        together = summed([one, two])
        self.assertEqual(together["bitrate"], 3_000_000)
        self.assertEqual((together["nacks"], together["switches"]), (7, 1))
        self.assertEqual((together["loss"], together["worst_loss"]), (0.1, 0.2))
        self.assertEqual((together["worst_round_trip"], together["first_picture"]), (0.3, 0.1))
