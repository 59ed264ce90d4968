"""The way through the FFmpeg program, with x264 in the place of a device: the same commands, pipes and time stamps."""

import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from typing import Any

import msgspec
import psutil
from msgspec.structs import replace

from oxidecast.formats.framed_messages import Device, FeedEnded
from oxidecast.media import TICKS, Codec
from oxidecast.transcoding.backends.base import PROBE
from oxidecast.transcoding.backends.vp8 import VP8
from tests.transcoding.child import feed_of, frame, job, run, small
from tests.transcoding.clips import audio, clip, later, plain, video
from tests.transcoding.test_worker_sound import AAC
from tests.transcoding.test_worker_video import WorkerCase, sizes, times

PLAIN = Device(ffmpeg="ffmpeg", scale="scale={width}:{height}:flags=bicubic,format=yuv420p")
PATIENCE = 30.0


class TestDevice(WorkerCase):
    def test_every_picture_is_there_at_its_time_with_the_sources_keyframes(self) -> None:
        source = clip(video(4, gop=0.7, bframes=2), audio(4))
        made = self.of(source, small(1), small(2, 96, 54, options={"bf": "0"}), AAC, device=PLAIN)
        for feed in (1, 2):
            self.assertEqual(times(made.packets(feed)), times(source.video))
            self.assertEqual([one.pts for one in made.decoded(feed)], times(source.video))
            self.assertEqual(made.keyframes(feed), source.keyframes)
            self.assertTrue(all(a.dts < b.dts for a, b in pairwise(made.packets(feed))))
            self.assertTrue(all(one.dts <= one.pts for one in made.packets(feed)))
        self.assertTrue(any(one.dts < one.pts for one in made.packets(1)))
        self.assertEqual((sizes(made, 1), sizes(made, 2)), ([(160, 90)], [(96, 54)]))
        self.assertTrue(made.packets(AAC.feed))
        figures = [(one.taken, one.made, one.left_out, one.queue) for one in made.figures.feeds]
        self.assertEqual(figures, [(120, 120, 0, 0)] * 2)
        self.assertEqual(made.ready.confined, ("network", "files"))

    def test_it_takes_what_publishers_send(self) -> None:
        for codec in ("libx265", "libsvtav1"):
            source = clip(video(1, codec=codec))
            made = self.of(source, small(1), device=PLAIN)
            self.assertEqual(times(made.packets(1)), times(source.video), codec)

    def test_hevc(self) -> None:
        source = clip(video(2, gop=0.7, bframes=2))
        made = self.of(source, feed_of(Codec.HEVC, 1), small(2), device=PLAIN)
        (track,) = made.tracks(1)
        self.assertEqual(
            (track.codec, track.width, track.height, track.frame_rate), (Codec.HEVC, 160, 90, 30)
        )
        for feed in (1, 2):
            self.assertEqual(times(made.packets(feed)), times(source.video))
            self.assertEqual([one.pts for one in made.decoded(feed)], times(source.video))
            self.assertEqual(made.keyframes(feed), source.keyframes)
            self.assertTrue(all(a.dts < b.dts for a, b in pairwise(made.packets(feed))))
            self.assertTrue(all(one.dts <= one.pts for one in made.packets(feed)))

    def test_what_the_device_does_not_make_the_child_does(self) -> None:
        source = clip(video(3, gop=0.7, bframes=2))
        own = replace(feed_of(Codec.AV1, 2), on_device=False)
        third = len(source.packets) // 3
        items: list[Any] = [job(small(1), device=PLAIN), *source.tracks, *source.packets[: third + 5]]
        items += [job(small(1), own, device=PLAIN), *source.packets[third + 5 : 2 * third + 5]]
        made = self.made(*items, job(small(1), device=PLAIN), *source.packets[2 * third + 5 :])
        self.assertEqual(times(made.packets(1)), times(source.video))
        self.assertEqual(made.keyframes(1), source.keyframes)
        self.assertEqual([track.codec for track in made.tracks(2)], [Codec.AV1])
        self.assertTrue(made.packets(2)[0].keyframe)
        self.assertLessEqual(set(made.keyframes(2)), set(source.keyframes))
        first, last = source.keyframes[2], source.packets[2 * third + 4].dts
        shown = [at for at in times(source.video) if first <= at]
        self.assertEqual(times(made.packets(2)), shown[: len(made.packets(2))])
        self.assertLessEqual(abs(max(times(made.packets(2))) - last), 3 * 3000)
        self.assertIn(FeedEnded(feed=2), made.of(FeedEnded))
        self.assertEqual(made.figures.errors, 0)

    def test_vp8_is_made_beside_it(self) -> None:
        source = clip(video(3, gop=1))
        options = VP8.options(PROBE)
        vp8 = small(33, 96, 54, encoder=VP8.encoders[Codec.VP8], options=options, on_device=False)
        made = self.of(source, small(1), vp8, device=PLAIN, lossless=True)
        for feed, codec in ((1, Codec.H264), (33, Codec.VP8)):
            self.assertEqual([track.codec for track in made.tracks(feed)], [codec])
            self.assertEqual(times(made.packets(feed)), times(source.video))
            self.assertEqual([one.pts for one in made.decoded(feed)], times(source.video))
            self.assertEqual(made.keyframes(feed), source.keyframes)
        self.assertEqual([one.made for one in made.figures.feeds], [90, 90])
        # On demand, and not any more: from a keyframe on, and the rest does not notice.
        at = next(
            n for n, packet in enumerate(source.packets) if packet.track_id == 1 and packet.pts > TICKS // 2
        )
        end = next(
            n for n, packet in enumerate(source.packets) if packet.track_id == 1 and packet.pts > 2 * TICKS
        )
        one, both = (job(*feeds, device=PLAIN, lossless=True) for feeds in ((small(1),), (small(1), vp8)))
        made = self.made(
            one,
            *source.tracks,
            *source.packets[:at],
            both,
            *source.packets[at:end],
            one,
            *source.packets[end:],
        )
        self.assertEqual(times(made.packets(1)), times(source.video))
        between = [at for at in times(source.video) if TICKS <= at <= 2 * TICKS]
        self.assertEqual(times(made.packets(33)), between)
        self.assertEqual([item.feed for item in made.of(FeedEnded)], [33])

    def test_a_ceiling_leaves_pictures_out_but_no_keyframe(self) -> None:
        source = clip(video(2, rate=60, gop=0.55))
        made = self.of(source, small(1), small(2, 96, 54, framerate=60.0), device=PLAIN)
        self.assertEqual(made.keyframes(1), source.keyframes)
        self.assertEqual(len(made.packets(2)), 120)
        self.assertLess(len(made.packets(1)), 66)
        self.assertEqual(made.figures.feeds[0].left_out, 120 - len(made.packets(1)))

    def test_as_many_are_made_as_the_tracks_say(self) -> None:
        """By the device, and by the child beside it."""
        for rate in (50, 60):
            source = clip(video(3, rate=rate, gop=1))
            feeds = [small(at, 96, 54, framerate=ceiling) for at, ceiling in enumerate((24.0, 29.0, 30.0), 1)]
            others = [replace(feed, feed=feed.feed + 3, on_device=False) for feed in feeds]
            made = self.of(source, *feeds, *others, device=PLAIN)
            for feed in (*feeds, *others):
                (track,) = made.tracks(feed.feed)
                assert track.frame_rate is not None
                expected = float(3 * track.frame_rate)
                self.assertApproximates(len(made.packets(feed.feed)), expected, 4, (rate, feed.framerate))

    def test_keyframes_where_the_source_has_few_are_the_same_in_all_feeds(self) -> None:
        source = clip(video(5, gop=10))
        made = self.of(source, small(1), small(2, 96, 54), device=PLAIN, keyframe_interval=1.0)
        self.assertEqual(made.keyframes(1), made.keyframes(2))
        self.assertGreater(len(made.keyframes(1)), 2)

    def test_another_job_goes_on_without_a_gap(self) -> None:
        source = plain()
        more = job(small(1), small(2, 96, 54), device=PLAIN)
        less = job(small(2, 96, 54), device=PLAIN)
        packets = source.packets
        one, two = (
            next(
                at
                for at, packet in enumerate(packets)
                if packet.track_id == 1 and packet.pts > TICKS * at_least
            )
            for at_least in (1.4, 2.4)
        )
        items: list[Any] = [job(small(1), device=PLAIN), *source.tracks, *packets[:one]]
        made = self.made(*items, more, *packets[one:two], less, *packets[two:])
        self.assertEqual(times(made.packets(1)), [at for at in times(source.video) if at < 3 * TICKS])
        self.assertEqual(times(made.packets(2)), [at for at in times(source.video) if at >= 2 * TICKS])
        self.assertEqual([item.feed for item in made.of(FeedEnded)], [1])
        self.assertEqual(len(made.tracks(1)), 1)

    def test_a_source_of_another_size(self) -> None:
        first, second = plain(1), clip(video(1, size=(240, 180)))
        items = [*first.tracks, *first.packets, *second.tracks, *later(second.packets, TICKS)]
        made = self.made(job(small(1), device=PLAIN), *items)
        self.assertEqual(sizes(made, 1), [(160, 90), (120, 90)])
        self.assertEqual(len(made.packets(1)), 60)

    def test_thumbnails(self) -> None:
        made = self.of(plain(), small(1), device=PLAIN, thumbnail_every=30.0, thumbnail_width=64)
        self.assertEqual([(one.width, one.pts) for one in made.thumbnails], [(64, TICKS)])

    def test_why_it_failed(self) -> None:
        for device, why in (
            (
                msgspec.structs.replace(PLAIN, scale="scale_none={width}:{height}"),
                "No such filter: 'scale_none'",
            ),
            (msgspec.structs.replace(PLAIN, decode=("-hwaccel", "none_such")), "none_such"),
            (msgspec.structs.replace(PLAIN, ffmpeg="/nowhere/ffmpeg"), "No such file or directory"),
        ):
            made = run([job(small(1), device=device), *plain().tracks, *plain().packets])
            trouble = made.troubles[0]
            self.assertTrue(trouble.fatal)
            self.assertIn(why, trouble.sentence)

    def test_ffmpeg_does_not_outlive_the_child(self) -> None:
        command = [sys.executable, "-m", "oxidecast.transcoding.worker", str(os.getpid()), "0"]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert child.stdin is not None and child.stdout is not None
        for item in (job(small(1), device=PLAIN), *plain().tracks, *plain().packets):
            child.stdin.write(frame(item))
        child.stdin.flush()
        deadline = time.monotonic() + PATIENCE
        while not (found := psutil.Process(child.pid).children()):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)
        os.kill(child.pid, signal.SIGKILL)
        child.communicate()
        psutil.wait_procs(found, PATIENCE)
        self.assertFalse(found[0].is_running() and found[0].status() != psutil.STATUS_ZOMBIE)
