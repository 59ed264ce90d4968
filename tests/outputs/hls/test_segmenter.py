from collections.abc import Iterable
from itertools import pairwise

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.media import TICKS, Packet
from oxidecast.outputs.hls.segmenter import ROUNDING, Cuts, Run, Segmenter
from tests.streams.stage import PICTURE, SOUND, picture, sound

MANY = 1 << 30


def pictures(count: int, gop: int, start: int = 0) -> list[Packet]:
    return [picture((start + number) * PICTURE, number % gop == 0) for number in range(count)]


def cut(segmenter: Segmenter, packets: Iterable[Packet]) -> list[Run]:
    runs = [run for packet in packets if (run := segmenter.push(packet)) is not None]
    while (last := segmenter.flush()) is not None:
        runs.append(last)
    return runs


def seconds(runs: list[Run]) -> list[float]:
    return [round(run.duration / TICKS, 3) for run in runs]


class TestCutting(SynchronousTestCase):
    def make(self, duration: float = 2.0, has_video: bool = True, max_bytes: int = MANY) -> Segmenter:
        return Segmenter(duration, has_video, max_bytes)

    def test_at_the_first_keyframe_at_or_after_the_duration(self) -> None:
        runs = cut(self.make(), pictures(180, 30))
        self.assertEqual(seconds(runs), [2.0, 2.0, 2.0])
        self.assertTrue(all(run.packets[0].keyframe and run.independent for run in runs))

    def test_groups_longer_than_the_duration_stay_whole_when_they_fit(self) -> None:
        self.assertEqual(seconds(cut(self.make(), pictures(270, 90))), [3.0, 3.0, 3.0])

    def test_a_group_beyond_the_bound_is_cut_and_says_so(self) -> None:
        segmenter = self.make()
        runs = cut(segmenter, pictures(480, 240))  # a keyframe every 8 s
        self.assertEqual(segmenter.target, 4)
        self.assertTrue(all(run.duration <= (4 + ROUNDING) * TICKS for run in runs))
        self.assertEqual([run.independent for run in runs], [True, False, True, False])
        self.assertEqual(segmenter.longest_gop, 8 * TICKS)

    def test_the_target_is_fixed_by_the_first_run(self) -> None:
        segmenter = self.make()
        cut(segmenter, [*pictures(60, 60), *pictures(300, 100, start=60)])
        self.assertEqual(segmenter.target, 2)

    def test_sound_goes_by_when_the_pictures_are_shown(self) -> None:
        """With B-frames a keyframe comes ahead of its time; renditions differ in how far."""
        for ahead in range(4):
            shown = [msgspec.structs.replace(one, pts=one.dts + ahead * PICTURE) for one in pictures(180, 30)]
            heard = [sound(number * SOUND) for number in range(180 * PICTURE // SOUND)]
            runs = cut(self.make(), sorted([*shown, *heard], key=lambda one: one.dts))
            self.assertEqual(seconds(runs), [2.0, 2.0, 2.0])
            for run, following in pairwise(runs):
                mine = [one.dts for one in run.packets if not one.track.is_video]
                self.assertEqual(mine, list(range(mine[0], mine[-1] + 1, SOUND)))
                self.assertLess(mine[-1], following.pts + SOUND)
                self.assertGreaterEqual(mine[-1] + SOUND, following.pts)
            everything = [one for run in runs for one in run.packets]
            self.assertEqual(len(everything), len(shown) + len(heard))

    def test_a_known_target_is_kept(self) -> None:
        segmenter = Segmenter(2.0, True, MANY, 3)
        runs = cut(segmenter, pictures(300, 300))
        self.assertEqual(segmenter.target, 3)
        self.assertLessEqual(max(run.duration for run in runs), (3 + ROUNDING) * TICKS)

    def test_the_target_is_at_least_a_second_and_the_wanted_duration(self) -> None:
        for duration, gop, target in ((0.5, 15, 1), (2.0, 61, 2), (2.0, 80, 3), (6.0, 180, 6)):
            segmenter = self.make(duration)
            cut(segmenter, pictures(gop * 2, gop) if duration < 6 else pictures(400, gop))
            self.assertEqual(segmenter.target, target, (duration, gop))

    def test_before_a_keyframe_there_is_nothing(self) -> None:
        self.assertEqual(cut(self.make(), [picture(0), sound(0), sound(1920)]), [])

    def test_sound_goes_where_it_arrives(self) -> None:
        runs = cut(self.make(1.0), [picture(0, True), sound(0), picture(TICKS, True), sound(TICKS)])
        self.assertEqual([[p.track.is_video for p in run.packets] for run in runs], [[True, False]] * 2)

    def test_sound_alone_is_cut_by_its_own_time(self) -> None:
        runs = cut(self.make(has_video=False), [sound(number * SOUND) for number in range(300)])
        self.assertEqual(len(runs), 4)
        self.assertEqual(sum(run.duration for run in runs), 300 * SOUND)

    def test_a_gap_belongs_to_no_segment(self) -> None:
        runs = cut(self.make(), [*pictures(75, 30), *pictures(60, 30, start=75 + 300)])
        self.assertEqual([run.cut.number for run in runs if run.cut], [0, 0, 1])
        self.assertEqual(seconds(runs), [2.0, 0.5, 2.0])

    def test_a_packet_that_claims_to_last_for_ever_does_not_break_the_target(self) -> None:
        for duration in (10 * TICKS, 1000 * TICKS):
            long = msgspec.structs.replace(picture(0, True), duration=duration)
            (run,) = cut(self.make(), [long])
            self.assertLessEqual(run.duration, (4 + ROUNDING) * TICKS)

    def test_a_slide_show_goes_on(self) -> None:
        segmenter = self.make()
        slides = [
            msgspec.structs.replace(
                picture(TICKS * 2 + number * 3 * TICKS, number % 4 == 0), duration=3 * TICKS
            )
            for number in range(20)
        ]
        for run in cut(segmenter, [*pictures(60, 60), *slides]):
            self.assertLessEqual(run.duration, (segmenter.target + ROUNDING) * TICKS)

    def test_pictures_that_pause_do_not_pile_sound_up(self) -> None:
        segmenter = self.make()
        packets = [
            *pictures(60, 60),
            *(sound(number * SOUND) for number in range(60 * PICTURE // SOUND, 2000)),
        ]
        runs = cut(segmenter, packets)
        self.assertEqual(sum(len(run.packets) for run in runs), len(packets))
        self.assertLessEqual(max(run.duration for run in runs), (segmenter.target + ROUNDING) * TICKS)
        ends = [run.start + run.duration for run in runs]
        for end, following in zip(ends[1:], runs[2:], strict=False):
            self.assertEqual(end, following.start)

    def test_pictures_come_back_after_a_pause(self) -> None:
        segmenter = self.make()
        packets = [
            *pictures(60, 60),
            *(sound(number * SOUND) for number in range(600)),
            *pictures(120, 60, start=600 * SOUND // PICTURE),
        ]
        runs = cut(segmenter, packets)
        self.assertGreater(min(run.duration for run in runs), 0)
        self.assertTrue(runs[-1].independent)

    def test_bytes_cut_too_when_time_stands_still(self) -> None:
        segmenter = self.make(max_bytes=1000)
        runs = cut(segmenter, [picture(number, number == 0) for number in range(100)])
        self.assertLessEqual(max(sum(len(p.payload) for p in run.packets) for run in runs), 1000)
        self.assertGreater(min(run.duration for run in runs), 0)

    def test_flushing_twice_is_once(self) -> None:
        segmenter = self.make()
        segmenter.push(picture(0, True))
        self.assertIsNotNone(segmenter.flush())
        self.assertIsNone(segmenter.flush())


class TestSums(SynchronousTestCase):
    @settings(max_examples=60, deadline=None)
    @given(st.integers(1, 400), st.integers(1, 300), st.sampled_from([0.5, 1.0, 2.0, 4.0, 6.0]))
    def test_durations_add_up_to_the_media(self, count: int, gop: int, duration: float) -> None:
        segmenter = Segmenter(duration, True, MANY)
        runs = cut(segmenter, pictures(count, gop))
        self.assertEqual(sum(run.duration for run in runs), count * PICTURE)
        self.assertEqual(sum(len(run.packets) for run in runs), count)
        for run in runs:
            self.assertEqual(run.independent, run.packets[0].keyframe)
            self.assertLess(run.duration, (segmenter.target + 0.5) * TICKS)

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(1, 9 * TICKS)), max_size=60))
    def test_any_times_keep_the_target(self, steps: list[tuple[bool, bool, int]]) -> None:
        segmenter, dts = Segmenter(2.0, True, MANY), {True: 0, False: 0}
        packets = []
        for video, keyframe, step in steps:
            dts[video] += step
            made = picture(dts[video], keyframe) if video else sound(dts[video])
            packets.append(msgspec.structs.replace(made, duration=step))
        for run in cut(segmenter, packets):
            self.assertTrue(1 <= run.duration < (segmenter.target + 0.5) * TICKS)
            self.assertTrue(run.packets)


class TestFollowing(SynchronousTestCase):
    """Renditions that are made of the source."""

    def test_it_is_cut_where_the_source_is_however_late_it_begins(self) -> None:
        cuts = Cuts()
        source = cut(Segmenter(2.0, True, MANY, cuts=cuts), pictures(241, 30))
        # From the keyframe at 1 s on: by itself it would be cut at 3, 5 and 7 s.
        later = cut(Segmenter(2.0, True, MANY, cuts=cuts, follows=True), shifted(30))
        self.assertEqual(seconds(later)[:3], [1.0, 2.0, 2.0])
        self.assertLessEqual({run.pts for run in later[1:]}, {run.pts for run in source})

    def test_further_keyframes_are_no_cuts(self) -> None:
        cuts = Cuts()
        source = cut(Segmenter(2.0, True, MANY, cuts=cuts), pictures(361, 90))
        follower = Segmenter(2.0, True, MANY, cuts=cuts, follows=True)
        self.assertEqual(seconds(cut(follower, pictures(361, 30)))[:4], seconds(source)[:4])
        self.assertEqual(follower.target, cuts.target)

    def test_without_a_source_it_goes_its_own_way(self) -> None:
        alone = Segmenter(2.0, True, MANY, cuts=Cuts(), follows=True)
        self.assertEqual(seconds(cut(alone, pictures(180, 30))), [2.0, 2.0, 2.0])


def shifted(first: int) -> list[Packet]:
    return [packet for packet in pictures(241, 30) if packet.dts >= first * PICTURE]
