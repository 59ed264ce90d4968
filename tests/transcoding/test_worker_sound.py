"""Sound through a real child: AAC and Opus, in sync with the pictures whatever the source does."""

import random
from itertools import pairwise

from oxidecast.formats.framed import FramedPacket
from oxidecast.formats.framed_messages import AudioFeed, Discontinuity, FeedEnded
from oxidecast.media import TICKS, Codec, Track
from tests.transcoding.child import Made, beeps, flashes, job, small
from tests.transcoding.clips import START, audio, clip, later, plain, video
from tests.transcoding.test_worker_video import WorkerCase

AAC = AudioFeed(feed=128, codec="aac", bitrate=64_000)
OPUS = AudioFeed(feed=129, codec="opus", bitrate=64_000)
COPY = AudioFeed(feed=130, codec="copy")

IN_SYNC = 0.005
"""Seconds."""


class SoundCase(WorkerCase):
    def assert_sync(self, made: Made, feed: int, seconds: list[float]) -> None:
        found = beeps(made.decoded(feed))
        self.assertEqual(len(found), len(seconds), found)
        for one, other in zip(found, seconds, strict=True):
            self.assertApproximates(one, other, IN_SYNC)

    def assert_gapless(self, made: Made, feed: int) -> None:
        """Each packet begins where the one before ended, to a tick."""
        rate = made.tracks(feed)[-1].sample_rate
        for before, packet in pairwise(made.packets(feed)):
            self.assertApproximates(packet.pts - before.pts, before.samples * TICKS / rate, 1)


class TestCodecs(SoundCase):
    def test_aac_opus_and_a_copy_are_in_sync_with_the_pictures(self) -> None:
        source = clip(video(4.5), audio(4.5))
        made = self.of(source, small(1), AAC, OPUS, COPY)
        seconds = flashes(made.decoded(1))
        self.assertEqual(seconds, [1.0, 2.0, 3.0, 4.0, 5.0])
        for feed in (128, 129, 130):
            self.assert_sync(made, feed, seconds)
        for feed in (128, 129):
            self.assert_gapless(made, feed)
        aac, opus = made.tracks(128)[0], made.tracks(129)[0]
        self.assertEqual((aac.codec, aac.sample_rate, aac.channels), (Codec.AAC, 48_000, 2))
        self.assertEqual((opus.codec, opus.sample_rate, opus.channels), (Codec.OPUS, 48_000, 2))
        self.assertEqual({packet.samples for packet in made.packets(129)}, {960})

    def test_a_copy_is_the_source(self) -> None:
        source = plain()
        made = self.of(source, COPY)
        self.assertEqual(
            [(packet.dts, packet.payload) for packet in made.packets(130)],
            [(packet.dts, packet.payload) for packet in source.audio],
        )

    def test_nothing_is_lost_at_the_end(self) -> None:
        made = self.of(plain(), AAC, OPUS)
        for feed, rate in ((128, 48_000), (129, 48_000)):
            last = made.packets(feed)[-1]
            end = last.pts + last.samples * TICKS // rate
            self.assertGreaterEqual(end, START + 3 * TICKS - 1)

    def test_mono_at_44100(self) -> None:
        source = clip(video(4.5), audio(4.5, rate=44_100, layout="mono"))
        made = self.of(source, small(1), AAC, OPUS)
        track = made.tracks(128)[0]
        self.assertEqual((track.sample_rate, track.channels), (44_100, 1))
        for feed in (128, 129):
            self.assert_sync(made, feed, flashes(made.decoded(1)))
            self.assert_gapless(made, feed)

    def test_aac_from_opus(self) -> None:
        made = self.of(clip(video(3.5), audio(3.5, codec="libopus")), small(1), AAC, OPUS)
        for feed in (128, 129):
            self.assert_sync(made, feed, flashes(made.decoded(1)))

    def test_the_bitrate_is_about_what_was_asked_for(self) -> None:
        made = self.of(
            plain(),
            AudioFeed(feed=1, codec="aac", bitrate=32_000),
            AudioFeed(feed=2, codec="aac", bitrate=128_000),
        )
        low, high = (8 * sum(len(packet.payload) for packet in made.packets(feed)) / 3 for feed in (1, 2))
        self.assertLess(low, 40_000)
        self.assertLess(high, 150_000)
        self.assertLess(low, high)


class TestTime(SoundCase):
    def test_a_gap_is_filled_with_silence_while_it_lasts(self) -> None:
        source = clip(video(8.5), audio(8.5))
        source.packets = [
            packet
            for packet in source.packets
            if packet.track_id == 1 or not 2.5 < packet.pts / TICKS - 1 < 6.5
        ]
        made = self.of(source, small(1), AAC, OPUS)
        for feed in (128, 129):
            self.assert_sync(made, feed, [1.0, 2.0, 3.0, 8.0, 9.0])
            self.assert_gapless(made, feed)
        self.assertApproximates(made.figures.silence / 48_000, 4.0, 0.1)

    def test_sound_that_ends_becomes_silence_that_goes_on(self) -> None:
        source = clip(video(6), audio(2))
        made = self.of(source, small(1), AAC)
        self.assertGreater(made.packets(128)[-1].pts, START + 4.5 * TICKS)
        self.assert_gapless(made, 128)

    def test_drift_is_followed_without_a_gap(self) -> None:
        """A sound card that is 0.1 % slow: after 9 s it would be 9 ms late."""
        track, packets = audio(9.5)
        slow = [
            FramedPacket(2, at, at, True, packet.payload, packet.samples)
            for packet in packets
            for at in [START + round((packet.pts - START) * 1.001)]
        ]
        made = self.of(clip((track, slow)), AAC)
        found = beeps(made.decoded(128))
        self.assertApproximates(found[-1], 1 + 9 * 1.001, IN_SYNC)
        self.assert_gapless(made, 128)

    def test_stamps_that_tremble(self) -> None:
        wild = random.Random(5)
        track, packets = audio(4.5)
        trembling = [
            FramedPacket(2, at, at, True, packet.payload, packet.samples)
            for packet in packets
            for at in [packet.pts + wild.randint(-90, 90)]
        ]
        made = self.of(clip(video(4.5), (track, trembling)), small(1), AAC)
        self.assert_sync(made, 128, flashes(made.decoded(1)))
        self.assert_gapless(made, 128)

    def test_b_frames_variable_rate_and_mono_at_once(self) -> None:
        pictures = video(6.5, bframes=3, gop=3, keep=lambda number: number % 30 < 9 or number % 5 == 0)
        source = clip(pictures, audio(6.5, rate=44_100, layout="mono"))
        made = self.of(source, small(1, options={"bf": "3"}), small(2, framerate=12.0), AAC, OPUS)
        self.assertEqual(flashes(made.decoded(1)), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
        for feed in (128, 129):
            self.assert_sync(made, feed, flashes(made.decoded(1)))
        self.assertEqual(made.keyframes(1), made.keyframes(2))

    def test_a_discontinuity(self) -> None:
        source = clip(video(2.5), audio(2.5))
        made = self.made(
            job(small(1), AAC, OPUS),
            *source.tracks,
            *source.packets,
            Discontinuity(1),
            *later(source.packets, 10 * TICKS),
        )
        for feed in (128, 129):
            self.assert_sync(made, feed, [1.0, 2.0, 3.0, 11.0, 12.0, 13.0])
            self.assertTrue(all(a.dts < b.dts for a, b in pairwise(made.packets(feed))))

    def test_after_a_discontinuity_sound_is_told_of_with_its_first_packet(self) -> None:
        one = clip(audio(1))
        other = clip(audio(1, rate=44_100, start=START + 3 * TICKS))
        third = list(later(other.packets, 3 * TICKS))
        made = self.made(
            job(AAC, OPUS, COPY),
            *one.tracks,
            *one.packets,
            Discontinuity(1),
            *other.tracks,
            *other.packets,
            Discontinuity(2),
            *third,
        )
        for feed, rates in (
            (128, [48_000, 44_100, 44_100]),
            (129, [48_000] * 3),
            (130, [48_000, 44_100, 44_100]),
        ):
            told = [
                item
                for item in made.items
                if isinstance(item, Discontinuity)
                or getattr(item, "id", getattr(item, "track_id", 0)) == feed
            ]
            breaks = [place for place, item in enumerate(told) if isinstance(item, Discontinuity)]
            for begins in (0, *(place + 1 for place in breaks)):
                self.assertIsInstance(told[begins], Track)
                self.assertIsInstance(told[begins + 1], FramedPacket)
            self.assertEqual([item.sample_rate for item in told if isinstance(item, Track)], rates)

    def test_another_rate_in_mid_stream(self) -> None:
        one, other = clip(audio(2)), clip(audio(2, rate=44_100, start=START + 3 * TICKS))
        made = self.made(job(AAC, OPUS), *one.tracks, *one.packets, *other.tracks, *other.packets)
        self.assertEqual([track.sample_rate for track in made.tracks(128)], [48_000, 44_100])
        self.assertEqual(len(made.tracks(129)), 1)
        self.assert_sync(made, 129, [1.0, 2.0, 4.0, 5.0])

    def test_feeds_come_and_go(self) -> None:
        source = clip(audio(4))
        half = len(source.packets) // 2
        made = self.made(
            job(AAC),
            *source.tracks,
            *source.packets[:half],
            job(AAC, OPUS),
            *source.packets[half:],
            job(OPUS),
        )
        self.assertApproximates(made.packets(129)[0].pts, START + 2 * TICKS, TICKS // 10)
        self.assert_gapless(made, 128)
        self.assertEqual(made.of(FeedEnded), [FeedEnded(feed=128)])
