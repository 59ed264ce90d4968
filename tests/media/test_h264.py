"""H.264 against libx264 and FFmpeg's own muxers, and against hostile bytes."""

import time
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.media import h264, nal
from oxidecast.media.errors import RemoteProtocolError
from oxidecast.media.track import Codec
from tests.media import samples
from tests.media.fuzz import FUZZ, mutated

FAST = {"preset": "ultrafast"}

# width, height, encoder options, then codec string's profile, names, rate
TABLE = [
    (1920, 1080, {"profile": "baseline", **FAST}, "avc1.42c0", "Constrained Baseline", Fraction(30)),
    (1920, 1080, {"profile": "main", "preset": "veryfast"}, "avc1.4d40", "Main", Fraction(30000, 1001)),
    (1280, 720, {"profile": "high", "preset": "veryfast", "bf": "2"}, "avc1.6400", "High", Fraction(60)),
    (322, 182, {"preset": "veryfast"}, "avc1.6400", "High", Fraction(25)),
    (854, 480, {"preset": "veryfast", "x264_params": "interlaced=1"}, "avc1.6400", "High", Fraction(25)),
    (320, 180, {"pixels": "yuv444p", **FAST}, "avc1.f400", "High 4:4:4 Predictive", Fraction(30)),
    (322, 182, {"pixels": "yuv422p10le", **FAST}, "avc1.7a00", "High 4:2:2", Fraction(30)),
]

REAL = h264.configuration_from_annexb(samples.video("libx264", **FAST).packets[0])
REAL_SPS = h264.parse_configuration(REAL).sps[0]


def payload(*units: bytes) -> bytes:
    return nal.length_prefixed(units)


class RealTrackTests(SynchronousTestCase):
    def test_each_profile_and_size_is_read(self) -> None:
        for width, height, options, string, profile, rate in TABLE:
            made = samples.video("libx264", width=width, height=height, rate=rate, **options)
            track = h264.track(h264.configuration_from_annexb(made.packets[0]))
            self.assertEqual(
                (track.codec, track.width, track.height, track.frame_rate, track.profile),
                (Codec.H264, width, height, rate, profile),
            )
            self.assertTrue(track.codec_string.startswith(string), track.codec_string)

    def test_the_record_is_the_one_that_ffmpeg_writes(self) -> None:
        for how in ({}, {"pixels": "yuv444p"}):
            file = samples.muxed("libx264", "mp4", **how)
            self.assertEqual(h264.track(file.extradata).extradata, file.extradata)

    def test_size_and_profile_are_what_ffmpeg_says(self) -> None:
        file = samples.muxed("libx264", "mp4", width=1920, height=1080, preset="ultrafast")
        track = h264.track(file.extradata)
        self.assertEqual((track.width, track.height, track.profile), (file.width, file.height, file.profile))

    def test_the_shape_of_pixels_is_told_apart_from_the_size(self) -> None:
        made = samples.video("libx264", width=720, height=576, shape=Fraction(64, 45), **FAST)
        sets = h264.parameter_sets(h264.from_annexb(made.packets[0]))
        sps = h264.parse_sps(sets.sps[0])
        self.assertEqual((sps.width, sps.height, sps.sample_aspect_ratio), (720, 576, Fraction(64, 45)))

    def test_a_global_header_is_the_same_configuration(self) -> None:
        made = samples.video("libx264", header=True, **FAST)
        self.assertEqual(h264.track(h264.configuration_from_annexb(made.extradata)), h264.track(REAL))


class FrameTests(SynchronousTestCase):
    def test_keyframes_are_those_of_the_encoder(self) -> None:
        made = samples.video("libx264", frames=12, preset="veryfast", g="5")
        found = [h264.is_keyframe(h264.from_annexb(packet)) for packet in made.packets]
        self.assertEqual(found, list(made.keyframes))

    def test_annexb_frames_decode_without_any_other_configuration(self) -> None:
        file = samples.muxed("libx264", "mp4", preset="veryfast")
        track = h264.track(file.extradata)
        frames = samples.decoded("h264", [h264.annexb(packet, track) for packet in file.packets])
        self.assertEqual(len(frames), len(file.packets))

    def test_annexb_begins_with_a_delimiter_and_sets_before_an_idr_only(self) -> None:
        sets = h264.parse_configuration(REAL)
        code = nal.START_CODE
        idr, other = (
            h264.annexb(payload(b"\x65a"), h264.track(REAL)),
            h264.annexb(payload(b"\x41a"), h264.track(REAL)),
        )
        self.assertEqual(idr, code + b"\x09\xf0" + code + sets.sps[0] + code + sets.pps[0] + code + b"\x65a")
        self.assertEqual(other, code + b"\x09\xf0" + code + b"\x41a")

    def test_annexb_does_not_repeat_sets_that_are_in_band(self) -> None:
        sets = h264.parse_configuration(REAL)
        made = h264.annexb(payload(sets.sps[0], sets.pps[0], b"\x65a"), h264.track(REAL))
        self.assertEqual(made.count(nal.START_CODE + b"\x67"), 1)

    def test_strip_removes_delimiters_filler_and_nothing_else(self) -> None:
        dirty = payload(b"\x09\xf0", b"\x06sei", b"", b"\x65slice", b"\x0c\xff\xff")
        self.assertEqual(h264.strip(dirty), payload(b"\x06sei", b"\x65slice"))

    def test_strip_gives_back_the_same_object_when_there_is_nothing_to_remove(self) -> None:
        clean = payload(b"\x06sei", b"\x65slice")
        self.assertIs(h264.strip(clean), clean)

    def test_lengths_of_two_bytes_are_told_and_normalised(self) -> None:
        short = REAL[:4] + b"\xfd" + REAL[5:]
        self.assertEqual(
            (h264.length_size(short), h264.track(short).extradata), (2, h264.track(REAL).extradata)
        )


class InBandTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.track = h264.track(REAL)
        self.small = h264.parse_configuration(
            h264.configuration_from_annexb(samples.video("libx264", width=160, height=90, **FAST).packets[0])
        )

    def test_a_frame_without_sets_changes_nothing(self) -> None:
        self.assertIsNone(h264.in_band(payload(b"\x65a"), self.track))

    def test_the_same_sets_again_change_nothing(self) -> None:
        sets = h264.parse_configuration(REAL)
        repeated = payload(sets.sps[0] + b"\x00", sets.pps[0], b"\x65a")
        self.assertIsNone(h264.in_band(repeated, self.track))

    def test_a_new_size_makes_a_new_track(self) -> None:
        changed = h264.in_band(payload(*self.small.sps, *self.small.pps, b"\x65a"), self.track)
        self.assertEqual((changed.width, changed.height), (160, 90))
        self.assertEqual(h264.parse_configuration(changed.extradata).sps, self.small.sps)

    def test_the_new_track_is_stable(self) -> None:
        frame = payload(*self.small.sps, *self.small.pps, b"\x65a")
        self.assertIsNone(h264.in_band(frame, h264.in_band(frame, self.track)))

    def test_a_new_picture_set_alone_joins_the_configuration(self) -> None:
        second = b"\x68\x5a\x80"  # pic_parameter_set_id 1
        changed = h264.in_band(payload(second), self.track)
        self.assertEqual(set(h264.parse_configuration(changed.extradata).pps) - {second}, set(self._pps()))

    def _pps(self) -> tuple[bytes, ...]:
        return h264.parse_configuration(REAL).pps


class HostileTests(SynchronousTestCase):
    def test_refusals_name_the_field(self) -> None:
        for data, words in [
            (b"", "avcC has 0 bytes"),
            (b"\x02" + REAL[1:], "configurationVersion is 2"),
            (REAL[:20], "in the middle of its parameter sets"),
            (REAL[:5] + b"\xe0\x00", "no sequence parameter set"),
            (REAL + bytes(nal.MAX_CONFIGURATION), "above 65536"),
        ]:
            with self.assertRaisesRegex(RemoteProtocolError, words):
                h264.track(data)

    def test_a_picture_of_absurd_size_is_refused(self) -> None:
        # Baseline, every field 0 but the width: 2^20 macroblocks
        text = "01100111" + "01000010" + "0" * 8 + "00011110" + "1" * 3 + "1" + "1" + "0"
        text += "0" * 20 + "1" + "0" * 20 + "1" + "1" + "000"
        text += "0" * (-len(text) % 8)
        with self.assertRaisesRegex(RemoteProtocolError, "16384 a side"):
            h264.parse_sps(int(text, 2).to_bytes(len(text) // 8, "big"))

    def test_any_sps_is_read_in_bounded_time(self) -> None:
        start = time.process_time()
        for filler in (b"\xff", b"\x55", b"\x24", b"\x92"):
            try:
                h264.parse_sps(b"\x67\x64\x00\x28" + filler * (nal.MAX_PARAMETER_SET - 4))
            except RemoteProtocolError:
                pass
        self.assertLess(time.process_time() - start, 0.2)

    @FUZZ
    @given(mutated(REAL))
    def test_any_record_is_a_track_or_the_peers_fault(self, data: bytes) -> None:
        try:
            h264.track(data)
        except RemoteProtocolError:
            pass

    @FUZZ
    @given(mutated(REAL_SPS, b"\x67"))
    def test_any_sps_is_read_or_the_peers_fault(self, data: bytes) -> None:
        try:
            h264.parse_sps(data)
        except RemoteProtocolError:
            pass

    @FUZZ
    @given(
        st.lists(st.one_of(mutated(REAL_SPS), mutated(b"\x68\xeb\xe3"), st.binary(max_size=8)), max_size=40),
        st.binary(max_size=6),
    )
    def test_any_frame_is_carried_or_the_peers_fault(self, units: list[bytes], tail: bytes) -> None:
        frame, track = payload(*units) + tail, h264.track(REAL)
        for use in (
            h264.strip,
            h264.is_keyframe,
            lambda f: h264.in_band(f, track),
            lambda f: h264.annexb(f, track),
        ):
            try:
                use(frame)
            except RemoteProtocolError:
                pass
