"""Raw stamps in, one timeline out: cases as tables, and what must hold for any input."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.media.packet import TICKS
from oxidecast.media.timestamps import (
    GAP,
    JITTER,
    MAX_COMPOSITION,
    PATIENCE,
    REORDER,
    Rebaser,
    SampleClock,
    Unwrapper,
)
from tests.media.fuzz import FUZZ

MS = 90
VIDEO, AUDIO = 1, 2
FRAME = 3000  # 30 frames a second
SOUND = 1920  # 1024 samples at 48 kHz
WRAP = 2**32

UNWRAPPED = [
    ([0, 33, 66], [0, 33, 66]),
    ([WRAP - 10, 5, 20], [WRAP - 10, WRAP + 5, WRAP + 20]),
    ([WRAP - 10, 5, WRAP - 3, 20], [WRAP - 10, WRAP + 5, WRAP - 3, WRAP + 20]),
    ([5, WRAP - 3, 8], [5, -3, 8]),
    ([2**31, 2**31 + 2**30, 5], [2**31, 2**31 + 2**30, WRAP + 5]),
]


class UnwrapperTests(SynchronousTestCase):
    def test_cases(self) -> None:
        for raw, expected in UNWRAPPED:
            unwrap = Unwrapper(32)
            self.assertEqual([unwrap(value) for value in raw], expected)

    @FUZZ
    @given(
        st.integers(0, WRAP - 1), st.lists(st.integers(-(2**31), 2**31 - 1)), st.sampled_from([16, 32, 33])
    )
    def test_any_walk_in_steps_below_half_the_range_is_found_again(
        self, start: int, steps: list[int], bits: int
    ) -> None:
        at = start % 2**bits
        unwrap = Unwrapper(bits)
        self.assertEqual(unwrap(at), at)
        for step in steps:
            at += step % 2 ** (bits - 1)
            self.assertEqual(unwrap(at % 2**bits), at)


def exact(number: int, rate: int = 44100, samples: int = 1024) -> int:
    return number * samples * TICKS // rate


class SampleClockTests(SynchronousTestCase):
    def test_millisecond_stamps_become_exact_times_for_ever(self) -> None:
        clock = SampleClock(44100, 1024)
        for number in range(20_000):  # eight minutes
            cut = exact(number) // MS * MS
            self.assertEqual(clock.stamp(cut), (exact(number), exact(number + 1) - exact(number)))

    def test_stamps_that_jitter_by_a_millisecond_are_not_followed(self) -> None:
        clock = SampleClock(48000, 1024)
        jitter = (0, MS, 0, -MS, 0, 0, MS)
        times = [clock.stamp(exact(n, 48000) // MS * MS + jitter[n % 7])[0] for n in range(2_000)]
        self.assertEqual({b - a for a, b in pairwise(times)}, {SOUND})

    def test_a_lost_frame_is_followed_at_once(self) -> None:
        clock = SampleClock(48000, 1024)
        times = [clock.stamp(number * SOUND)[0] for number in (0, 1, 2, 4, 5)]
        self.assertEqual(times, [0, SOUND, 2 * SOUND, 4 * SOUND, 5 * SOUND])

    def test_a_gap_is_followed_at_once(self) -> None:
        clock = SampleClock(48000, 1024)
        clock.stamp(0)
        self.assertEqual(clock.stamp(2 * TICKS), (2 * TICKS, SOUND))

    def test_bursts_with_one_stamp_come_out_evenly(self) -> None:
        clock = SampleClock(48000, 1024)
        times = [clock.stamp(number // 3 * 3 * SOUND)[0] for number in range(300)]
        self.assertEqual(times, [number * SOUND for number in range(300)])

    def test_stamps_that_fall_behind_for_good_are_followed_without_turning_back(self) -> None:
        clock = SampleClock(48000, 1024)
        times = [clock.stamp(number * SOUND)[0] for number in range(10)]
        times += [clock.stamp(number * SOUND - 2 * TICKS)[0] for number in range(10, 300)]
        self.assertEqual(times, sorted(set(times)))
        self.assertLessEqual(times[-1] - (299 * SOUND - 2 * TICKS), PATIENCE)

    def test_a_source_clock_that_runs_fast_or_slow_is_followed_in_steps_nobody_hears(self) -> None:
        for millionths in (-300, -50, 50, 300):
            clock, last, worst = SampleClock(48000, 1024), -SOUND, 0
            for number in range(40_000):
                raw = number * SOUND * (1_000_000 + millionths) // 1_000_000 // MS * MS
                dts, _ = clock.stamp(raw)
                self.assertLessEqual(abs(dts - last - SOUND), 4)
                last, worst = dts, max(worst, abs(raw - dts))
            self.assertLess(worst, 2 * JITTER)

    def test_packets_of_varying_length_are_counted_as_they_are(self) -> None:
        clock = SampleClock(48000, 960)
        self.assertEqual(clock.stamp(0, 480), (0, 900))
        self.assertEqual(clock.stamp(900, 2880), (900, 5400))
        self.assertEqual(clock.stamp(6300), (6300, 1800))

    def test_a_new_clock_goes_on_after_the_old_one(self) -> None:
        clock = SampleClock(44100, 1024, after=5000)
        self.assertEqual(clock.stamp(4000)[0], 5001)

    @FUZZ
    @given(
        st.lists(st.one_of(st.integers(0, 4000), st.integers(1, 10**6)), max_size=300),
        st.sampled_from([(44100, 1024), (48000, 960), (22050, 2048), (8000, 1024), (96000, 1), (48000, 120)]),
    )
    def test_times_rise_strictly_and_stay_near_rising_stamps(
        self, steps: list[int], kind: tuple[int, int]
    ) -> None:
        clock, raw, last = SampleClock(*kind), 0, -1
        drift = JITTER + kind[1] * TICKS // kind[0] // 2
        for step in steps:
            raw += step
            dts, duration = clock.stamp(raw)
            self.assertGreater(dts, last)
            self.assertGreaterEqual(duration, 1)
            self.assertLessEqual(raw - dts, drift)
            self.assertLessEqual(dts - raw, PATIENCE + len(steps))
            last = dts

    @FUZZ
    @given(st.lists(st.integers(-(10**7), 10**7), max_size=200))
    def test_times_rise_strictly_whatever_the_stamps(self, stamps: list[int]) -> None:
        clock = SampleClock(44100, 1024)
        times = [clock.stamp(raw)[0] for raw in stamps]
        self.assertEqual(times, sorted(set(times)))


# What one track of 30 frames a second sends, and what comes out, both counted from the first packet.
ONE_TRACK = [
    ("steady", [0, 3000, 6000], [0, 3000, 6000]),
    ("a gap below the bound is carried", [0, 3000, 3000 + GAP], [0, 3000, 3000 + GAP]),
    ("a gap above the bound is closed", [0, 3000, 6001 + GAP, 9001 + GAP], [0, 3000, 6000, 9000]),
    ("the clock starts anew", [900000, 903000, 0, 3000], [0, 3000, 6000, 9000]),
    ("jitter backwards", [0, 3000, 2900, 6000], [0, 3000, 3001, 6000]),
    ("the same stamp again", [0, 3000, 3000, 6000], [0, 3000, 3001, 6000]),
    ("as far back as jitter goes", [0, 30000, 30000 - REORDER, 33000], [0, 30000, 30001, 33000]),
    ("one tick farther", [0, 30000, 29999 - REORDER, 32999 - REORDER], [0, 30000, 33000, 36000]),
    ("there and back", [0, 3000, 10**9, 6000, 9000], [0, 3000, 6000, 9000, 12000]),
]


class OneTrackTests(SynchronousTestCase):
    def test_cases(self) -> None:
        for name, raw, expected in ONE_TRACK:
            rebaser = Rebaser(at=0)
            found = [rebaser.stamp(VIDEO, dts, dts, FRAME)[0] for dts in raw]
            self.assertEqual(found, expected, name)

    def test_a_jump_is_told_once(self) -> None:
        rebaser = Rebaser()
        told = [rebaser.stamp(VIDEO, dts, dts, FRAME)[2] for dts in (0, 3000, 10**9, 10**9 + 3000)]
        self.assertEqual(told, [False, False, True, False])

    def test_pts_keeps_its_distance_and_never_lies_before_dts(self) -> None:
        rebaser = Rebaser(at=100)
        self.assertEqual(rebaser.stamp(VIDEO, 0, 6000, FRAME), (100, 6100, False))
        self.assertEqual(rebaser.stamp(VIDEO, 3000, 2000, FRAME), (3100, 3100, False))
        self.assertEqual(rebaser.stamp(VIDEO, 6000, 10**9, FRAME), (6100, 6100 + MAX_COMPOSITION, False))

    def test_the_first_packet_lands_where_it_is_told(self) -> None:
        self.assertEqual(Rebaser(at=777).stamp(VIDEO, -(10**12), -(10**12), FRAME)[0], 777)


def feed(rebaser: Rebaser, packets: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return [
        (track, rebaser.stamp(track, dts, dts, FRAME if track == VIDEO else SOUND)[0])
        for track, dts in packets
    ]


def interleaved(start: int, seconds: float, lead: int = 0) -> list[tuple[int, int]]:
    """Video and audio in the order of their times, where audio comes `lead` ticks early (or late)."""
    end = int(seconds * TICKS)
    packets = [(dts, VIDEO, dts) for dts in range(0, end, FRAME)]
    packets += [(dts - lead, AUDIO, dts) for dts in range(0, end, SOUND)]
    return [(track, start + dts) for _, track, dts in sorted(packets)]


class TwoTracksTests(SynchronousTestCase):
    def offsets(self, packets: list[tuple[int, int]], found: list[tuple[int, int]]) -> dict[int, int]:
        return {track: out - raw for (track, raw), (_, out) in zip(packets, found, strict=True)}

    def test_a_track_that_begins_earlier_keeps_its_distance(self) -> None:
        self.assertEqual(
            feed(Rebaser(), [(VIDEO, 1000), (AUDIO, 400)]), [(VIDEO, TICKS), (AUDIO, TICKS - 600)]
        )

    def test_no_time_is_negative(self) -> None:
        self.assertEqual(feed(Rebaser(at=0), [(VIDEO, 1000), (AUDIO, 400)]), [(VIDEO, 0), (AUDIO, 0)])

    def test_a_late_track_joins_the_base_of_the_other(self) -> None:
        packets = [(VIDEO, dts) for dts in range(0, 60 * TICKS, FRAME)] + [(AUDIO, 60 * TICKS)]
        self.assertEqual(feed(Rebaser(), packets)[-1], (AUDIO, 61 * TICKS))

    def test_a_late_track_with_a_clock_of_its_own_is_put_beside_the_other(self) -> None:
        packets = [(VIDEO, dts) for dts in range(0, 60 * TICKS, FRAME)] + [(AUDIO, 0)]
        self.assertEqual(feed(Rebaser(), packets)[-1], (AUDIO, 61 * TICKS))

    def test_packets_of_the_old_base_between_those_of_the_new_do_not_flip_the_bases(self) -> None:
        rebaser = Rebaser()
        before = interleaved(10**9, 2)
        feed(rebaser, before)
        end = 10**9 + 2 * TICKS
        mixed = [
            (VIDEO, 0),
            (AUDIO, end + 60),
            (VIDEO, 3000),
            (AUDIO, end + 60 + SOUND),
            (AUDIO, 4000),
            (VIDEO, 6000),
        ]
        jumps = [
            rebaser.stamp(track, dts, dts, FRAME if track == VIDEO else SOUND)[2] for track, dts in mixed
        ]
        self.assertEqual(jumps, [True, False, False, False, True, False])

    def test_a_track_that_paused_comes_back_in_sync(self) -> None:
        packets = (
            interleaved(0, 1)
            + [(AUDIO, dts) for dts in range(TICKS, 20 * TICKS, SOUND)]
            + [(VIDEO, 20 * TICKS)]
        )
        self.assertEqual(feed(Rebaser(), packets)[-1], (VIDEO, 21 * TICKS))

    def test_a_jump_near_the_gap_bound_keeps_sync(self) -> None:
        for jump in range(GAP - 3 * FRAME, GAP + 3 * FRAME, 500):
            packets = interleaved(0, 1) + interleaved(TICKS + jump, 1)
            offsets = self.offsets(packets, feed(Rebaser(), packets))
            self.assertEqual(offsets[VIDEO], offsets[AUDIO], jump)

    def test_a_new_session_lands_where_it_is_told_with_its_sync(self) -> None:
        rebaser = Rebaser()
        feed(rebaser, interleaved(10**9, 1))
        rebaser.start(at=10 * TICKS)
        self.assertEqual(
            feed(rebaser, [(AUDIO, 500), (VIDEO, 1000)]), [(AUDIO, 10 * TICKS), (VIDEO, 10 * TICKS + 500)]
        )

    def test_a_new_session_never_begins_before_the_end_of_the_old_one(self) -> None:
        rebaser = Rebaser()
        feed(rebaser, interleaved(0, 1))
        end = rebaser.end
        rebaser.start(at=0)
        self.assertEqual(feed(rebaser, [(VIDEO, 0)]), [(VIDEO, end)])

    def test_nor_before_it_was_shown(self) -> None:
        """With B-frames the last pictures are shown later than they are decoded, and a new encoder may have none."""
        rebaser = Rebaser()
        for number, ahead in enumerate((2, 5, 1, 0)):
            rebaser.stamp(VIDEO, number * FRAME, (number + ahead) * FRAME, FRAME)
        self.assertEqual(rebaser.end, TICKS + 7 * FRAME)
        rebaser.start(at=0)
        self.assertEqual(rebaser.stamp(VIDEO, 0, 0, FRAME)[1], TICKS + 7 * FRAME)

    @FUZZ
    @given(
        st.lists(
            st.tuples(
                st.one_of(st.integers(-(10**10), -TICKS), st.integers(0, 10**10)),
                st.integers(200, 2500).map(lambda ms: ms / 1000),
            ),
            min_size=1,
            max_size=4,
        ),
        st.integers(-TICKS // 3, TICKS // 3),
    )
    def test_sync_is_kept_over_any_common_jumps(self, sessions: list[tuple[int, float]], lead: int) -> None:
        rebaser, start = Rebaser(), 0
        last = {VIDEO: -1, AUDIO: -1}
        for jump, seconds in sessions:
            packets = interleaved(start, seconds + 0.4, lead)
            found = feed(rebaser, packets)
            offsets = self.offsets(packets, found)
            self.assertLessEqual(abs(offsets[VIDEO] - offsets[AUDIO]), FRAME)
            for track, out in found:
                self.assertGreater(out, last[track])
                last[track] = out
            start += int((seconds + 0.4) * TICKS) + jump

    @FUZZ
    @given(st.integers(-5000, 5000), st.integers(1, 3000))
    def test_wraps_of_32_bit_milliseconds_are_not_seen(self, before: int, step: int) -> None:
        unwrap, rebaser = Unwrapper(32), Rebaser(at=0)
        at, out = WRAP - 5000 + before, []
        for _ in range(20):
            raw = unwrap(at % WRAP) * MS
            out.append(rebaser.stamp(VIDEO, raw, raw, step * MS)[0])
            at += step
        self.assertEqual(out, [number * step * MS for number in range(20)])

    @FUZZ
    @given(
        st.lists(
            st.tuples(
                st.sampled_from([1, 2, 3]),
                st.one_of(st.integers(-(2**64), 2**64), st.integers(-100_000, 100_000)),
                st.integers(-(10**6), 10**6),
                st.integers(-5, 10**7),
                st.booleans(),
            ),
            max_size=120,
        )
    )
    def test_whatever_comes_dts_rises_pts_follows_and_nothing_leaps(self, packets) -> None:
        rebaser, last = Rebaser(), {}
        for track, dts, composition, duration, restart in packets:
            if restart and duration % 7 == 0:
                rebaser.start(rebaser.end)
            end = rebaser.end
            out, pts, _ = rebaser.stamp(track, dts, dts + composition, duration)
            self.assertGreater(out, last.get(track, -1))
            self.assertTrue(out <= pts <= out + MAX_COMPOSITION)
            self.assertLessEqual(out, max(end, TICKS) + GAP)
            last[track] = out
