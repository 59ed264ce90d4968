"""A rendition of the ladder beside its source: what it lacks is told as gaps, and discontinuities have the same
numbers."""

from collections.abc import Callable, Collection
from itertools import pairwise
from typing import Any

import m3u8
import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.media import TICKS, Packet, Track
from oxidecast.outputs.hls.rendition import LEAST_GAP, QUIET, HLSRendition
from oxidecast.outputs.hls.segmenter import Cuts
from oxidecast.outputs.hls.settings import HlsSettings
from oxidecast.streams.rendition import Rendition
from oxidecast.streams.settings import StreamsSettings
from tests.outputs.hls.test_rendition import SMALL, VIDEO, FakeStream
from tests.streams.stage import PICTURE

TINY = msgspec.structs.replace(VIDEO, width=16, height=16)
BODY = b"\0\0\0\5\x65xxxx"


class FollowingCase(SynchronousTestCase):
    """Two renditions in step, until a test says otherwise."""

    def setUp(self) -> None:
        self.faults: list[BaseException] = []
        self.stream: Any = FakeStream()
        self.cuts = Cuts()
        self.at = TICKS
        self.tracks: dict[str, Track] = {"source": VIDEO, "small": SMALL}
        self.feeds: dict[str, Rendition] = {}
        self.hls: dict[str, HLSRendition] = {}
        self.begin("source")
        self.begin("small")

    def tearDown(self) -> None:
        self.assertEqual(self.faults, [])

    def begin(self, name: str, after: HLSRendition | None = None) -> None:
        feed = self.feeds[name] = Rendition(
            name,
            (self.tracks[name],),
            StreamsSettings(),
            lambda: 0.0,
            lambda owner, error: self.faults.append(error),
            lambda owner, seconds: None,
        )
        self.hls[name] = HLSRendition(
            self.stream, feed, HlsSettings(playlist_length=24), None, self.moved(name), self.cuts, after=after
        )

    def moved(self, name: str) -> Callable[[], None]:
        def tell() -> None:
            if name == "source" and "small" in self.hls:
                self.hls["small"].source_moved()

        return tell

    def send(self, seconds: float, *names: str, key: bool = True, gop: int = 60) -> None:
        for number in range(round(seconds * 30)):
            for name in names or ("source", "small"):
                track, keyframe = self.tracks[name], number % gop == 0 and (key or number > 0)
                self.feeds[name].push(Packet(track, self.at, self.at, PICTURE, keyframe, BODY))
            self.at += PICTURE

    def restart(self, name: str, track: Track) -> None:
        self.tracks[name] = track
        self.feeds[name].restart((track,), "another size")

    def segments(self, name: str) -> list[Any]:
        playlist = self.hls[name].playlist
        assert playlist is not None
        parsed: Any = m3u8.loads(bytes(playlist.body).decode())
        number = parsed.discontinuity_sequence
        for segment in parsed.segments:
            number += bool(segment.discontinuity)
            segment.number = number
        return list(parsed.segments)

    def marks(self, name: str) -> str:
        """A letter a segment: gap or segment, a bar before it where there is a discontinuity."""
        return "".join(
            "|" * bool(one.discontinuity) + ("g" if one.gap_tag else "s") for one in self.segments(name)
        )

    def assert_in_step(self) -> None:
        """Time goes on without holes, and at each time both have the same number."""
        source = self.segments("source")
        for before, after in pairwise(self.segments("small")):
            apart = (after.program_date_time - before.program_date_time).total_seconds()
            if not after.discontinuity:
                self.assertLess(abs(apart - before.duration), LEAST_GAP / TICKS + 0.001)
        for one in self.segments("small"):
            same = [other for other in source if other.program_date_time <= one.program_date_time]
            if same:
                self.assertEqual(one.number, same[-1].number)


class TestFollowing(FollowingCase):
    def test_in_step_there_is_nothing_to_tell(self) -> None:
        self.send(8.1)
        self.assertEqual((self.marks("source"), self.marks("small")), ("ssss", "ssss"))
        self.assert_in_step()

    def test_what_is_missing_is_told_in_the_sources_segments(self) -> None:
        self.send(5)
        self.send(4, "source", key=False)
        self.send(5.1)
        self.assertEqual(self.marks("small").strip("s")[0], "g")
        self.assertEqual(sum(one.duration for one in self.segments("small") if one.gap_tag), 4)
        self.assertNotIn("|", self.marks("small"))
        self.assert_in_step()

    def test_gaps_are_parts_of_segments_where_it_stopped_and_began_within(self) -> None:
        self.send(4)
        self.send(1)
        self.send(3, "source", key=False, gop=30)
        self.send(5.1, gop=30)
        durations = [one.duration for one in self.segments("small") if one.gap_tag]
        self.assertEqual(durations, [1, 2])
        self.assert_in_step()

    def test_gaps_cannot_be_asked_for_and_need_no_other_initialisation(self) -> None:
        self.send(5)
        self.send(4, "source", key=False)
        self.send(5.1)
        segments = self.segments("small")
        self.assertEqual(len({one.init_section.uri for one in segments}), 1)
        for one in segments:
            self.assertEqual(one.uri in self.hls["small"].files, not one.gap_tag)

    def test_a_new_beginning_of_the_source_within_a_gap_keeps_its_number(self) -> None:
        self.send(5)
        self.send(1, "source", key=False)
        for track in (TINY, VIDEO):
            self.restart("source", track)
            self.send(3, "source")
        self.restart("small", SMALL)
        self.send(4.1)
        self.assertEqual(self.marks("small").count("|"), 2)
        self.assertEqual(self.segments("small")[-1].number, self.segments("source")[-1].number)
        self.assert_in_step()

    def test_what_is_gone_is_told_while_it_is(self) -> None:
        self.send(6.1)
        self.send(2 * QUIET - 0.3, "source", key=False)
        self.assertEqual(self.marks("small"), "sss")
        before = self.at
        self.send(6.1, "source")
        self.assertEqual(self.marks("small"), "ssssggggg"[: len(self.marks("small"))])
        self.assertGreater(len(self.marks("small")), 6)
        # What comes too late then is left out.
        now, self.at = self.at, before
        told = len(self.segments("small"))
        self.send(3, "small")
        self.assertEqual(len(self.segments("small")), told)
        self.at = now
        self.send(6.1)
        self.assertEqual(self.marks("small")[-2:], "ss")
        self.assert_in_step()

    def test_it_is_gone_after_a_new_beginning(self) -> None:
        self.send(5)
        for name, track in (("source", VIDEO), ("small", SMALL)):
            self.restart(name, track)
        self.send(9, "source")
        self.assertIn("g", self.marks("small"))
        self.send(6.1)
        self.assert_in_step()

    def test_what_is_only_late_is_waited_for(self) -> None:
        self.send(4.1)
        late = self.at
        for _ in range(10):
            self.send(3, "source")
            now, self.at = self.at, late
            self.send(1, "small", gop=30)
            late, self.at = self.at, now
        self.assertNotIn("g", self.marks("small"))

    def test_long_groups_of_a_rendition_are_nobodys_fault(self) -> None:
        self.send(5)
        self.send(9, "source", gop=30)
        self.send(5, gop=30)
        self.assertEqual([key for key in self.stream.notices if "small" in key], [])

    def test_a_short_hole_is_a_stutter(self) -> None:
        self.send(5)
        self.send(0.3, "source", key=False)
        self.send(5, gop=30)
        self.assertNotIn("g", self.marks("small"))
        self.assert_in_step()

    def test_one_that_begins_later_has_the_sources_number(self) -> None:
        self.send(3)
        for _ in range(2):
            self.restart("source", VIDEO)
            self.send(3, "source")
        self.begin("small")
        self.send(6.1)
        self.assertEqual(self.marks("small"), "sss")
        self.assert_in_step()

    def test_one_that_comes_again(self) -> None:
        self.send(5)
        before = self.hls["small"]
        self.send(6, "source", key=False)
        self.restart("source", VIDEO)
        self.begin("small", after=before)
        self.send(6.1)
        self.assertEqual(self.marks("small"), "|sss")
        self.assert_in_step()

    def test_its_own_tracks_change(self) -> None:
        self.send(5)
        self.restart("small", TINY)
        self.send(4.1)
        self.restart("source", VIDEO)
        self.restart("small", TINY)
        self.send(4.1)
        self.assertEqual(self.marks("small").count("|"), 2)
        self.assertEqual(self.marks("source").count("|"), 1)

    def test_a_restart_that_changes_nothing_is_none(self) -> None:
        self.send(5)
        self.restart("small", SMALL)
        self.send(4.1)
        self.assertNotIn("|", self.marks("small"))
        self.assert_in_step()

    def test_the_source_falls_silent(self) -> None:
        self.send(5)
        self.at += 9 * TICKS
        self.send(5.1)
        self.assertEqual((self.marks("source"), self.marks("small")), ("sss|ss", "sss|ss"))
        self.assert_in_step()

    def test_a_long_absence_leaves_nothing_else(self) -> None:
        self.send(5)
        self.send(1200, "source", key=False)
        self.send(4.1)
        self.assertEqual(set(self.marks("small")[:-2]), {"g"})
        self.assertLess(len(self.hls["small"]._segments), 60)
        self.assert_in_step()

    def test_pictures_that_are_lost_change_no_times(self) -> None:
        """With B-frames an encoder makes `dts` of the pictures that it got, so losses show there at other places."""
        for lost in ((), range(54, 60), range(61, 66), range(140, 150), range(85, 95)):
            self.setUp()
            for count in (150, 180):
                self.send_reordered(count, lost)
            self.send(2.1)
            times = {
                name: [(one.program_date_time, one.duration) for one in self.segments(name)]
                for name in ("source", "small")
            }
            self.assertEqual(times["small"], times["source"], lost)
            self.assertEqual((self.marks("source"), self.marks("small")), ("sss|sss|s", "sss|sss|s"), lost)

    def send_reordered(self, count: int, lost: Collection[int]) -> None:
        """The source up to a new beginning, and what x264 with two B-frames makes of it, half a second later."""
        kept = [self.at + number * PICTURE for number in range(count) if number not in lost]
        decoded = [kept[0] - 2 * PICTURE, kept[0] - PICTURE, *kept]
        made = [
            Packet(
                self.tracks["small"], dts, pts, following - dts, (pts - kept[0]) % (60 * PICTURE) == 0, BODY
            )
            for pts, dts, following in zip(kept, decoded, decoded[1:], strict=False)
        ]
        for number in range(count):
            key = number % 60 == 0
            self.feeds["source"].push(Packet(VIDEO, self.at, self.at, PICTURE, key, BODY))
            self.at += PICTURE
            while made and made[0].pts < self.at - TICKS // 2:
                self.feeds["small"].push(made.pop(0))
        self.restart("source", self.tracks["source"])
        for packet in made:
            self.feeds["small"].push(packet)
        self.restart("small", self.tracks["small"])

    @settings(deadline=None, max_examples=50)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["both", "source", "restart", "late restart", "silence"]),
                st.integers(15, 90),
                st.sampled_from([15, 30, 60]),
            ),
            max_size=12,
        )
    )
    def test_whatever_happens_they_stay_in_step(self, steps: list[tuple[str, int, int]]) -> None:
        self.setUp()
        self.send(5)
        owed = False
        for what, pictures, gop in steps:
            if what == "silence":
                self.at += pictures * TICKS // 5
                continue
            if what in ("restart", "late restart"):
                self.restart("source", VIDEO)
                owed = True
            if what in ("source", "late restart"):
                self.send(pictures / 30, "source", gop=gop)
                continue
            if owed:
                self.restart("small", SMALL)
                owed = False
            self.send(pictures / 30, gop=gop)
        if owed:
            self.restart("small", SMALL)
        self.send(6.1)
        self.assert_in_step()
