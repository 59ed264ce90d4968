"""How VLC's counters are judged: a stream that loses frames again and again must not pass in the end."""

from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.vlc import MOMENT, RESTARTS, FramesInARow


def counters(displayed: int, lost: int) -> dict[str, int]:
    return {"frames displayed": displayed, "frames lost": lost}


class FramesInARowTests(SynchronousTestCase):
    def setUp(self) -> None:
        # What was late before the first picture is not held against anybody.
        self.row = FramesInARow(60, counters(1, 5))

    def lose(self, times: int, seconds_between: float) -> None:
        """One frame is lost at a time, and twenty are displayed before the next."""
        for number in range(1, times + 1):
            found = self.row.read(counters(1 + 20 * number, 5 + number), number * seconds_between)
            self.assertIsNone(found)

    def test_enough_frames_without_a_loss(self) -> None:
        self.assertIsNone(self.row.read(counters(60, 5), 2.0))
        self.assertEqual(self.row.read(counters(61, 5), 2.1), counters(60, 0))

    def test_a_loss_starts_the_row_over(self) -> None:
        self.lose(1, 1.0)
        self.assertIsNone(self.row.read(counters(80, 6), 3.0))
        self.assertEqual(self.row.read(counters(81, 6), 3.1), counters(60, 0))

    def test_losses_that_come_again_and_again_fail(self) -> None:
        self.lose(RESTARTS, MOMENT)
        with self.assertRaisesRegex(AssertionError, "lost frames again"):
            self.row.read(counters(100, 5 + RESTARTS + 1), MOMENT * (RESTARTS + 1))

    def test_losses_close_together_are_one_moment(self) -> None:
        self.lose(10 * RESTARTS, MOMENT / 2)
        after = counters(1 + 20 * 10 * RESTARTS + 60, 5 + 10 * RESTARTS)
        self.assertEqual(self.row.read(after, 100.0), counters(60, 0))
