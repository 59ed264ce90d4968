"""AV1 against SVT-AV1 and FFmpeg's own muxers, and against hostile bytes."""

from hypothesis import given
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.media import av1
from oxidecast.media.errors import RemoteProtocolError
from oxidecast.media.track import Codec
from tests.media import samples
from tests.media.fuzz import FUZZ, mutated

FAST = {"preset": "13"}
MADE = samples.video("libsvtav1", width=322, height=182, **FAST)
REAL = av1.configuration(MADE.packets[0])
DELIMITER = b"\x12\x00"


class RealTrackTests(SynchronousTestCase):
    def test_the_track_is_what_the_encoder_was_asked_for(self) -> None:
        track = av1.track(REAL)
        self.assertEqual(
            (track.codec, track.width, track.height, track.codec_string, track.profile, track.level),
            (Codec.AV1, 322, 182, "av01.0.00M.08", "Main", "2.0"),
        )

    def test_ten_bits_are_told(self) -> None:
        made = samples.video("libsvtav1", pixels="yuv420p10le", frames=2, **FAST)
        self.assertEqual(av1.track(av1.configuration(made.packets[0])).codec_string, "av01.0.00M.10")

    def test_ffmpegs_record_describes_the_same_track(self) -> None:
        file = samples.muxed("libsvtav1", "mp4", width=322, height=182, **FAST)
        track = av1.track(file.extradata)
        self.assertEqual((track.width, track.height, track.profile), (file.width, file.height, file.profile))
        self.assertEqual(av1.configuration(file.packets[0])[:3], file.extradata[:3])

    def test_colours_are_in_the_codec_string_when_they_are_not_the_usual(self) -> None:
        made = samples.video(
            "libsvtav1",
            pixels="yuv420p10le",
            frames=2,
            preset="13",
            svtav1_params="color-primaries=9:transfer-characteristics=16:matrix-coefficients=9",
        )
        self.assertEqual(
            av1.track(av1.configuration(made.packets[0])).codec_string, "av01.0.00M.10.0.110.09.16.09.0"
        )


class FrameTests(SynchronousTestCase):
    def test_keyframes_are_those_of_the_encoder(self) -> None:
        made = samples.video("libsvtav1", frames=9, g="4", **FAST)
        self.assertEqual([av1.is_keyframe(packet) for packet in made.packets], list(made.keyframes))

    def test_strip_removes_delimiters_and_nothing_else(self) -> None:
        bare = av1.strip(MADE.packets[0])
        self.assertEqual(av1.strip(DELIMITER + bare + b"\x7a\x01\x80"), bare)

    def test_strip_gives_back_the_same_object_when_there_is_nothing_to_remove(self) -> None:
        bare = av1.strip(MADE.packets[0])
        self.assertIs(av1.strip(bare), bare)

    def test_a_record_without_a_sequence_header_learns_its_size_in_band(self) -> None:
        track = av1.track(REAL[:4])
        self.assertEqual((track.width, track.codec_string), (0, "av01.0.00M.08"))
        self.assertEqual(av1.in_band(MADE.packets[0], track), av1.track(REAL))

    def test_the_same_sequence_header_again_changes_nothing(self) -> None:
        self.assertIsNone(av1.in_band(MADE.packets[0], av1.track(REAL)))
        self.assertIsNone(av1.in_band(MADE.packets[1], av1.track(REAL)))

    def test_a_new_size_makes_a_new_track(self) -> None:
        other = samples.video("libsvtav1", width=160, height=90, frames=2, **FAST)
        changed = av1.in_band(other.packets[0], av1.track(REAL))
        self.assertEqual((changed.width, changed.height), (160, 90))

    def test_a_sequence_header_without_a_size_gets_one_in_the_record(self) -> None:
        unit = av1.sequence_header(MADE.packets[0])
        bare = bytes((unit[0] & ~2,)) + unit[2:]
        self.assertEqual(av1.configuration(bare), REAL)


class HostileTests(SynchronousTestCase):
    def test_refusals_name_the_field(self) -> None:
        for data, words in [
            (b"\x12\x80", "obu_size is cut short"),
            (b"\x12" + b"\x80" * 8 + b"\x00", "longer than 8 bytes"),
            (b"\x12\xff\xff\xff\xff\xff\x01", "above 32 bits"),
            (b"\x12\x05", "5 bytes out"),
            (b"\x92\x00", "obu_forbidden_bit"),
            (DELIMITER * (av1.MAX_OBUS + 1), "more than 2048 OBUs"),
        ]:
            with self.assertRaisesRegex(RemoteProtocolError, words):
                av1.strip(data)
        with self.assertRaisesRegex(RemoteProtocolError, "marker and version"):
            av1.track(b"\x01" + REAL[1:])

    @FUZZ
    @given(mutated(REAL))
    def test_any_record_is_a_track_or_the_peers_fault(self, data: bytes) -> None:
        try:
            av1.track(data)
        except RemoteProtocolError:
            pass

    @FUZZ
    @given(mutated(MADE.packets[0][:40], REAL[4:], DELIMITER))
    def test_any_temporal_unit_is_carried_or_the_peers_fault(self, data: bytes) -> None:
        track = av1.track(REAL)
        for use in (av1.strip, av1.is_keyframe, av1.configuration, lambda d: av1.in_band(d, track)):
            try:
                use(data)
            except RemoteProtocolError:
                pass
