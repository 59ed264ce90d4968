"""True times from timestamps and sender reports."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.webrtc.timing import MediaClock
from tests.media.fuzz import FUZZ

NTP = 3_900_000_000 << 32


def ntp(seconds: float) -> int:
    return NTP + int(seconds * (1 << 32))


class Times(SynchronousTestCase):
    def test_distances_are_the_timestamps_over_the_wrap(self) -> None:
        clock = MediaClock()
        start = 0xFFFFFFFF - 4000
        times = [clock.ticks(1, 90_000, (start + n * 3000) & 0xFFFFFFFF, n * 0.5) for n in range(5)]
        self.assertEqual(times, [0, 3000, 6000, 9000, 12_000])

    def test_before_reports_arrival_says_where_streams_stand(self) -> None:
        clock = MediaClock()
        self.assertEqual(clock.ticks(1, 90_000, 5, 10.0), 0)
        self.assertEqual(clock.ticks(2, 48_000, 77, 10.1), 9000)

    def test_pictures_may_be_out_of_order(self) -> None:
        clock = MediaClock()
        times = [clock.ticks(1, 90_000, n * 3000, 0) for n in (0, 3, 1, 2, 6)]
        self.assertEqual(times, [0, 9000, 3000, 6000, 18_000])

    def test_reports_bring_sound_and_picture_together_without_a_step_back(self) -> None:
        clock = MediaClock()
        # What is captured at one time arrives 120 ms apart: the video's encoder is slow.
        video = [clock.ticks(1, 90_000, 0, 0.12)]
        sound = [clock.ticks(2, 48_000, 0, 0.0)]
        clock.sender_report(1, ntp(0), 0)
        clock.sender_report(2, ntp(0), 0)
        for n in range(1, 600):
            sound.append(clock.ticks(2, 48_000, n * 1600, n / 30))
            video.append(clock.ticks(1, 90_000, n * 3000, n / 30 + 0.12))
        self.assertLessEqual(abs(video[-1] - sound[-1]), 1)
        for times in (video, sound):
            steps = [after - before for before, after in pairwise(times)]
            self.assertTrue(all(2_939 <= step <= 3_061 for step in steps), (min(steps), max(steps)))

    def test_reports_without_sense_are_not_followed(self) -> None:
        clock = MediaClock()
        clock.ticks(1, 90_000, 0, 0.0)
        clock.ticks(2, 90_000, 0, 0.0)
        clock.sender_report(1, ntp(0), 0)
        clock.sender_report(2, ntp(-11), 0)
        self.assertEqual([clock.ticks(n, 90_000, 3000, 0) for n in (1, 2)], [3000, 3000])

    @FUZZ
    @given(
        st.lists(
            st.tuples(
                st.sampled_from((1, 2)), st.integers(0, 200_000), st.none() | st.integers(0, (1 << 64) - 1)
            )
        )
    )
    def test_no_report_makes_time_run_backwards(self, events: list[tuple[int, int, int | None]]) -> None:
        clock, stamps, last = MediaClock(), {1: 0, 2: 1 << 31}, {1: -(1 << 62), 2: -(1 << 62)}
        for stream, step, report in events:
            stamps[stream] += step
            if report is not None:
                clock.sender_report(stream, report, stamps[stream] & 0xFFFFFFFF)
            ticks = clock.ticks(stream, 90_000, stamps[stream] & 0xFFFFFFFF, 0)
            self.assertGreaterEqual(ticks, last[stream])
            last[stream] = ticks
