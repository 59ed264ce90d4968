"""Rates over the last seconds, from counts since the child began."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from oxidecast.formats.framed_messages import FeedFigures, Figures
from oxidecast.transcoding.renditions import WINDOW, Renditions

nobody: Any = None


def second(at: int, made: int) -> Figures:
    feed = FeedFigures(feed=1, taken=30 * at, made=made, media=float(at), busy=at / 2)
    return Figures(read=at, feeds=(feed,))


class TestLately(SynchronousTestCase):
    def test_only_the_last_seconds_count(self) -> None:
        renditions = Renditions(nobody, nobody)
        self.assertIsNone(renditions.lately(1))
        for at in range(1, 41):
            renditions.figures(second(at, 30 * min(at, 20)))
            if at == 1:
                self.assertEqual(renditions.lately(1), second(1, 30).feeds[0])
        lately = renditions.lately(1)
        assert lately is not None
        self.assertEqual((lately.taken, lately.made), (30 * WINDOW, 0))
        self.assertEqual((lately.media, lately.busy), (WINDOW, WINDOW / 2))
        self.assertIsNone(renditions.lately(2))

    def test_another_child_counts_from_nothing(self) -> None:
        renditions = Renditions(nobody, nobody)
        for figures in (second(8, 240), second(9, 270), second(1, 30), second(2, 60)):
            renditions.figures(figures)
        lately = renditions.lately(1)
        assert lately is not None
        self.assertEqual((lately.taken, lately.made), (30, 30))
