"""Keyframes and frame rates, by time stamps."""

from fractions import Fraction
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.media import TICKS
from oxidecast.transcoding.targets import coded_rate
from oxidecast.transcoding.worker.choosing import KeyframeChoice, RateCeiling

FRAME = 3000
"""Ticks, at 30 pictures a second."""


def keyframes(source: list[int], pictures: list[int], interval: float = 2.0) -> list[int]:
    choice = KeyframeChoice(interval)
    waiting = list(source)
    chosen = []
    for pts in pictures:
        while waiting and waiting[0] <= pts:
            choice.source_keyframe(waiting.pop(0))
        if choice.is_keyframe(pts):
            chosen.append(pts)
    return chosen


class TestKeyframes(SynchronousTestCase):
    def test_the_sources_and_no_others(self) -> None:
        source = [0, 60 * FRAME, 90 * FRAME, 150 * FRAME]
        self.assertEqual(keyframes(source, list(range(0, 200 * FRAME, FRAME))), source)

    def test_a_frame_late_is_no_reason_for_another(self) -> None:
        source = [at * 61 * FRAME for at in range(5)]
        self.assertEqual(keyframes(source, list(range(0, 300 * FRAME, FRAME))), source)

    def test_further_ones_where_the_sources_are_far_apart(self) -> None:
        source = [0, 300 * FRAME, 600 * FRAME]
        chosen = keyframes(source, list(range(0, 700 * FRAME, FRAME)))
        self.assertLessEqual(set(source), set(chosen))
        gaps = [b - a for a, b in pairwise(chosen)]
        self.assertLessEqual(max(gaps), 2.2 * TICKS)

    def test_a_source_with_a_single_keyframe(self) -> None:
        chosen = keyframes([0], list(range(0, 300 * FRAME, FRAME)))
        self.assertEqual(chosen[0], 0)
        self.assertEqual(len(chosen), 5)

    def test_a_lost_picture_leaves_its_keyframe_to_the_next(self) -> None:
        pictures = [at for at in range(0, 120 * FRAME, FRAME) if at != 60 * FRAME]
        self.assertEqual(keyframes([0, 60 * FRAME], pictures), [0, 61 * FRAME])

    def test_the_first_picture_is_one_always(self) -> None:
        self.assertEqual(keyframes([], [5 * FRAME, 6 * FRAME]), [5 * FRAME])

    def test_what_is_forced_and_what_is_forgotten(self) -> None:
        choice = KeyframeChoice(2.0)
        self.assertEqual([choice.is_keyframe(at * FRAME) for at in range(3)], [True, False, False])
        choice.force()
        self.assertEqual([choice.is_keyframe(at * FRAME) for at in range(3, 5)], [True, False])
        choice.forget()
        self.assertTrue(choice.is_keyframe(5 * FRAME))

    @given(st.lists(st.integers(1, 5 * TICKS), min_size=1, max_size=80), st.data())
    def test_every_keyframe_of_the_source_is_one(self, steps: list[int], data: st.DataObject) -> None:
        pictures = [sum(steps[: at + 1]) for at in range(len(steps))]
        source = sorted(data.draw(st.sets(st.sampled_from(pictures))))
        self.assertLessEqual(set(source), set(keyframes(source, pictures)))


def kept(framerate: float, pictures: list[int], keys: frozenset[int] = frozenset()) -> list[int]:
    ceiling = RateCeiling(framerate)
    return [pts for pts in pictures if ceiling.keeps(pts, pts in keys)]


def pictures(rate: float, seconds: int, jitter: bool = False) -> list[int]:
    """Stamps of a steady source; `jitter` cuts them to whole milliseconds."""
    stamps = [at / rate for at in range(int(rate * seconds))]
    return [int(at * 1000) * 90 if jitter else int(at * TICKS) for at in stamps]


class TestRates(SynchronousTestCase):
    def test_every_second_of_sixty(self) -> None:
        source = pictures(60, 5)
        self.assertEqual(kept(30, source)[5:], source[10::2])

    def test_stamps_in_milliseconds(self) -> None:
        made = kept(30, pictures(60, 10, jitter=True))
        self.assertApproximates(len(made), 300, 4)
        gaps = {round((b - a) / 90) for a, b in pairwise(made[5:])}
        self.assertLessEqual(gaps, {33, 34})

    def test_fifty_to_thirty(self) -> None:
        made = kept(30, pictures(50, 10))
        self.assertApproximates(len(made), 300, 4)
        self.assertLessEqual(max(b - a for a, b in pairwise(made)), 2 * 1800 + 1)

    def test_as_many_stay_as_tracks_say(self) -> None:
        for rate in (15, 24, 25, 29.97, 30, 31, 33, 48, 50, 58, 59.94, 60, 62.5, 75, 90, 119.88, 120, 144):
            for ceiling in (10.0, 12.5, 23.976, 24.0, 25.0, 29.97, 30.0, 50.0, 59.94, 60.0):
                for gop in (2, 30):  # A keyframe stays whatever the beat is.
                    source = pictures(rate, 30)
                    keys = frozenset(source[:: round(rate * gop)])
                    said = coded_rate(Fraction(rate).limit_denominator(1001), ceiling)
                    made = len(kept(ceiling, source, keys)) / 30
                    self.assertApproximates(made, float(said), 1 / 2 + 1 / 30, (rate, ceiling, gop))

    def test_nearly_twice_as_many_are_halved_evenly(self) -> None:
        for rate in (58, 59.94, 61):
            made = kept(30, pictures(rate, 60))
            self.assertLessEqual({round((b - a) * rate / TICKS) for a, b in pairwise(made[5:])}, {2})

    def test_what_is_below_the_ceiling_stays_whole(self) -> None:
        for rate in (1, 15, 24, 25, 29.97, 30, 30.3):
            for jitter in (False, True):
                source = pictures(rate, 20, jitter)
                self.assertEqual(kept(30, source), source, rate)
        self.assertEqual(kept(29.97, pictures(30, 20)), pictures(30, 20))

    def test_a_keyframe_is_never_left_out(self) -> None:
        source = pictures(60, 4)
        keys = frozenset(source[37::61])
        self.assertLessEqual(keys, set(kept(30, source, keys)))

    def test_a_pause_lets_no_burst_through(self) -> None:
        source = pictures(60, 2)
        later = [at + 30 * TICKS for at in source]
        self.assertLessEqual(len(kept(30, later)), len(kept(30, source + later)) - len(kept(30, source)) + 3)

    @given(st.lists(st.integers(1, TICKS), max_size=200), st.sampled_from([15.0, 30.0, 60.0]))
    def test_any_stamps(self, steps: list[int], framerate: float) -> None:
        source = [sum(steps[: at + 1]) for at in range(len(steps))]
        made = kept(framerate, source)
        self.assertEqual(made, sorted(set(made)))
        self.assertLessEqual(set(made), set(source))
        self.assertEqual(made[:1], source[:1])
