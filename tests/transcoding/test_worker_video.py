"""Pictures through a real child: sizes, keyframes, rates, bitrates, and what changes in mid-stream."""

import json
import subprocess
import tempfile
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import msgspec
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.formats.framed import FramedPacket
from oxidecast.formats.framed_messages import Discontinuity, End, FeedEnded, KeyframeWanted, Resumed
from oxidecast.media import TICKS, h264
from oxidecast.media import nal as nal_units
from tests.transcoding.child import Made, flashes, job, run, small
from tests.transcoding.clips import START, Clip, clip, later, plain, video


def times(packets: list[FramedPacket]) -> list[int]:
    return sorted(packet.pts for packet in packets)


def sizes(made: Made, feed: int) -> list[tuple[int, int]]:
    return [(track.width, track.height) for track in made.tracks(feed)]


def probed(path: Path, *arguments: str) -> Any:
    """What ffprobe says."""
    command = ["ffprobe", "-v", "error", "-of", "json", "-show_streams", *arguments, str(path)]
    return json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)


class WorkerCase(SynchronousTestCase):
    def made(self, *items: Any, **more: Any) -> Made:
        made = run(items, **more)
        self.assertEqual((made.code, made.errors), (0, ""))
        self.assertIsInstance(made.items[-1], End)
        return made

    def of(self, source: Clip, *feeds: Any, **more: Any) -> Made:
        return self.made(job(*feeds, **more), *source.tracks, *source.packets)


class TestLadder(WorkerCase):
    def test_every_picture_is_in_every_feed_at_its_time(self) -> None:
        source = plain()
        made = self.of(source, small(1), small(2, 256, 144))
        for feed in (1, 2):
            self.assertEqual(times(made.packets(feed)), times(source.video))
            self.assertEqual([frame.pts for frame in made.decoded(feed)], times(source.video))
            self.assertEqual(flashes(made.decoded(feed)), [1.0, 2.0, 3.0])
        self.assertEqual((sizes(made, 1), sizes(made, 2)), ([(160, 90)], [(256, 144)]))
        self.assertEqual(made.ready.confined, ("network", "files"))
        figures = made.figures
        self.assertEqual((figures.decoded, figures.errors), (90, 0))
        self.assertEqual([(feed.taken, feed.made, feed.dropped) for feed in figures.feeds], [(90, 90, 0)] * 2)
        self.assertGreater(figures.cpu, 0)
        self.assertGreater(figures.rss, 10_000_000)

    def test_dts_rises_strictly_and_never_lies_after_pts(self) -> None:
        made = self.of(plain(), small(1), small(2, options={"bf": "0", "tune": "zerolatency"}))
        for feed in (1, 2):
            packets = made.packets(feed)
            self.assertTrue(all(a.dts < b.dts for a, b in pairwise(packets)))
            self.assertTrue(all(packet.dts <= packet.pts for packet in packets))
        self.assertTrue(any(packet.dts < packet.pts for packet in made.packets(1)))
        self.assertTrue(all(packet.dts == packet.pts for packet in made.packets(2)))

    def test_keyframes_are_the_sources_in_all_feeds(self) -> None:
        source = clip(video(4, gop=0.7, bframes=2))
        made = self.of(source, small(1), small(2, framerate=10.0), small(3, 96, 54, framerate=24.0))
        for feed in (1, 2, 3):
            self.assertEqual(made.keyframes(feed), source.keyframes)

    def test_further_keyframes_are_the_same_in_all_feeds(self) -> None:
        source = clip(video(4, gop=10))
        made = self.of(source, small(1), small(2, framerate=12.5), keyframe_interval=1.0)
        self.assertEqual(made.keyframes(1), made.keyframes(2))
        self.assertGreaterEqual(len(made.keyframes(1)), 4)
        self.assertLessEqual(max(b - a for a, b in pairwise(made.keyframes(1))), 1.2 * TICKS)

    def test_groups_are_closed(self) -> None:
        """Each group decodes by itself: nothing in it looks back over its keyframe."""
        made = self.of(plain(), small(1, options={"bf": "3"}))
        track, packets = made.tracks(1)[0], made.packets(1)
        starts = [at for at, packet in enumerate(packets) if packet.keyframe]
        for first, last in pairwise([*starts, len(packets)]):
            group = packets[first:last]
            alone = Made([track, *group]).decoded(1)
            self.assertEqual([frame.pts for frame in alone], times(group))
            self.assertFalse(any(frame.is_corrupt for frame in alone))
            self.assertEqual(min(packet.pts for packet in group), group[0].pts)
            self.assertTrue(h264.is_keyframe(group[0].payload))

    def test_payloads_are_as_the_house_has_them(self) -> None:
        for packet in self.of(plain(), small(1)).packets(1):
            kinds = {unit[0] & 31 for unit in nal_units.nal_units(packet.payload)}
            self.assertLessEqual(kinds, {1, 5})

    def test_sixty_become_thirty_evenly(self) -> None:
        source = clip(video(2, rate=60))
        made = self.of(source, small(1), small(2, framerate=60.0))
        self.assertEqual(times(made.packets(2)), times(source.video))
        self.assertEqual({b - a for a, b in pairwise(times(made.packets(1)))}, {3000})
        self.assertEqual(made.tracks(1)[0].frame_rate, 30)
        self.assertEqual(made.figures.feeds[0].left_out, 60)

    def test_variable_rates_keep_their_times_and_get_no_picture_twice(self) -> None:
        source = clip(video(4, gop=2, keep=lambda number: number % 30 < 12 or number % 7 == 0))
        made = self.of(source, small(1))
        self.assertEqual(times(made.packets(1)), times(source.video))

    def test_a_decoder_that_stands_for_others_agrees(self) -> None:
        """ffprobe reads what was made, as a raw stream of start codes."""
        made = self.of(plain(), small(1))
        track = made.tracks(1)[0]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "made.264")
            path.write_bytes(b"".join(h264.annexb(packet.payload, track) for packet in made.packets(1)))
            command = [
                "ffprobe",
                "-v",
                "error",
                "-of",
                "json",
                "-count_frames",
                "-show_streams",
                "-show_entries",
                "frame=key_frame",
            ]
            said = json.loads(
                subprocess.run([*command, path], capture_output=True, check=True, timeout=60).stdout
            )
        stream = said["streams"][0]
        self.assertEqual((stream["width"], stream["height"], stream["nb_read_frames"]), (160, 90, "90"))
        self.assertEqual((stream["pix_fmt"], stream["sample_aspect_ratio"]), ("yuv420p", "1:1"))
        self.assertEqual([at for at, one in enumerate(said["frames"]) if one["key_frame"]], [0, 30, 60])


class TestShapes(WorkerCase):
    def test_upright_odd_and_wide_pixels(self) -> None:
        for size, shape, box, expected in (
            ((180, 320), None, (160, 90), (90, 160)),
            ((322, 182), None, (640, 360), (322, 182)),
            ((240, 180), Fraction(4, 3), (160, 90), (160, 90)),
            ((320, 180), None, (1920, 1080), (320, 180)),
        ):
            source = clip(video(0.5, size=size, shape=shape))
            made = self.of(source, small(1, *box))
            self.assertEqual(sizes(made, 1), [expected])
            frame = made.decoded(1)[0]
            self.assertEqual((frame.width, frame.height), expected)

    def test_hevc_av1_and_ten_bits_become_h264_in_eight(self) -> None:
        for codec, pixels in (
            ("libx265", "yuv420p10le"),
            ("libsvtav1", "yuv420p"),
            ("libx264", "yuv422p"),
            ("libx264rgb", "bgr24"),
        ):
            source = clip(video(1, codec=codec, pixels=pixels))
            made = self.of(source, small(1))
            self.assertEqual(times(made.packets(1)), times(source.video), codec)
            self.assertEqual(made.decoded(1)[0].format.name, "yuv420p")
            self.assertEqual(made.keyframes(1), source.keyframes)

    def test_hdr_keeps_its_name_and_is_said(self) -> None:
        made = self.of(clip(video(0.5, codec="libx265", pixels="yuv420p10le", trc=16)), small(1))
        self.assertIn("HDR (PQ)", made.troubles[0].sentence)
        self.assertEqual(made.decoded(1)[0].color_trc, 16)

    def test_a_picture_on_its_side_is_turned(self) -> None:
        """An encoder may say so in each keyframe (H.264 D.1.27, display orientation)."""
        track, packets = video(1, options={"x264-params": "repeat-headers=1"})
        with tempfile.TemporaryDirectory() as folder:
            plain, turned = Path(folder, "plain.264"), Path(folder, "turned.264")
            plain.write_bytes(b"".join(h264.annexb(packet.payload, track) for packet in packets))
            turn = "h264_metadata=display_orientation=insert:rotate=90"
            command = ["ffmpeg", "-v", "error", "-i", str(plain), "-c", "copy", "-bsf:v", turn, str(turned)]
            subprocess.run(command, check=True, timeout=60)
            with av.open(str(turned)) as file:
                payloads = [nal_units.from_annexb(bytes(packet)) for packet in file.demux() if packet.size]
        self.assertEqual(len(payloads), len(packets))
        sent = [
            msgspec.structs.replace(packet, payload=payload)
            for packet, payload in zip(packets, payloads, strict=True)
        ]
        made = self.made(job(small(1)), track, *sent)
        self.assertEqual(sizes(made, 1), [(90, 160)])
        # A quarter turn counter-clockwise: what was on the right is at the top. The columns are as `clips.picture` has
        # them, and none of them would be the same the other way round.
        frame, number = made.decoded(1)[10], 10
        plane = frame.planes[0]
        column = [bytes(plane)[plane.line_size * row + 45] for row in (150, 145, 140)]
        for value, x in zip(column, (20, 30, 40), strict=True):
            self.assertApproximates(value, 16 + (x * 3 + number * 5) % 120, 10)


class TestBitrate(WorkerCase):
    def test_no_second_outgrows_the_buffer(self) -> None:
        """A source above the bitrate that is allowed: VBV holds (H.264 annex C: rate times time, and the buffer)."""
        source = clip(video(4, size=(320, 180), options={"crf": "1", "preset": "ultrafast"}))
        rate, buffer = 60_000, 60_000
        made = self.of(
            source,
            small(1, 320, 180, bitrate=50_000, options={"maxrate": str(rate), "bufsize": str(buffer)}),
        )
        packets = sorted(made.packets(1), key=lambda packet: packet.dts)
        self.assertEqual(len(packets), 120)
        for first in range(0, 90, 5):
            window = packets[first : first + 30]
            self.assertLessEqual(8 * sum(len(packet.payload) for packet in window), (rate + buffer) * 1.1)
        self.assertLessEqual(2 * sum(len(packet.payload) for packet in packets), rate * 1.3)


class TestChanges(WorkerCase):
    def test_another_size_of_the_same_shape_changes_nothing_for_viewers(self) -> None:
        one, other = clip(video(1)), clip(video(1, size=(640, 360), start=2 * TICKS))
        third = clip(video(1, size=(320, 180), start=3 * TICKS))
        made = self.made(
            job(small(1)),
            *one.tracks,
            *one.packets,
            *other.tracks,
            *other.packets,
            *third.tracks,
            *third.packets,
        )
        self.assertEqual(sizes(made, 1), [(160, 90)])
        self.assertEqual(times(made.packets(1)), times(one.video + other.video + third.video))
        self.assertEqual(made.keyframes(1), one.keyframes + other.keyframes + third.keyframes)
        self.assertEqual(flashes(made.decoded(1)), [1.0, 2.0, 3.0])

    def test_another_shape_is_another_configuration(self) -> None:
        one, other = clip(video(1)), clip(video(1, size=(240, 180), start=2 * TICKS))
        made = self.made(job(small(1)), *one.tracks, *one.packets, *other.tracks, *other.packets)
        self.assertEqual(sizes(made, 1), [(160, 90), (120, 90)])
        self.assertEqual(times(made.packets(1)), times(one.video + other.video))
        self.assertTrue(all(a.dts < b.dts for a, b in pairwise(made.packets(1))))
        at = made.items.index(made.tracks(1)[1])
        self.assertTrue(all(p.pts < 2 * TICKS for p in made.items[:at] if isinstance(p, FramedPacket)))
        self.assertEqual([frame.width for frame in made.decoded(1)], [160] * 30 + [120] * 30)

    def test_a_smaller_source_in_mid_stream_keeps_the_size_that_viewers_have(self) -> None:
        one, other = clip(video(1)), clip(video(1, size=(160, 90), start=2 * TICKS))
        made = self.made(job(small(1, 320, 180)), *one.tracks, *one.packets, *other.tracks, *other.packets)
        self.assertEqual(sizes(made, 1), [(320, 180)])

    def test_another_codec(self) -> None:
        one, other = clip(video(1)), clip(video(1, codec="libx265", start=2 * TICKS))
        made = self.made(job(small(1)), *one.tracks, *one.packets, *other.tracks, *other.packets)
        self.assertEqual(len(made.tracks(1)), 1)
        self.assertEqual(times(made.packets(1)), times(one.video + other.video))

    def test_a_discontinuity_parts_what_was_before_from_what_follows(self) -> None:
        source = plain(2.0)
        gap = 20 * TICKS
        made = self.made(
            job(small(1)), *source.tracks, *source.packets, Discontinuity(7), *later(source.packets, gap)
        )
        at = made.items.index(Discontinuity(7))
        before, after = Made(made.items[:at]), Made(made.items[at:])
        self.assertEqual(times(before.packets(1)), times(source.video))
        self.assertEqual(times(after.packets(1)), [pts + gap for pts in times(source.video)])
        self.assertTrue(after.packets(1)[0].keyframe)
        self.assertGreater(after.packets(1)[0].dts, before.packets(1)[-1].dts)

    def test_feeds_come_and_go(self) -> None:
        source = clip(video(4))
        quarter = len(source.packets) // 4
        made = self.made(
            job(small(1)),
            *source.tracks,
            *source.packets[: quarter + 10],
            job(small(1), small(2)),
            *source.packets[quarter + 10 : 3 * quarter],
            job(small(1)),
            *source.packets[3 * quarter :],
        )
        self.assertEqual(times(made.packets(1)), times(source.video))
        begun = made.packets(2)[0]
        self.assertTrue(begun.keyframe)
        self.assertIn(begun.pts, made.keyframes(1))
        self.assertEqual(begun.pts, START + 40 * 3000)
        self.assertEqual(len(made.packets(2)), 90 - 40)
        self.assertEqual(made.of(FeedEnded), [FeedEnded(feed=2)])

    def test_one_feeds_keyframe_on_request(self) -> None:
        source = clip(video(2, gop=2))
        items: list[Any] = [job(small(1), small(2)), *source.tracks, *source.packets]
        items.insert(32, KeyframeWanted(feed=2))
        made = self.made(*items)
        self.assertEqual(made.keyframes(1), source.keyframes)
        self.assertEqual(len(made.keyframes(2)), len(source.keyframes) + 1)


class TestThumbnails(WorkerCase):
    def test_one_every_so_often(self) -> None:
        made = self.of(plain(), thumbnail_every=1.0, thumbnail_width=160)
        self.assertEqual([image.pts for image in made.thumbnails], [START, START + TICKS, START + 2 * TICKS])
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "one.jpg")
            path.write_bytes(made.thumbnails[0].jpeg)
            command = ["ffprobe", "-v", "error", "-of", "json", "-show_streams"]
            said = json.loads(
                subprocess.run([*command, path], capture_output=True, check=True, timeout=60).stdout
            )
        stream = said["streams"][0]
        self.assertEqual((stream["codec_name"], stream["width"], stream["height"]), ("mjpeg", 160, 90))

    def test_an_upright_picture_stays_upright(self) -> None:
        made = self.of(clip(video(0.2, size=(180, 320))), thumbnail_every=1.0, thumbnail_width=160)
        self.assertEqual([(image.width, image.height) for image in made.thumbnails], [(90, 160)])


class TestNothing(WorkerCase):
    def test_an_end_at_once(self) -> None:
        self.made(job(small(1)))

    def test_the_server_that_closes_the_pipe_ends_it(self) -> None:
        self.assertEqual(run([job(small(1)), *plain().tracks], end=False).code, 0)

    def test_nonsense_is_said(self) -> None:
        made = run([job(small(1)), *plain().tracks, msgspec.structs.replace(plain().video[0], track_id=9)])
        self.assertEqual(made.code, 0)

    def test_an_encoder_that_is_not_there(self) -> None:
        made = run([job(small(1, encoder="h264_none")), *plain().tracks, *plain().packets])
        self.assertEqual(made.code, 3)
        trouble = made.troubles[-1]
        self.assertEqual((trouble.fatal, trouble.feed), (True, 1))
        self.assertIn("h264_none", trouble.sentence)


class TestResumed(WorkerCase):
    def test_each_feed_goes_on_after_its_last_picture_with_a_keyframe(self) -> None:
        source = plain()
        pictures = times(source.video)
        items = [
            job(small(1), small(2, 96, 54), small(3, 128, 72), lossless=False),
            *source.tracks,
            Resumed(until=pictures[-1], made={1: pictures[40], 2: pictures[44], 9: pictures[50]}),
            *source.packets,
        ]
        made = self.made(*items)
        for feed, first in ((1, 41), (2, 45), (3, 0)):
            self.assertEqual(times(made.packets(feed)), pictures[first:])
            # And then at those of the source.
            wanted = [at for at in (0, 30, 60) if at >= first]
            keyframes = sorted({first, *wanted})
            self.assertEqual(made.keyframes(feed), [pictures[at] for at in keyframes])
            self.assertEqual([frame.pts for frame in made.decoded(feed)], pictures[first:])

    def test_its_tracks_are_those_of_the_child_before(self) -> None:
        """So that viewers need no new decoder."""
        source = plain()
        whole = self.of(source, small(1))
        rest = self.made(job(small(1)), *source.tracks, Resumed(until=0, made={1: START}), *source.packets)
        self.assertEqual(whole.tracks(1), rest.tracks(1))

    def test_a_new_beginning_makes_it_void(self) -> None:
        source, gap = plain(), 10 * TICKS
        made = self.made(
            job(small(1)),
            *source.tracks,
            Resumed(until=gap, made={1: 10 * gap}),
            *source.packets,
            Discontinuity(1),
            *later(source.packets, gap),
        )
        self.assertEqual(times(made.packets(1)), [at + gap for at in times(source.video)])
