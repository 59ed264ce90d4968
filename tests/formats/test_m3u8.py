"""Playlists against the `m3u8` package, which must read what was meant, and against tables of exact text."""

from fractions import Fraction

import m3u8
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.formats.m3u8 import (
    PlaylistType,
    Segment,
    Variant,
    media_playlist,
    multivariant,
    target_duration,
)
from oxidecast.media import LocalProtocolError

SECOND = 90_000


class MediaPlaylistTests(SynchronousTestCase):
    def test_a_live_window(self) -> None:
        first = Segment("s41.m4s", 2 * SECOND, map="init1.mp4", utc=1_700_000_000.25)
        second = Segment("s42.m4s", 180_300, map="init1.mp4", utc=1_700_000_002.25)
        self.assertEqual(
            media_playlist([first, second], target_duration=2, media_sequence=41, independent_segments=True),
            "#EXTM3U\n"
            "#EXT-X-VERSION:6\n"
            "#EXT-X-TARGETDURATION:2\n"
            "#EXT-X-MEDIA-SEQUENCE:41\n"
            "#EXT-X-INDEPENDENT-SEGMENTS\n"
            '#EXT-X-MAP:URI="init1.mp4"\n'
            "#EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:20.250Z\n"
            "#EXTINF:2.0,\n"
            "s41.m4s\n"
            "#EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:22.250Z\n"
            "#EXTINF:2.003333333,\n"
            "s42.m4s\n",
        )

    def test_a_new_map_stands_between_its_discontinuity_and_its_segment(self) -> None:
        before = Segment("1.m4s", SECOND, map="a.mp4")
        after = Segment("2.m4s", SECOND, map="b.mp4", discontinuity=True, gap=True)
        text = media_playlist([before, after], target_duration=1, discontinuity_sequence=3)
        self.assertIn("#EXT-X-DISCONTINUITY-SEQUENCE:3\n", text)
        self.assertTrue(
            text.endswith(
                '1.m4s\n#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI="b.mp4"\n#EXT-X-GAP\n#EXTINF:1.0,\n2.m4s\n'
            )
        )

    def test_the_first_segment_of_a_window_brings_its_map_again(self) -> None:
        segments = [Segment(f"{n}.m4s", SECOND, map="a.mp4") for n in range(3)]
        text = media_playlist(segments[1:], target_duration=1, media_sequence=1)
        self.assertEqual(text.count("#EXT-X-MAP"), 1)
        self.assertLess(text.index("#EXT-X-MAP"), text.index("1.m4s"))

    def test_transport_streams_need_no_map_and_version_3(self) -> None:
        text = media_playlist([Segment("1.ts", SECOND)], target_duration=1)
        self.assertNotIn("MAP", text)
        self.assertIn("#EXT-X-VERSION:3\n", text)

    def test_an_ended_recording(self) -> None:
        playlist = m3u8.loads(
            media_playlist(
                [Segment("1.ts", SECOND)],
                target_duration=1,
                playlist_type=PlaylistType.VOD,
                start=-1.5,
                ended=True,
            )
        )
        self.assertTrue(playlist.is_endlist)
        self.assertEqual(playlist.playlist_type, "vod")
        self.assertEqual(playlist.start.time_offset, -1.5)

    def test_an_empty_playlist_is_a_playlist(self) -> None:
        self.assertEqual(m3u8.loads(media_playlist([], target_duration=4)).target_duration, 4)

    def test_a_segment_longer_than_the_target_is_refused(self) -> None:
        for ticks, target in [(225_000 - 1, 2), (225_000, 3), (45_000 - 1, 1)]:
            with self.subTest(ticks=ticks):
                media_playlist([Segment("1.ts", ticks)], target_duration=target)
        with self.assertRaisesRegex(LocalProtocolError, "2.5 s exceeds EXT-X-TARGETDURATION 2"):
            media_playlist([Segment("1.ts", 225_000)], target_duration=2)

    def test_target_duration_allows_the_longest_segment(self) -> None:
        for ticks, target in [(0, 1), (SECOND, 1), (134_999, 1), (135_000, 2), (180_000, 2), (8 * SECOND, 8)]:
            self.assertEqual(target_duration(ticks), target)

    def test_what_a_segment_cannot_say_is_refused(self) -> None:
        for keywords in [
            {"uri": "", "duration": 1},
            {"uri": "a", "duration": -1},
            {"uri": "a", "duration": 1, "utc": float("inf")},
            {"uri": "a", "duration": 1, "utc": float("nan")},
            {"uri": "a", "duration": 1, "utc": 1e300},
        ]:
            with self.subTest(keywords=keywords), self.assertRaises(LocalProtocolError):
                Segment(**keywords)

    def test_a_segment_is_rendered_once(self) -> None:
        segment = Segment("1.ts", SECOND)
        self.assertIs(segment.lines, segment.lines)
        self.assertIn(segment.lines, media_playlist([segment], target_duration=1))

    @given(st.lists(st.integers(1, 20 * SECOND), min_size=1, max_size=200))
    @settings(max_examples=50, deadline=None)
    def test_durations_add_up_to_the_tick(self, durations: list[int]) -> None:
        segments = [Segment(f"{n}.ts", ticks) for n, ticks in enumerate(durations)]
        playlist = m3u8.loads(media_playlist(segments, target_duration=20))
        total = sum(Fraction(str(segment.duration)) for segment in playlist.segments)
        self.assertEqual(round(total * SECOND), sum(durations))

    @given(
        st.lists(
            st.builds(
                Segment,
                uri=st.integers(0, 10**9).map("s{}.m4s".format),
                duration=st.integers(1, 6 * SECOND),
                map=st.sampled_from(["i1.mp4", "i2.mp4"]),
                utc=st.none() | st.integers(0, 4 * 10**12).map(lambda ms: ms / 1000),
                discontinuity=st.booleans(),
                gap=st.booleans(),
            ),
            max_size=30,
        ),
        st.integers(0, 2**53),
        st.integers(0, 2**53),
        st.booleans(),
    )
    @settings(max_examples=50, deadline=None)
    def test_what_was_meant_is_read(
        self, segments: list[Segment], sequence: int, discontinuities: int, ended: bool
    ) -> None:
        playlist = m3u8.loads(
            media_playlist(
                segments,
                target_duration=6,
                media_sequence=sequence,
                discontinuity_sequence=discontinuities,
                ended=ended,
            )
        )
        self.assertEqual(playlist.media_sequence or 0, sequence)
        self.assertEqual(playlist.discontinuity_sequence or 0, discontinuities)
        self.assertEqual(playlist.is_endlist, ended)
        self.assertEqual(len(playlist.segments), len(segments))
        for read, meant in zip(playlist.segments, segments, strict=True):
            self.assertEqual(read.uri, meant.uri)
            self.assertEqual(round(read.duration * SECOND), meant.duration)
            self.assertEqual(read.init_section.uri, meant.map)
            self.assertEqual(read.discontinuity, meant.discontinuity)
            self.assertEqual(bool(read.gap_tag), meant.gap)
            if meant.utc is not None:
                self.assertEqual(round(read.program_date_time.timestamp() * 1000), round(meant.utc * 1000))


class MultivariantTests(SynchronousTestCase):
    def test_a_ladder(self) -> None:
        text = multivariant(
            [
                Variant(
                    "720p/playlist.m3u8",
                    2_800_000,
                    ("avc1.64001f", "mp4a.40.2"),
                    average_bandwidth=2_500_000,
                    width=1280,
                    height=720,
                    frame_rate=Fraction(30_000, 1001),
                ),
                Variant("audio/playlist.m3u8", 140_000, ["mp4a.40.2"]),
            ]
        )
        self.assertEqual(
            text,
            "#EXTM3U\n"
            "#EXT-X-STREAM-INF:BANDWIDTH=2800000,AVERAGE-BANDWIDTH=2500000,"
            'CODECS="avc1.64001f,mp4a.40.2",RESOLUTION=1280x720,FRAME-RATE=29.970\n'
            "720p/playlist.m3u8\n"
            '#EXT-X-STREAM-INF:BANDWIDTH=140000,CODECS="mp4a.40.2"\n'
            "audio/playlist.m3u8\n",
        )

    def test_the_oracle_reads_it(self) -> None:
        (variant,) = m3u8.loads(multivariant([Variant("v", 9, ["a", "b"], 8, 16, 8, Fraction(50))])).playlists
        info = variant.stream_info
        self.assertEqual((info.bandwidth, info.average_bandwidth, info.codecs), (9, 8, "a,b"))
        self.assertEqual((info.resolution, info.frame_rate, variant.uri), ((16, 8), 50.0, "v"))


class HostileTextTests(SynchronousTestCase):
    """No name from outside can end its line, its quotes, or become a tag."""

    def test_uris_are_percent_encoded(self) -> None:
        for hostile, written in [
            ('a"b', "a%22b"),
            ("a\nb", "a%0Ab"),
            ("#EXT-X-ENDLIST", "%23EXT-X-ENDLIST"),
            (" a", "%20a"),
            ("é\u2028", "%C3%A9%E2%80%A8"),
            ("%20?a=1&b=[2]#c", "%20?a=1&b=[2]#c"),
            ("\ud800", "?"),
        ]:
            with self.subTest(hostile=hostile):
                self.assertIn(f"\n{written}\n", multivariant([Variant(hostile, 1)]))

    @given(st.text(min_size=1))
    @settings(max_examples=100, deadline=None)
    def test_any_text_stays_on_its_line_and_in_its_quotes(self, text: str) -> None:
        playlist = multivariant([Variant(text, 1, [text])])
        self.assertEqual(len(playlist.splitlines()), 3)
        _, info, uri = playlist.splitlines()
        self.assertEqual(info.count('"'), 2)
        self.assertFalse(uri.startswith("#"))
        self.assertEqual(uri, uri.strip())
        media = media_playlist([Segment(text, SECOND, map=text)], target_duration=1)
        (segment,) = m3u8.loads(media).segments
        self.assertEqual(segment.uri, segment.init_section.uri)
