"""HEVC and AV1 through a real child: what holds for H.264 holds for them."""

import json
import subprocess
import tempfile
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from oxidecast.formats import fmp4
from oxidecast.formats.framed import FramedPacket
from oxidecast.formats.framed_messages import Discontinuity, FeedEnded, Resumed
from oxidecast.media import TICKS, Codec, Packet, Track, av1, hevc, nal
from oxidecast.transcoding.worker.coded import coded_by
from tests.transcoding.child import Made, feed_of, flashes, job, small
from tests.transcoding.clips import clip, later, plain, video
from tests.transcoding.test_worker_video import WorkerCase, sizes, times

NEW = (Codec.HEVC, Codec.AV1)
IS_KEYFRAME = {Codec.HEVC: hevc.is_keyframe, Codec.AV1: av1.is_keyframe}


def both(**more: Any) -> list[Any]:
    """Feeds 2 and 3, beside H.264's first."""
    return [feed_of(codec, 2 + at, **more) for at, codec in enumerate(NEW)]


class TestLadder(WorkerCase):
    def test_every_picture_is_in_every_feed_at_its_time(self) -> None:
        source = clip(video(3, gop=0.7, bframes=2))
        made = self.of(source, small(1), *both())
        for feed, codec in enumerate((Codec.H264, *NEW), 1):
            packets = made.packets(feed)
            self.assertEqual(times(packets), times(source.video))
            self.assertEqual(made.keyframes(feed), source.keyframes)
            self.assertTrue(all(a.dts < b.dts for a, b in pairwise(packets)))
            self.assertTrue(all(packet.dts <= packet.pts for packet in packets))
            self.assertEqual([frame.pts for frame in made.decoded(feed)], times(source.video))
            self.assertEqual(flashes(made.decoded(feed)), [1.0, 2.0, 3.0])
            (track,) = made.tracks(feed)
            self.assertEqual((track.codec, track.width, track.height, track.frame_rate), (codec, 160, 90, 30))
        self.assertTrue(all(packet.dts == packet.pts for packet in made.packets(3)), "AV1 has its order")
        self.assertEqual(
            [(one.taken, one.made, one.dropped) for one in made.figures.feeds], [(90, 90, 0)] * 3
        )
        self.assertEqual(made.ready.confined, ("network", "files"))

    def test_further_keyframes_and_lower_rates(self) -> None:
        source = clip(video(4, gop=10))
        made = self.of(source, small(1), *both(framerate=12.5), keyframe_interval=1.0)
        self.assertGreaterEqual(len(made.keyframes(1)), 4)
        for feed in (2, 3):
            self.assertEqual(made.keyframes(feed), made.keyframes(1))
            self.assertLess(len(made.packets(feed)), 60)

    def test_groups_are_closed(self) -> None:
        source = plain()
        made = self.of(source, *both())
        for feed, codec in enumerate(NEW, 2):
            track, packets = made.tracks(feed)[0], made.packets(feed)
            starts = [at for at, packet in enumerate(packets) if packet.keyframe]
            self.assertEqual(len(starts), 3)
            for first, last in pairwise([*starts, len(packets)]):
                group = packets[first:last]
                self.assertEqual([frame.pts for frame in Made([track, *group]).decoded(feed)], times(group))
                self.assertEqual(min(packet.pts for packet in group), group[0].pts)
            for packet in packets:
                self.assertEqual(IS_KEYFRAME[codec](packet.payload), packet.keyframe)

    def test_payloads_are_as_the_house_has_them(self) -> None:
        made = self.of(plain(), *both())
        for packet in made.packets(2):
            kinds = {unit[0] >> 1 & 63 for unit in nal.nal_units(packet.payload)}
            self.assertLessEqual(kinds, {*range(10), *range(16, 22)})
        for packet in made.packets(3):
            self.assertIs(av1.strip(packet.payload), packet.payload)

    def test_files_that_others_read(self) -> None:
        """ffprobe, of fMP4 as HLS has it: the name in the configuration is the one that is told."""
        source = plain()
        made = self.of(source, *both())
        for feed, name in ((2, "hevc"), (3, "av1")):
            said = probed(made, feed)
            (stream,) = said["streams"]
            self.assertEqual((stream["codec_name"], stream["nb_read_frames"]), (name, "90"))
            self.assertEqual((stream["width"], stream["height"]), (160, 90))
            self.assertEqual((stream["pix_fmt"], stream["profile"]), ("yuv420p", "Main"))
            keys = [round(float(one["pts_time"]) * TICKS) for one in said["frames"] if one["key_frame"]]
            self.assertEqual(keys, source.keyframes)

    def test_upright_odd_and_wide_pixels_and_ten_bits(self) -> None:
        for how, box, expected in (
            ({"size": (180, 320)}, (160, 90), (90, 160)),
            ({"size": (322, 182)}, (640, 360), (322, 182)),
            ({"size": (240, 180), "shape": Fraction(4, 3)}, (160, 90), (160, 90)),
            ({"codec": "libx265", "pixels": "yuv420p10le"}, (160, 90), (160, 90)),
        ):
            source = clip(video(0.5, **how))  # type: ignore[arg-type]
            made = self.of(source, *both(width=box[0], height=box[1]))
            for feed in (2, 3):
                self.assertEqual(sizes(made, feed), [expected])
                self.assertEqual(len(made.decoded(feed)), 15)


def probed(made: Made, feed: int) -> Any:
    """A feed as a file of one fragment, and what ffprobe says of it."""
    track = msgspec.structs.replace(made.tracks(feed)[0], id=1)
    packets = [Packet(track, one.dts, one.pts, 3000, one.keyframe, one.payload) for one in made.packets(feed)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "made.mp4")
        path.write_bytes(fmp4.init_segment([track]) + fmp4.fragment(1, {track: packets}))
        command = ["ffprobe", "-v", "error", "-of", "json", "-count_frames", "-show_streams"]
        command += ["-show_entries", "frame=key_frame,pts_time", str(path)]
        return json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)


class TestBitrate(WorkerCase):
    def test_no_second_outgrows_the_buffer(self) -> None:
        source = clip(video(4, size=(320, 180), options={"crf": "1", "preset": "ultrafast"}))
        rate, buffer = 60_000, 60_000
        more = {"bitrate": 50_000, "maxrate": rate, "bufsize": buffer}
        made = self.of(source, *both(width=320, height=180, **more))
        for feed in (2, 3):
            packets = sorted(made.packets(feed), key=lambda packet: packet.dts)
            self.assertEqual(len(packets), 120)
            for first in range(0, 90, 5):
                window = packets[first : first + 30]
                self.assertLessEqual(8 * sum(len(one.payload) for one in window), (rate + buffer) * 1.1)
            self.assertLessEqual(2 * sum(len(one.payload) for one in packets), rate * 1.3)


class TestChanges(WorkerCase):
    def test_a_size_that_an_encoder_does_not_take_is_told_and_harms_nothing(self) -> None:
        """x265 writes beyond its memory there. The server does not ask for it; a source may change under way."""
        source = clip(video(0.5, size=(96, 40)))
        made = self.of(source, small(1), *both())
        self.assertEqual((len(made.packets(1)), made.packets(2), made.packets(3)), (15, [], []))
        self.assertEqual({one.feed for one in made.troubles}, {2, 3})
        self.assertIn("takes none of 96x40", made.troubles[0].sentence)

    def test_another_shape_is_another_configuration(self) -> None:
        one, other = clip(video(1)), clip(video(1, size=(240, 180), start=2 * TICKS))
        made = self.made(job(*both()), *one.tracks, *one.packets, *other.tracks, *other.packets)
        for feed in (2, 3):
            self.assertEqual(sizes(made, feed), [(160, 90), (120, 90)])
            self.assertEqual(times(made.packets(feed)), times(one.video + other.video))
            self.assertTrue(all(a.dts < b.dts for a, b in pairwise(made.packets(feed))))

    def test_a_discontinuity(self) -> None:
        source = plain(2.0)
        gap = 20 * TICKS
        made = self.made(
            job(*both()), *source.tracks, *source.packets, Discontinuity(7), *later(source.packets, gap)
        )
        at = made.items.index(Discontinuity(7))
        before, after = Made(made.items[:at]), Made(made.items[at:])
        for feed in (2, 3):
            self.assertEqual(times(before.packets(feed)), times(source.video))
            self.assertEqual(times(after.packets(feed)), [pts + gap for pts in times(source.video)])
            self.assertTrue(after.packets(feed)[0].keyframe)

    def test_a_child_that_takes_over_goes_on_with_the_same_track(self) -> None:
        source = plain(2.0)
        first = self.of(source, *both())
        until = source.video[44].pts
        where = Resumed(until=until, made={2: until, 3: until})
        second = self.made(job(*both()), where, *source.tracks, *source.packets)
        for feed in (2, 3):
            self.assertEqual(second.tracks(feed), first.tracks(feed))
            self.assertEqual(times(second.packets(feed)), [pts for pts in times(source.video) if pts > until])

    def test_feeds_come_and_go(self) -> None:
        source = clip(video(3))
        third = len(source.packets) // 3
        parts = (source.packets[:third], source.packets[third : 2 * third], source.packets[2 * third :])
        made = self.made(
            job(small(1)),
            *source.tracks,
            *parts[0],
            job(small(1), *both()),
            *parts[1],
            job(small(1)),
            *parts[2],
        )
        self.assertEqual(times(made.packets(1)), times(source.video))
        for feed in (2, 3):
            self.assertEqual(times(made.packets(feed)), times(parts[1]))
        self.assertEqual({one.feed for one in made.of(FeedEnded)}, {2, 3})

    def test_another_bitrate_is_for_the_next_beginning(self) -> None:
        source = clip(video(2, size=(320, 180), options={"crf": "1", "preset": "ultrafast"}))
        low, high = (
            feed_of(codec, 1, 320, 180, bitrate=bitrate)
            for codec, bitrate in ((Codec.H264, 40_000), (Codec.H264, 2_000_000))
        )
        again = list(later(source.packets, 10 * TICKS))
        made = self.made(
            job(low), *source.tracks, *source.packets, Discontinuity(1), job(high), *source.tracks, *again
        )
        bytes_of = [
            sum(len(one.payload) for one in made.packets(1) if (one.pts > 8 * TICKS) == late)
            for late in (False, True)
        ]
        self.assertGreater(bytes_of[1], 3 * bytes_of[0])


class TestCoded(WorkerCase):
    def test_configurations_as_encoders_and_as_containers_have_them(self) -> None:
        for codec in ("libx265", "libsvtav1", "libx264"):
            track, packets = video(0.2, codec=codec)
            coded = coded_by(codec)
            if codec == "libsvtav1":
                self.assertEqual(coded.track(track.extradata), track)
                self.assertEqual(coded.track(track.extradata[4:]), track)
            self.assertIsInstance(track, Track)
            self.assertIsInstance(packets[0], FramedPacket)

    def test_encoders_of_devices(self) -> None:
        names = ("hevc_nvenc", "hevc_vaapi", "hevc_qsv", "hevc_videotoolbox")
        self.assertEqual({coded_by(name).payload for name in names}, {coded_by("libx265").payload})
        self.assertEqual({coded_by(name).payload for name in ("av1_nvenc", "av1_qsv")}, {av1.strip})
        self.assertEqual(coded_by("h264_nvenc").payload, coded_by("libx264").payload)

    def test_information_for_nobody_is_left_out(self) -> None:
        sei = b"\0\0\0\1\x4e\x01\x05\x00\x80"
        slice_ = b"\0\0\0\1\x26\x01\xaf"
        self.assertEqual(coded_by("hevc_nvenc").payload(sei + slice_), nal.from_annexb(slice_))
        self.assertEqual(coded_by("hevc_nvenc").payload(slice_), nal.from_annexb(slice_))
