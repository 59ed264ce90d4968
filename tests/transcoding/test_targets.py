"""Levels and names: examples that people know, and what real encoders write."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.media import TICKS, Codec
from oxidecast.settings.sections import Profile
from oxidecast.transcoding.backends import Software
from oxidecast.transcoding.profiles import job, ladder
from oxidecast.transcoding.sizes import colour
from oxidecast.transcoding.targets import Target, codec_string, coded_rate, level, peak
from tests.transcoding.child import run
from tests.transcoding.clips import clip, video

CODECS = (Codec.H264, Codec.HEVC, Codec.AV1)


def target(width: int, height: int, rate: float = 30.0, bitrate: int = 1_000_000, **more: int) -> Target:
    rates = {"maxrate": bitrate * 11 // 10, "bufsize": bitrate * 2} | more
    return Target(width=width, height=height, framerate=rate, bitrate=bitrate, **rates)


def levels(one: Target) -> list[int]:
    return [
        level(
            Target(one.width, one.height, one.framerate, one.bitrate, one.maxrate, one.bufsize, codec=codec)
        )
        for codec in CODECS
    ]


class TestLevels(SynchronousTestCase):
    def test_sizes_that_people_have(self) -> None:
        self.assertEqual(levels(target(1920, 1080, bitrate=5_000_000)), [40, 40, 40])
        self.assertEqual(levels(target(1280, 720, bitrate=2_500_000)), [31, 31, 31])
        self.assertEqual(levels(target(640, 360)), [30, 21, 21])
        self.assertEqual(levels(target(3840, 2160, 60, 20_000_000)), [52, 51, 51])

    def test_upright_is_the_same(self) -> None:
        self.assertEqual(levels(target(720, 1280)), levels(target(1280, 720)))

    def test_rate_bitrate_buffer_and_a_long_side_raise_it(self) -> None:
        self.assertEqual(levels(target(1280, 720, 60)), [32, 40, 40])
        self.assertEqual(levels(target(640, 360, bitrate=14_000_000, bufsize=14_000_000)), [31, 41, 41])
        self.assertEqual(levels(target(640, 360, bufsize=20_000_000)), [32, 41, 21])
        self.assertEqual(levels(target(4400, 64)), [50, 50, 40])

    def test_what_no_level_takes_gets_the_highest(self) -> None:
        self.assertEqual(levels(target(8192, 8192, 240, 10**9)), [62, 62, 62])

    @given(st.integers(16, 8192), st.integers(16, 8192), st.floats(1, 240), st.integers(1, 10**9))
    def test_any_profile(self, width: int, height: int, rate: float, bitrate: int) -> None:
        for number in levels(target(width, height, rate, bitrate)):
            self.assertIn(number, range(10, 63))

    def test_names(self) -> None:
        names = [codec_string(Target(1280, 720, 30.0, 1, 1, 1, codec=codec)) for codec in CODECS]
        self.assertEqual(names, ["avc1.64001f", "hvc1.1.6.L93.90", "av01.0.05M.08"])

    def test_the_rate_of_what_is_made(self) -> None:
        for source, ceiling, made in (
            (Fraction(25), 30.0, Fraction(25)),
            (Fraction(60), 30.0, Fraction(30)),
            (Fraction(60000, 1001), 29.97, Fraction(30000, 1001)),
            (None, 15.0, Fraction(15)),
            (Fraction(60000, 1001), 30.0, Fraction(30000, 1001)),
            (Fraction(31), 30.0, Fraction(31)),
            (Fraction(50), 30.0, Fraction(30)),
            (Fraction(90), 30.0, Fraction(30)),
        ):
            self.assertAlmostEqual(coded_rate(source, ceiling), made, places=4)


class TestTruth(SynchronousTestCase):
    def test_no_segment_is_above_the_peak_that_is_said_before(self) -> None:
        """Small pictures that are hard to code, where what the container adds counts most."""
        source = clip(
            video(8, size=(320, 180), gop=2.0, bframes=2, options={"crf": "1", "preset": "ultrafast"})
        )
        profiles = tuple(
            Profile(name=codec.value, codec=codec.value, width=320, height=180, bitrate=20_000)
            for codec in CODECS
        )
        rungs = ladder(profiles, CODECS, source.tracks[0], None).renditions
        made = run([job(rungs, Software(None, preset="ultrafast")), *source.tracks, *source.packets])
        for one in rungs:
            for first in source.keyframes:
                segment = [
                    packet for packet in made.packets(one.video) if first <= packet.pts < first + 2 * TICKS
                ]
                # A box for each half second, and twelve bytes a sample.
                size = sum(len(packet.payload) + 12 for packet in segment) + 4 * 120
                self.assertLessEqual(8 * size / 2, peak(one.target, 0), one.name)

    def test_av1_is_called_by_the_sources_colour(self) -> None:
        profile = Profile(name="a", codec="av1", width=128, height=72, bitrate=50_000)
        hdr = {"color_primaries": "bt2020", "color_trc": "smpte2084", "colorspace": "bt2020nc"}
        old = {"color_primaries": "smpte170m", "color_trc": "smpte170m", "colorspace": "smpte170m"}
        hd = {"color_primaries": "bt709", "color_trc": "bt709", "colorspace": "bt709"}
        names = set()
        for codec in ("libx264", "libx265", "libsvtav1"):
            for colours in ({}, hd, old, hdr, {**hd, "color_range": "pc"}, {"color_range": "pc"}):
                source = clip(video(0.2, size=(160, 90), codec=codec, options=colours))
                (rung,) = ladder((profile,), ("a",), source.tracks[0], None).renditions
                made = run([job([rung], Software(None, preset="ultrafast")), *source.tracks, *source.packets])
                (track,) = made.tracks(rung.video)
                said = codec_string(rung.target, colour(source.tracks[0]))
                self.assertEqual(said, track.codec_string, (codec, colours))
                names.add(said)
        self.assertEqual(len(names), 4)

    def test_what_is_said_before_is_what_the_encoders_write(self) -> None:
        """Also where the picture does not fill the box, where the rate has a ceiling, and where the bitrate is high."""
        sources = (clip(video(0.5, size=(640, 360), rate=60)), clip(video(0.5, size=(180, 320))))
        for codec in CODECS:
            profiles = (
                Profile(name="a", codec=codec.value, width=640, height=360, bitrate=900_000),
                Profile(
                    name="b", codec=codec.value, width=320, height=180, bitrate=9_000_000, bufsize=3_000_000
                ),
                Profile(name="c", codec=codec.value, width=160, height=90, bitrate=50_000, framerate=12.5),
            )
            for source in sources:
                rungs = ladder(profiles, ("a", "b", "c"), source.tracks[0], None).renditions
                asked = job(rungs, Software(None, preset="ultrafast"))
                made = run([asked, *source.tracks, *source.packets])
                self.assertEqual((made.code, made.errors, made.troubles), (0, "", []))
                for one in rungs:
                    (track,) = made.tracks(one.video)
                    rate = coded_rate(source.tracks[0].frame_rate, one.target.framerate)
                    self.assertEqual(
                        (track.codec_string, track.codec, (track.width, track.height), track.frame_rate),
                        (codec_string(one.target), codec, one.size, rate),
                    )
