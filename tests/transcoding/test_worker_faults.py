"""A child that is fed damaged streams, and one that cannot keep up."""

import random
from itertools import pairwise
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.formats.framed import FramedPacket
from oxidecast.formats.framed_messages import AudioFeed, Figures
from oxidecast.media import Codec, Track
from oxidecast.transcoding.worker.frames import Ahead, FrameQueue, Picture
from tests.transcoding.child import Item, job, run, small
from tests.transcoding.clips import audio, clip, later, plain, video
from tests.transcoding.test_worker_video import times

AAC = AudioFeed(feed=128, codec="aac", bitrate=64_000)


def damaged(packets: list[FramedPacket], seed: int, every: int = 3) -> list[FramedPacket]:
    """One to eight bits flipped in every so manieth packet."""
    wild = random.Random(seed)
    made = []
    for packet in packets:
        payload = bytearray(packet.payload)
        if payload and wild.randrange(every) == 0:
            for _ in range(wild.randint(1, 8)):
                payload[wild.randrange(len(payload))] ^= 1 << wild.randrange(8)
        made.append(
            FramedPacket(
                packet.track_id, packet.dts, packet.pts, packet.keyframe, bytes(payload), packet.samples
            )
        )
    return made


class TestDamage(SynchronousTestCase):
    def test_flipped_bits_are_survived_and_what_comes_after_is_whole(self) -> None:
        for seed, source in enumerate((plain(), clip(video(3, bframes=2), audio(3, codec="libopus")))):
            good = list(later(source.packets, 3 * 90_000))
            items: list[Item] = [job(small(1), AAC), *source.tracks, *damaged(source.packets, seed), *good]
            made = run(items)
            # A decoder may crash on such a stream; that is what the supervisor is for. This one does not.
            self.assertEqual((made.code, made.errors), (0, ""))
            pictures = times([packet for packet in good if packet.track_id == 1])
            self.assertEqual([pts for pts in times(made.packets(1)) if pts >= pictures[0]], pictures)
            for feed in (1, 128):
                self.assertTrue(all(a.dts < b.dts for a, b in pairwise(made.packets(feed))))

    def test_packets_of_noise_are_counted(self) -> None:
        wild = random.Random(1)
        source = plain()
        noise = [
            FramedPacket(
                packet.track_id, packet.dts, packet.pts, packet.keyframe, wild.randbytes(200), packet.samples
            )
            for packet in source.packets
        ]
        made = run([job(small(1), AAC), *source.tracks, *noise, *later(source.packets, 4 * 90_000)])
        self.assertEqual(made.code, 0)
        self.assertGreater(made.figures.errors, 50)
        self.assertEqual(len(made.packets(1)), 90)

    def test_a_track_that_no_decoder_takes_is_said_and_the_next_one_is_taken(self) -> None:
        source = plain()
        nonsense = Track(id=1, codec=Codec.H264, extradata=b"\x01nonsense", codec_string="avc1")
        made = run(
            [job(small(1)), nonsense, *source.packets, *source.tracks, *later(source.packets, 400_000)]
        )
        self.assertEqual(made.code, 0)
        self.assertEqual(len(made.packets(1)), 90)


class TestPressure(SynchronousTestCase):
    def test_an_encoder_that_cannot_keep_up_drops_evenly_and_never_a_keyframe(self) -> None:
        source = clip(video(3, size=(960, 540), gop=0.5))
        slow: dict[str, Any] = {"preset": "placebo", "threads": "1", "rc-lookahead": "0", "bf": "0"}
        made = run([job(small(1, 960, 540, options=slow), lossless=False), *source.tracks, *source.packets])
        self.assertEqual(made.code, 0)
        feed = made.figures.feeds[0]
        self.assertGreater(feed.dropped, 0)
        self.assertEqual(feed.made + feed.dropped, feed.taken)
        self.assertEqual(made.keyframes(1), source.keyframes)
        self.assertTrue(all(figures.feeds[0].queue <= 16 for figures in made.of(Figures) if figures.feeds))

    def test_what_comes_at_once_is_waited_for(self) -> None:
        source = clip(video(6))
        made = run([job(small(1), small(2, 96, 54), lossless=False), *source.tracks, *source.packets])
        self.assertEqual([(one.made, one.dropped) for one in made.figures.feeds], [(180, 0)] * 2)


class TestAhead(SynchronousTestCase):
    def test_only_what_comes_sooner_than_its_time_may_wait(self) -> None:
        clock = Clock()
        ahead = Ahead(clock.seconds)
        self.assertEqual(ahead.picture(0), 0)
        # At their time, and then after two seconds of nothing all at once.
        for number in range(1, 31):
            clock.advance(1 / 30)
            self.assertEqual(ahead.picture(number * 3000), 0)
        clock.advance(2)
        for number in range(31, 91):
            ahead.picture(number * 3000)
        self.assertAlmostEqual(ahead.seconds, 59 / 30 * Ahead.CATCHING_UP)
        # Who waits for each of them uses it up.
        waits = 0
        while ahead.picture((91 + waits) * 3000):
            clock.advance(0.05)
            waits += 1
        self.assertLess(waits, 100)
        ahead.picture(10**9)
        self.assertEqual(ahead.seconds, Ahead.MOST)
        ahead.forget()
        self.assertEqual((ahead.seconds, ahead.picture(5)), (0, 0))


class TestQueue(SynchronousTestCase):
    """The queue by itself."""

    def test_it_drops_what_comes_while_it_is_full_but_for_keyframes(self) -> None:
        queue = FrameQueue()
        for number in range(4):
            queue.put(Picture(None, number, number == 0, None), 3)  # type: ignore[arg-type]
        queue.put(Picture(None, 4, True, None), 3)  # type: ignore[arg-type]
        queue.order(lambda: None)
        taken = [queue.take() for _ in range(4)]
        self.assertEqual([item.pts for item in taken if isinstance(item, Picture)], [0, 1, 4])
        self.assertTrue(callable(taken[3]) and not isinstance(taken[3], Picture))
        self.assertEqual((queue.dropped, len(queue)), (2, 0))

    def test_keyframes_alone_are_bounded_too(self) -> None:
        queue = FrameQueue()
        for number in range(9):
            queue.put(Picture(None, number, True, None), 3)  # type: ignore[arg-type]
        self.assertEqual((len(queue), queue.dropped), (3, 6))
