"""Playlists and segments of one rendition, read back by an independent parser."""

from types import SimpleNamespace
from typing import Any

import m3u8
import msgspec
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from oxidecast.interfaces import ISubscriber
from oxidecast.media import TICKS, Codec, Packet, Track
from oxidecast.outputs.hls.rendition import EPOCH, KEPT, LEAST, HLSRendition
from oxidecast.outputs.hls.settings import HlsSettings
from oxidecast.streams.rendition import Rendition
from oxidecast.streams.settings import StreamsSettings
from tests.formats.material import stream as material
from tests.streams.stage import PICTURE, SOUND

VIDEO, AUDIO = material(Codec.H264, frames=2)[0], material(Codec.AAC, frames=2)[0]
SMALL = msgspec.structs.replace(VIDEO, width=32, height=32)
MP3 = Track(id=2, codec=Codec.MP3, extradata=b"", codec_string="mp4a.6B", sample_rate=44_100, channels=2)
FIRST = 2 * (1_800_000_000 - EPOCH)
"""The media sequence number of the first segment."""


class FakeStream:
    """What a rendition asks of its stream."""

    def __init__(self, private: bool = False) -> None:
        self.id, self.name, self.started_at = "id", "show", 1_800_000_000.0
        self.info = SimpleNamespace(is_private=private)
        self.notices: dict[str, str] = {}

    def utc(self, ticks: int) -> float:
        return self.started_at + ticks / TICKS

    def notice(self, key: str, sentence: str | None) -> None:
        if sentence is None:
            self.notices.pop(key, None)
        else:
            self.notices[key] = sentence


class RenditionCase(SynchronousTestCase):
    def make(self, *tracks: Track, private: bool = False, **settings: Any) -> HLSRendition:
        self.stream: Any = FakeStream(private)
        self.faults: list[BaseException] = []
        self.source = Rendition(
            "source",
            tracks or (VIDEO, AUDIO),
            StreamsSettings(),
            lambda: 0.0,
            lambda owner, error: self.faults.append(error),
            lambda owner, seconds: None,
        )
        self.updates = 0
        self.at = TICKS
        self.hls = HLSRendition(self.stream, self.source, HlsSettings(**settings), None, self.updated)
        return self.hls

    def updated(self) -> None:
        self.updates += 1

    def tearDown(self) -> None:
        self.assertEqual(self.faults, [])

    def send(self, seconds: float, gop: int = 60, size: int = 50, sounds: bool = True) -> None:
        video = next((track for track in self.source.tracks if track.is_video), None)
        audio = next((track for track in self.source.tracks if not track.is_video), None)
        body = (size - 4).to_bytes(4, "big") + b"\x65" + bytes(size - 5)
        sound = self.at
        for number in range(round(seconds * 30)):
            if video is not None:
                self.source.push(Packet(video, self.at, self.at, PICTURE, number % gop == 0, body))
            self.at += PICTURE
            while audio is not None and sounds and sound + SOUND <= self.at:
                self.source.push(Packet(audio, sound, sound, SOUND, True, b"sound"))
                sound += SOUND

    @property
    def text(self) -> str:
        assert self.hls.playlist is not None
        return bytes(self.hls.playlist.body).decode()

    @property
    def parsed(self) -> Any:
        return m3u8.loads(self.text)


class TestPlaylist(RenditionCase):
    def test_it_is_a_subscriber(self) -> None:
        verifyObject(ISubscriber, self.make())

    def test_there_is_none_before_the_first_segment(self) -> None:
        self.make()
        self.send(2)
        self.assertIsNone(self.hls.playlist)
        self.send(0.1)
        self.assertIsNotNone(self.hls.playlist)
        self.assertEqual(self.updates, 1)

    def test_every_name_in_it_can_be_asked_for(self) -> None:
        self.make()
        self.send(60)
        for segment in self.parsed.segments:
            self.assertIn(segment.uri, self.hls.files)
            self.assertIn(segment.init_section.uri, self.hls.files)

    def test_it_slides(self) -> None:
        self.make(playlist_length=4)
        self.send(20.1)
        playlist = self.parsed
        self.assertEqual(len(playlist.segments), 4)
        self.assertEqual(playlist.media_sequence, FIRST + 6)
        self.assertTrue(playlist.segments[0].uri.endswith("-6.m4s"))

    def test_durations_add_up_to_what_was_sent(self) -> None:
        self.make(playlist_length=300)
        self.send(600)
        self.source.end("over")
        total = sum(segment.duration for segment in self.parsed.segments)
        self.assertAlmostEqual(total, 600, places=4)

    def test_dates_are_those_of_the_media(self) -> None:
        self.make()
        self.send(20)
        first, second = self.parsed.segments[:2]
        self.assertEqual((second.program_date_time - first.program_date_time).total_seconds(), 2.0)

    def test_the_target_never_changes(self) -> None:
        self.make()
        targets = set()
        for gop in (60, 15, 90, 240, 7):
            self.send(12, gop)
            targets.add(self.parsed.target_duration)
            self.assertLess(max(segment.duration for segment in self.parsed.segments), 2.5)
        self.assertEqual(targets, {2})

    def test_long_groups_are_warned_of_and_not_called_independent(self) -> None:
        self.make()
        self.send(24, gop=240)
        self.assertFalse(self.parsed.is_independent_segments)
        self.assertIn("only every 8.0 s", self.stream.notices["hls:source:keyframes"])
        self.send(30, gop=60)
        self.assertTrue(self.parsed.is_independent_segments)

    def test_the_end_is_told_with_the_last_segment(self) -> None:
        self.make()
        self.send(5)
        count = len(self.parsed.segments)
        self.source.end("over")
        self.assertTrue(self.parsed.is_endlist)
        self.assertEqual(len(self.parsed.segments), count + 1)

    def test_a_stream_that_ends_before_its_first_segment_still_has_one(self) -> None:
        self.make()
        self.send(0.5)
        self.source.end("over")
        self.assertEqual((len(self.parsed.segments), self.parsed.is_endlist), (1, True))

    def test_a_stream_without_packets_ends_without_playlist(self) -> None:
        self.make()
        self.source.end("over")
        self.assertIsNone(self.hls.playlist)

    def test_caching(self) -> None:
        for private, scope in ((False, b"public"), (True, b"private")):
            self.make(private=private)
            self.send(5)
            assert self.hls.playlist is not None and self.hls.playlist.cache_control is not None
            self.assertTrue(self.hls.playlist.cache_control.startswith(scope))
            for name, answer in self.hls.files.items():
                self.assertEqual(answer.cache_control, scope + b", max-age=3600, immutable")
                self.assertEqual(answer.etag, name.encode())

    def test_each_update_has_a_tag_of_its_own(self) -> None:
        self.make()
        tags = set()
        for _ in range(5):
            self.send(4)
            tags.add(self.hls.playlist.etag)  # type: ignore[union-attr]
        self.source.end("over")
        tags.add(self.hls.playlist.etag)  # type: ignore[union-attr]
        self.assertEqual(len(tags), 6)

    def test_two_lives_of_a_stream_share_no_name(self) -> None:
        names = []
        for started in (1_800_000_000.0, 1_800_000_000.5):
            self.make()
            self.stream.started_at = started
            self.hls = HLSRendition(self.stream, self.source, HlsSettings(), None, self.updated)
            self.send(5)
            names.append(set(self.hls.files))
        self.assertEqual(names[0] & names[1], set())

    def test_a_later_life_of_a_stream_counts_on_from_higher_numbers(self) -> None:
        numbers = []
        for started in (1_800_000_000.0, 1_800_000_021.0):
            self.make()
            self.stream.started_at = started
            self.hls = HLSRendition(
                self.stream, self.source, HlsSettings(segment_duration=0.5), None, self.updated
            )
            self.send(20, gop=15)
            playlist = self.parsed
            numbers.append(
                (playlist.media_sequence + len(playlist.segments), playlist.discontinuity_sequence)
            )
        self.assertGreater(playlist.media_sequence, numbers[0][0])
        self.assertGreater(numbers[1][1], numbers[0][1])


class TestDiscontinuity(RenditionCase):
    def test_a_restart_is_one_with_an_initialisation_of_its_own(self) -> None:
        self.make()
        self.send(5)
        self.source.restart((SMALL, AUDIO), "another size")
        self.send(5)
        marks = [segment.discontinuity for segment in self.parsed.segments]
        self.assertEqual(marks, [False, False, False, True, False])
        inits = [segment.init_section.uri for segment in self.parsed.segments]
        self.assertEqual(len(set(inits)), 2)
        self.assertNotEqual(self.hls.files[inits[0]].body, self.hls.files[inits[-1]].body)

    def test_the_segment_before_a_restart_is_published_at_once(self) -> None:
        self.make()
        self.send(3)
        before = self.updates
        self.source.restart((VIDEO, AUDIO), "back")
        self.assertEqual(self.updates, before + 1)
        self.assertEqual(len(self.parsed.segments), 2)

    def test_two_restarts_without_media_are_one(self) -> None:
        self.make()
        self.send(3)
        for _ in range(2):
            self.source.restart((VIDEO, AUDIO), "back")
        self.send(3)
        self.assertEqual(sum(segment.discontinuity for segment in self.parsed.segments), 1)

    def test_a_restart_before_the_first_segment_is_none(self) -> None:
        self.make()
        self.source.restart((VIDEO, AUDIO), "back")
        self.send(3)
        self.assertEqual([segment.discontinuity for segment in self.parsed.segments], [False])

    def test_those_that_slid_out_are_counted(self) -> None:
        self.make(playlist_length=3)
        seen = []
        for _ in range(8):
            self.source.restart((VIDEO, AUDIO), "back")
            self.send(4.1)
            sequence = self.parsed.discontinuity_sequence or 0
            listed = sum(segment.discontinuity for segment in self.parsed.segments)
            seen.append(sequence + listed)
        self.assertEqual([sequence - seen[0] for sequence in seen], list(range(8)))

    def test_a_gap_in_the_media_is_one_in_the_same_generation(self) -> None:
        self.make()
        self.send(3)
        self.at += 20 * TICKS
        self.send(5)
        self.assertEqual(sum(segment.discontinuity for segment in self.parsed.segments), 1)
        self.assertEqual(len({segment.init_section.uri for segment in self.parsed.segments}), 1)

    def test_initialisations_go_with_the_last_segment_that_needs_them(self) -> None:
        self.make(playlist_length=3)
        for _ in range(20):
            self.source.restart((VIDEO, AUDIO), "back")
            self.send(4.1)
        inits = [name for name in self.hls.files if name.startswith("init-")]
        self.assertLessEqual(len(inits), 3 * KEPT)


class TestTracks(RenditionCase):
    def test_what_cannot_be_carried_is_named_and_the_rest_goes_on(self) -> None:
        self.make(VIDEO, MP3)
        self.send(5)
        self.assertEqual(self.stream.notices["hls:source:2"], "HLS (fmp4) cannot carry mp3; it is left out")
        self.assertEqual(self.hls.variant("x").codecs, [VIDEO.codec_string])

    def test_a_late_codec_that_cannot_be_carried_is_named_when_it_comes(self) -> None:
        self.make(VIDEO)
        self.send(3)
        self.assertEqual(self.stream.notices, {})
        self.source.restart((VIDEO, MP3), "the sound appeared")
        self.send(3)
        self.assertIn("hls:source:2", self.stream.notices)

    def test_the_notice_goes_with_the_track(self) -> None:
        self.make(VIDEO, MP3)
        self.source.restart((VIDEO,), "the encoder changed")
        self.assertEqual(self.stream.notices, {})

    def test_nothing_that_can_be_carried_makes_nothing(self) -> None:
        self.make(MP3)
        self.send(10)
        self.source.end("over")
        self.assertEqual((self.hls.playlist, self.hls.files), (None, {}))

    def test_sound_alone(self) -> None:
        self.make(AUDIO)
        self.send(10)
        self.assertEqual(len(self.parsed.segments), 4)
        self.assertEqual(self.hls.variant("x").width, 0)

    def test_pictures_alone(self) -> None:
        self.make(VIDEO)
        self.send(10)
        self.assertEqual(self.hls.variant("x").codecs, [VIDEO.codec_string])

    def test_transport_streams_have_no_initialisation(self) -> None:
        self.make(segment_type="mpegts")
        self.send(10)
        segment = self.parsed.segments[0]
        self.assertIsNone(segment.init_section)
        answer = self.hls.files[segment.uri]
        self.assertEqual((answer.content_type, bytes(answer.body[:1])), (b"video/mp2t", b"\x47"))

    def test_pictures_that_pause_leave_segments_of_sound(self) -> None:
        self.make()
        self.send(4)
        at = self.at
        for number in range(1000):
            self.source.push(Packet(AUDIO, at + number * SOUND, at + number * SOUND, SOUND, True, b"sound"))
        self.at = at + 1000 * SOUND
        self.send(6)
        self.assertGreater(self.hls.stats()["media_sequence"] - FIRST + len(self.parsed.segments), 10)


class TestMemory(RenditionCase):
    def held(self) -> int:
        return sum(len(answer.body) for name, answer in self.hls.files.items() if name.endswith(".m4s"))

    def test_over_a_long_run_nothing_grows(self) -> None:
        self.make()
        sizes = set()
        for _ in range(40):
            self.send(30)
            sizes.add((len(self.hls.files), len(self.hls._segments)))
            self.assertEqual(self.held(), self.hls._bytes)
        self.assertLessEqual(max(files for files, _ in sizes), 6 * KEPT + 1)

    def test_a_bound_in_bytes_shortens_what_is_kept(self) -> None:
        self.make(max_buffer=100_000)
        self.send(60, size=500)
        self.assertLessEqual(self.held(), 100_000)
        self.assertEqual(len(self.parsed.segments), len(self.hls._segments))

    def test_three_segments_stay_whatever_they_weigh(self) -> None:
        self.make(max_buffer=1000)
        self.send(10, gop=1, size=500)
        self.assertEqual(len(self.parsed.segments), LEAST)

    def test_a_clock_that_stands_still_does_not_fill_the_memory(self) -> None:
        self.make(max_buffer=60_000)
        body = (96).to_bytes(4, "big") + b"\x65" + bytes(95)
        for number in range(5000):
            self.source.push(Packet(VIDEO, number + 1, number + 1, 1, number == 0, body))
        self.assertLessEqual(self.held(), 80_000)

    def test_segments_just_slid_out_can_still_be_read(self) -> None:
        self.make(playlist_length=3)
        self.send(7)
        gone = self.parsed.segments[0].uri
        self.send(4)
        self.assertNotIn(gone, self.text)
        self.assertIn(gone, self.hls.files)


class TestFigures(RenditionCase):
    def test_bandwidth_is_the_peak_and_the_average(self) -> None:
        self.make(VIDEO)
        self.send(4, size=1000)
        self.send(4.1, size=500)
        variant = self.hls.variant("x")
        self.assertGreater(variant.bandwidth, 240_000)
        self.assertLess(variant.bandwidth, 260_000)
        assert variant.average_bandwidth is not None
        self.assertLess(variant.average_bandwidth, variant.bandwidth)

    def test_a_sliver_before_a_restart_is_no_peak(self) -> None:
        self.make(VIDEO)
        self.send(4.1, size=100)
        peak = self.hls.variant("x").bandwidth
        self.source.restart((VIDEO,), "back")
        self.send(1 / 30, size=100_000)
        self.source.restart((VIDEO,), "back")
        self.assertEqual(self.hls.variant("x").bandwidth, peak)

    def test_stats_are_json(self) -> None:
        self.make()
        self.send(20)
        figures = msgspec.json.decode(msgspec.json.encode(self.hls.stats()))
        self.assertEqual((figures["segments"], figures["target_duration"]), (9, 2))

    def test_closing_stops_reading(self) -> None:
        self.make()
        self.send(5)
        self.hls.close()
        before = self.updates
        self.send(10)
        self.assertEqual(self.updates, before)
