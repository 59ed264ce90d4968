"""HEVC against libx265 and FFmpeg's own muxers, and against hostile bytes."""

import time
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.media import hevc, nal
from oxidecast.media.errors import RemoteProtocolError
from oxidecast.media.track import Codec
from tests.media import samples
from tests.media.fuzz import FUZZ, mutated

QUIET = {"preset": "ultrafast", "x265_params": "log-level=none:keyint=4:bframes=2"}
LISTS = {"preset": "ultrafast", "x265_params": "log-level=none:scaling-list=default:temporal-layers=2"}

# width, height, encoder options, codec string, profile, level, rate
TABLE = [
    (320, 180, QUIET, "hvc1.1.6.L60.90", "Main", "2.0", Fraction(30)),
    (322, 182, {**QUIET, "pixels": "yuv420p10le"}, "hvc1.2.4.L60.90", "Main 10", "2.0", Fraction(25)),
    (1280, 718, LISTS, "hvc1.1.6.L93.90", "Main", "3.1", Fraction(30000, 1001)),
    (322, 182, {**QUIET, "pixels": "yuv444p"}, "hvc1.4.10.L60.9E.8", "Range Extensions", "2.0", Fraction(30)),
]

REAL = hevc.configuration_from_annexb(samples.video("libx265", **QUIET).packets[0])
SETS = hevc.parse_configuration(REAL)


def payload(*units: bytes) -> bytes:
    return nal.length_prefixed(units)


class RealTrackTests(SynchronousTestCase):
    def test_each_profile_and_size_is_read(self) -> None:
        for width, height, options, string, profile, level, rate in TABLE:
            made = samples.video("libx265", width=width, height=height, rate=rate, **options)
            track = hevc.track(hevc.configuration_from_annexb(made.packets[0]))
            self.assertEqual(
                (track.codec, track.width, track.height, track.codec_string, track.profile, track.level),
                (Codec.HEVC, width, height, string, profile, level),
            )
            self.assertEqual(track.frame_rate, rate)

    def test_ffmpegs_record_describes_the_same_track(self) -> None:
        file = samples.muxed("libx265", "mp4", **QUIET)
        track = hevc.track(file.extradata)
        self.assertEqual((track.width, track.height, track.profile), (file.width, file.height, file.profile))
        theirs, ours = file.extradata, track.extradata
        self.assertEqual(theirs[:13], ours[:13])  # profile, tier, level
        self.assertEqual(theirs[16:19], ours[16:19])  # chroma and depths
        self.assertEqual(theirs[21], ours[21])  # layers, nesting, length size

    def test_the_shape_of_pixels_is_told_apart_from_the_size(self) -> None:
        made = samples.video("libx265", width=720, height=576, shape=Fraction(16, 11), frames=1, **QUIET)
        sps = hevc.parse_sps(hevc.parameter_sets(hevc.from_annexb(made.packets[0])).sps[0])
        self.assertEqual((sps.width, sps.height, sps.sample_aspect_ratio), (720, 576, Fraction(16, 11)))


class FrameTests(SynchronousTestCase):
    def test_keyframes_are_those_of_the_encoder(self) -> None:
        made = samples.video("libx265", frames=12, **QUIET)
        self.assertEqual([hevc.is_keyframe(hevc.from_annexb(p)) for p in made.packets], list(made.keyframes))

    def test_annexb_frames_decode_without_any_other_configuration(self) -> None:
        file = samples.muxed("libx265", "mp4", **QUIET)
        track = hevc.track(file.extradata)
        frames = samples.decoded("hevc", [hevc.annexb(packet, track) for packet in file.packets])
        self.assertEqual(len(frames), len(file.packets))

    def test_annexb_puts_sets_before_every_kind_of_irap(self) -> None:
        for kind, sets in ((1, 0), (16, 1), (19, 1), (21, 1)):
            made = hevc.annexb(payload(bytes((kind << 1, 1)) + b"a"), hevc.track(REAL))
            self.assertTrue(made.startswith(hevc.ACCESS_UNIT_DELIMITER))
            self.assertEqual(made.count(SETS.sps[0]), sets, kind)

    def test_strip_removes_delimiters_filler_and_nothing_else(self) -> None:
        dirty = payload(b"\x46\x01\x50", b"\x26\x01slice", b"", b"\x4c\x01\xff")
        self.assertEqual(hevc.strip(dirty), payload(b"\x26\x01slice"))

    def test_strip_gives_back_the_same_object_when_there_is_nothing_to_remove(self) -> None:
        clean = payload(b"\x26\x01slice")
        self.assertIs(hevc.strip(clean), clean)

    def test_a_new_size_makes_a_new_track_that_is_stable(self) -> None:
        small = samples.video("libx265", width=160, height=90, frames=1, **QUIET)
        frame = hevc.from_annexb(small.packets[0])
        changed = hevc.in_band(frame, hevc.track(REAL))
        self.assertEqual((changed.width, changed.height), (160, 90))
        self.assertIsNone(hevc.in_band(frame, changed))

    def test_the_same_sets_again_change_nothing(self) -> None:
        frame = payload(*SETS.vps, *SETS.sps, *SETS.pps, b"\x26\x01a")
        self.assertIsNone(hevc.in_band(frame, hevc.track(REAL)))


class HostileTests(SynchronousTestCase):
    def test_refusals_name_the_field(self) -> None:
        for data, words in [
            (b"\x01", "hvcC has 1 bytes"),
            (b"\x05" + REAL[1:], "configurationVersion is 5"),
            (REAL[:22] + b"\xff" + REAL[23:], "255 arrays"),
            (REAL[:22] + b"\x00", "no sequence parameter set"),
            (REAL[:40], "in the middle of its parameter sets"),
        ]:
            with self.assertRaisesRegex(RemoteProtocolError, words):
                hevc.track(data)

    def test_any_sps_is_read_in_bounded_time(self) -> None:
        start = time.process_time()
        head = SETS.sps[0]
        for cut in range(15, len(head)):
            for filler in (b"\xff", b"\x55", b"\x92"):
                try:
                    hevc.parse_sps(head[:cut] + filler * 1000)
                except RemoteProtocolError:
                    pass
        self.assertLess(time.process_time() - start, 2.0)

    @FUZZ
    @given(mutated(REAL))
    def test_any_record_is_a_track_or_the_peers_fault(self, data: bytes) -> None:
        try:
            hevc.track(data)
        except RemoteProtocolError:
            pass

    @FUZZ
    @given(mutated(SETS.sps[0]))
    def test_any_sps_is_read_or_the_peers_fault(self, data: bytes) -> None:
        try:
            hevc.parse_sps(data)
        except RemoteProtocolError:
            pass

    @FUZZ
    @given(st.lists(st.one_of(mutated(*SETS.sps, *SETS.pps, *SETS.vps), st.binary(max_size=8)), max_size=40))
    def test_any_frame_is_carried_or_the_peers_fault(self, units: list[bytes]) -> None:
        frame, track = payload(*units), hevc.track(REAL)
        for use in (
            hevc.strip,
            hevc.is_keyframe,
            lambda f: hevc.in_band(f, track),
            lambda f: hevc.annexb(f, track),
        ):
            try:
                use(frame)
            except RemoteProtocolError:
                pass
