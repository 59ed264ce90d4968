"""Which renditions are made of a source: sources that people have, and the ladder of the default settings."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.formats.framed_messages import AudioFeed
from oxidecast.media import Codec, Track
from oxidecast.settings.sections import MAX_PROFILES, Profile, TranscodingSettings
from oxidecast.transcoding.backends import Nvenc, Software
from oxidecast.transcoding.backends.vp8 import VP8
from oxidecast.transcoding.profiles import LEAST_BITRATE, Ladder, job, ladder, low_latency, shown_size
from oxidecast.transcoding.targets import codec_string, coded_rate
from tests.transcoding.clips import video

PROFILES = TranscodingSettings().profiles
ALL = tuple(profile.name for profile in PROFILES)
SOFTWARE = Software(None)


def source(width: int, height: int, rate: int = 30, codec: Codec = Codec.AV1) -> Track:
    return Track(
        id=1,
        codec=codec,
        extradata=b"",
        codec_string="",
        width=width,
        height=height,
        frame_rate=Fraction(rate),
    )


def sound(codec: Codec = Codec.AAC, channels: int = 2) -> Track:
    return Track(id=2, codec=codec, extradata=b"", codec_string="", sample_rate=48_000, channels=channels)


def sizes(made: Ladder) -> dict[str, tuple[int, int]]:
    return {rendition.name: rendition.size for rendition in made.renditions}


class TestSizes(SynchronousTestCase):
    def of(self, width: int, height: int, names: tuple[str, ...] = ALL) -> dict[str, tuple[int, int]]:
        return sizes(ladder(PROFILES, names, source(width, height), sound()))

    def test_full_hd_gets_all(self) -> None:
        self.assertEqual(
            self.of(1920, 1080),
            {"1080p": (1920, 1080), "720p": (1280, 720), "480p": (854, 480), "360p": (640, 360)},
        )

    def test_larger_than_every_profile(self) -> None:
        self.assertEqual(self.of(3840, 2160), self.of(1920, 1080))

    def test_profiles_above_the_source_are_left_out_and_why_is_said(self) -> None:
        made = ladder(PROFILES, ALL, source(1280, 720), None)
        self.assertEqual(list(sizes(made)), ["720p", "480p", "360p"])
        self.assertEqual(made.left_out, {"1080p": "the source is smaller (1280x720)"})

    def test_smaller_than_every_profile_gets_the_smallest_at_its_own_size(self) -> None:
        self.assertEqual(self.of(320, 180), {"360p": (320, 180)})
        self.assertEqual(self.of(320, 180, ("1080p", "720p")), {"720p": (320, 180)})

    def test_only_what_was_asked_for(self) -> None:
        self.assertEqual(self.of(1920, 1080, ("480p",)), {"480p": (854, 480)})
        self.assertEqual(self.of(1920, 1080, ()), {})
        self.assertEqual(self.of(1920, 1080, ("unknown",)), {})

    def test_upright_square_wide_and_odd(self) -> None:
        self.assertEqual(self.of(1080, 1920)["720p"], (720, 1280))
        square = {"1080p": 1080, "720p": 720, "480p": 480, "360p": 360}
        self.assertEqual(self.of(1080, 1080), {name: (side, side) for name, side in square.items()})
        self.assertEqual(self.of(2560, 1080)["720p"], (1280, 540))
        self.assertEqual(self.of(1919, 1079)["1080p"], (1918, 1078))

    def test_pixels_that_are_not_square(self) -> None:
        track, _ = video(0.1, size=(360, 270), shape=Fraction(4, 3))
        self.assertEqual(shown_size(track), (480, 270))
        hevc, _ = video(0.1, size=(360, 270), shape=Fraction(4, 3), codec="libx265")
        self.assertEqual(shown_size(hevc), (480, 270))

    def test_a_configuration_that_cannot_be_read_counts_as_square(self) -> None:
        self.assertEqual(shown_size(source(640, 360, codec=Codec.H264)), (640, 360))

    def test_no_pictures_and_no_size(self) -> None:
        self.assertEqual(
            ladder(PROFILES, ("720p",), None, sound()).left_out, {"720p": "the source has no pictures"}
        )
        self.assertEqual(
            ladder(PROFILES, ("720p",), source(0, 0), None).left_out,
            {"720p": "the source does not say its size"},
        )

    def test_a_name_that_has_left_the_settings_is_left_out_with_a_reason(self) -> None:
        for track in (source(1920, 1080), source(0, 0), None):
            made = ladder(PROFILES, ("gone", "480p"), track, sound())
            self.assertEqual({*sizes(made), *made.left_out}, {"gone", "480p"})
            self.assertIn("no profile of this name", made.left_out["gone"])

    def test_the_last_of_the_most_that_there_may_be_is_made(self) -> None:
        profiles = tuple(
            Profile(name=f"p{at}", width=160, height=90, bitrate=100_000) for at in range(MAX_PROFILES)
        )
        rungs = ladder(profiles, [one.name for one in profiles], source(640, 360), sound()).renditions
        self.assertEqual(len(rungs), MAX_PROFILES)
        kinds = (*rungs, *(low_latency(one, "live") for one in rungs))
        numbers = [one.video for one in (*kinds, *(low_latency(one, "vp8", VP8) for one in rungs))]
        self.assertEqual(len({*numbers}), 3 * MAX_PROFILES)

    @given(st.integers(16, 8192), st.integers(16, 8192), st.sets(st.sampled_from(ALL)))
    def test_any_source(self, width: int, height: int, names: set[str]) -> None:
        made = ladder(PROFILES, names, source(width, height), sound())
        self.assertEqual(bool(made.renditions), bool(names))
        self.assertEqual({*sizes(made), *made.left_out}, names)
        for one in made.renditions:
            self.assertTrue(all(side % 2 == 0 for side in one.size))
            self.assertTrue(one.size[0] <= max(width, 16) and one.size[1] <= max(height, 16))
        job(made.renditions, SOFTWARE)


class TestSound(SynchronousTestCase):
    def feeds(self, track: Track | None, measured: int | None = None) -> dict[str, AudioFeed | None]:
        made = ladder(PROFILES, ALL, source(1920, 1080), track, measured)
        return {one.name: one.audio for one in made.renditions}

    def test_each_bitrate_is_encoded_once(self) -> None:
        profiles = (
            *PROFILES,
            Profile(name="240p", width=426, height=240, bitrate=300_000, audio_bitrate=64_000),
        )
        made = ladder(profiles, [*ALL, "240p"], source(1920, 1080), sound())
        feeds = {one.name: one.audio for one in made.renditions}
        self.assertEqual(feeds["240p"], feeds["360p"])
        self.assertEqual(len(job(made.renditions, SOFTWARE).audios), 4)

    def test_sound_that_fits_is_copied(self) -> None:
        feeds = self.feeds(sound(), 130_000)
        self.assertEqual(
            [feeds[name].codec for name in ALL if feeds[name]],  # type: ignore[union-attr]
            ["copy", "copy", "aac", "aac"],
        )

    def test_what_is_not_aac_not_stereo_or_not_known_is_encoded(self) -> None:
        for track, measured in ((sound(Codec.OPUS), 1000), (sound(channels=6), 1000), (sound(), None)):
            self.assertEqual({feed.codec for feed in self.feeds(track, measured).values() if feed}, {"aac"})

    def test_no_sound(self) -> None:
        self.assertEqual(set(self.feeds(None).values()), {None})


class TestCodecs(SynchronousTestCase):
    MIXED = (
        Profile(name="a", width=640, height=360, bitrate=500_000),
        Profile(name="b", codec="hevc", width=640, height=360, bitrate=350_000),
        Profile(name="c", codec="av1", width=320, height=180, bitrate=150_000),
    )

    def test_each_profile_in_its_own(self) -> None:
        made = job(ladder(self.MIXED, "abc", source(1280, 720), None).renditions, SOFTWARE)
        self.assertEqual([feed.encoder for feed in made.videos], ["libx264", "libx265", "libsvtav1"])
        self.assertEqual([feed.least for feed in made.videos], [16, 64, 64])

    def test_for_webrtc_it_is_h264(self) -> None:
        rungs = ladder(self.MIXED, "bc", source(1280, 720), sound()).renditions
        made = job([low_latency(one, f"{one.name}:live") for one in rungs], SOFTWARE)
        self.assertEqual({feed.encoder for feed in made.videos}, {"libx264"})
        self.assertEqual({feed.options["profile"] for feed in made.videos}, {"baseline"})

    def test_pictures_that_an_encoder_does_not_take(self) -> None:
        made = ladder(self.MIXED, "abc", source(640, 100), None)
        self.assertEqual(list(sizes(made)), ["a", "b"])
        self.assertIn("320x50, and av1 takes none below 64", made.left_out["c"])
        self.assertIn("640x50", ladder(self.MIXED, "b", source(640, 50), None).left_out["b"])

    def test_there_is_h264_whatever_else_fits(self) -> None:
        """Players have no choice but the ladder where the source is HEVC or AV1."""
        profiles = (
            Profile(name="h1080", width=1920, height=1080, bitrate=5_000_000),
            Profile(name="h720", width=1280, height=720, bitrate=2_500_000),
            Profile(name="a360", codec="av1", width=640, height=360, bitrate=300_000),
        )
        for size, made in (
            ((1280, 720), {"h720": (1280, 720), "a360": (640, 360)}),
            ((640, 480), {"h720": (640, 480), "a360": (480, 360)}),
            ((320, 240), {"h720": (320, 240), "a360": (320, 240)}),
            ((60, 60), {"h720": (60, 60)}),
            ((100, 40), {"h720": (100, 40)}),
        ):
            of = ladder(profiles, ("h1080", "h720", "a360"), source(*size, codec=Codec.HEVC), None)
            self.assertEqual(sizes(of), made)
            self.assertEqual({*made, *of.left_out}, {"h1080", "h720", "a360"})

    def test_what_its_encoder_does_not_take_is_not_what_stays(self) -> None:
        profiles = (
            Profile(name="hevc", codec="hevc", width=1280, height=720, bitrate=1_000_000),
            Profile(name="av1", codec="av1", width=640, height=360, bitrate=300_000),
        )
        made = ladder(profiles, ("hevc", "av1"), source(1000, 90), None)
        self.assertEqual(sizes(made), {"hevc": (1000, 90)})
        self.assertIn("640x58, and av1 takes none below 64", made.left_out["av1"])

    def test_what_a_device_lacks_is_made_in_software(self) -> None:
        device = Nvenc(None)
        device.program, device.lacks = device.path, {Codec.AV1: "too old"}
        made = job(ladder(self.MIXED, "abc", source(1280, 720), None).renditions, device, software=SOFTWARE)
        self.assertEqual([feed.encoder for feed in made.videos], ["h264_nvenc", "hevc_nvenc", "libsvtav1"])
        self.assertEqual([feed.on_device for feed in made.videos], [True, True, False])
        self.assertEqual(made.device, device.path)


class TestJob(SynchronousTestCase):
    def test_numbers_stay_when_others_come_and_go(self) -> None:
        everything = ladder(PROFILES, ALL, source(1920, 1080), sound()).renditions
        alone = ladder(PROFILES, ("480p",), source(1280, 720), sound()).renditions
        self.assertEqual(alone[0].video, everything[2].video)
        self.assertEqual(alone[0].audio, everything[2].audio)
        numbers = [one.video for one in everything] + [one.audio.feed for one in everything if one.audio]
        self.assertEqual(len(set(numbers)), 8)

    def test_for_webrtc(self) -> None:
        rendition = ladder(PROFILES, ("720p",), source(1920, 1080), sound()).renditions[0]
        direct = low_latency(rendition, "720p-direct")
        made = job([rendition, direct], SOFTWARE)
        self.assertEqual([feed.codec for feed in made.audios], ["aac", "opus"])
        self.assertEqual([feed.options["bf"] for feed in made.videos], ["2", "0"])
        self.assertEqual(len({feed.feed for feed in made.videos}), 2)

    def test_the_ceiling_of_the_rate_and_the_shortest_interval(self) -> None:
        profiles = (
            Profile(name="a", width=640, height=360, bitrate=500_000, framerate=25.0, keyframe_interval=4.0),
            Profile(name="b", width=320, height=180, bitrate=200_000, framerate=15.0, keyframe_interval=1.5),
        )
        made = job(ladder(profiles, ("a", "b"), source(1920, 1080, 60), None).renditions, SOFTWARE)
        self.assertEqual([feed.framerate for feed in made.videos], [25.0, 15.0])
        self.assertEqual((made.keyframe_interval, made.audios), (1.5, ()))

    def test_the_level_knows_how_many_pictures_there_will_be(self) -> None:
        """A source a little above the ceiling keeps its pictures, as do every second of twice as many."""
        for rate, most, name in (
            (25, 30, "avc1.64001f"),
            (30, 30, "avc1.64001f"),
            (50, 30, "avc1.64001f"),
            (31, 31, "avc1.640020"),
            (62, 31, "avc1.640020"),
        ):
            (made,) = ladder(PROFILES, ("720p",), source(1920, 1080, rate), None).renditions
            self.assertEqual((made.target.framerate, codec_string(made.target)), (most, name))
            self.assertEqual(coded_rate(Fraction(rate), made.target.framerate), min(rate, most))

    def test_rates_of_the_profile_or_made_of_its_bitrate(self) -> None:
        profile = Profile(name="a", width=640, height=360, bitrate=500_000)
        exact = Profile(name="b", width=640, height=360, bitrate=500_000, maxrate=600_000, bufsize=700_000)
        made = ladder((profile, exact), ("a", "b"), source(1920, 1080), None).renditions
        self.assertEqual(
            [(one.target.maxrate, one.target.bufsize) for one in made],
            [(550_000, 1_000_000), (600_000, 700_000)],
        )

    def test_smaller_than_every_profile_has_as_much_less_bitrate(self) -> None:
        """A quarter of the pixels, a quarter of the bits; shapes do not matter, nor does a box that nearly fits."""
        for size, part in (
            ((320, 180), 4),
            ((180, 320), 4),
            ((240, 180), 4),
            ((630, 354), 1),
            ((64, 36), 100),
        ):
            (made,) = ladder(PROFILES, ("360p",), source(*size), None).renditions
            rates = (made.target.bitrate, made.target.maxrate, made.target.bufsize)
            whole = (500_000, 550_000, 1_000_000)
            self.assertEqual(rates, tuple(max(bits // part, LEAST_BITRATE) for bits in whole))

    def test_a_bitrate_below_the_least_stays(self) -> None:
        low = Profile(name="a", width=640, height=360, bitrate=9_000)
        (made,) = ladder((low,), ("a",), source(160, 90), None).renditions
        self.assertEqual(made.target.bitrate, 9_000)

    def test_sound_alone(self) -> None:
        opus = AudioFeed(feed=192, codec="opus")
        self.assertEqual(job((), SOFTWARE, others=[opus]).audios, (opus,))
