"""VP9 against libvpx and FFmpeg's own muxers, and against hostile bytes."""

from hypothesis import given
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.media import vp9
from oxidecast.media.errors import RemoteProtocolError
from oxidecast.media.track import Codec
from tests.media import samples
from tests.media.fuzz import FUZZ, mutated

FAST = {"deadline": "realtime", "cpu-used": "8"}
RECORD = bytes.fromhex("000b800101010000")
"""Profile 0, level 1.1, 8 bits, BT.709."""

# pixels, profile
TABLE = [("yuv420p", 0), ("yuv422p", 1), ("yuv444p", 1), ("gbrp", 1)]

DEEP = [
    (bytes.fromhex("92498342000a0805ab031c12"), vp9.KeyframeHeader(2, 10, 322, 182)),
    (bytes.fromhex("b124c1a10200a0805ab031c1"), vp9.KeyframeHeader(3, 10, 322, 182)),
    (bytes.fromhex("b124c1a14000a0805ab041c1"), vp9.KeyframeHeader(3, 12, 322, 182)),
]
"""Keyframes of a libvpx that has high bit depths, cut short; the one that PyAV carries has none."""


class RealTests(SynchronousTestCase):
    def test_the_keyframe_header_tells_profile_depth_and_size(self) -> None:
        for pixels, profile in TABLE:
            made = samples.video("libvpx-vp9", width=322, height=182, frames=3, pixels=pixels, **FAST)
            self.assertEqual(vp9.parse_keyframe(made.packets[0]), vp9.KeyframeHeader(profile, 8, 322, 182))
            self.assertEqual([vp9.is_keyframe(packet) for packet in made.packets], list(made.keyframes))

    def test_a_record_is_made_of_a_keyframe(self) -> None:
        made = samples.video("libvpx-vp9", width=322, height=182, frames=3, pixels="yuv420p", **FAST)
        self.assertEqual(vp9.track(vp9.configuration(made.packets[0])).codec_string, "vp09.00.11.08")
        deep = [vp9.track(vp9.configuration(header)).codec_string for header, _ in DEEP]
        self.assertEqual(deep, ["vp09.02.11.10", "vp09.03.11.10", "vp09.03.11.12"])

    def test_high_bit_depths_are_told(self) -> None:
        for data, header in DEEP:
            self.assertEqual(vp9.parse_keyframe(data), header)

    def test_both_forms_of_the_record_are_one_track(self) -> None:
        track = vp9.track(RECORD)
        self.assertEqual(
            (track.codec, track.codec_string, track.profile, track.level, track.extradata),
            (Codec.VP9, "vp09.00.11.08", "Profile 0", "1.1", b"\x01\x00\x00\x00" + RECORD),
        )
        self.assertEqual(vp9.track(b"\x01\x00\x00\x00" + RECORD), track)

    def test_the_size_is_learnt_from_the_first_keyframe_and_then_stays(self) -> None:
        made = samples.video("libvpx-vp9", width=322, height=182, frames=3, **FAST)
        sized = vp9.in_band(made.packets[0], vp9.track(RECORD))
        self.assertEqual((sized.width, sized.height), (322, 182))
        self.assertIsNone(vp9.in_band(made.packets[0], sized))
        self.assertIsNone(vp9.in_band(made.packets[1], sized))


class HostileTests(SynchronousTestCase):
    def test_refusals_name_the_field(self) -> None:
        for data, words in [
            (b"", "0 bytes"),
            (b"\x07" + RECORD[1:], "profile is 7"),
            (bytes(8), "bitDepth is 0"),
        ]:
            with self.assertRaisesRegex(RemoteProtocolError, words):
                vp9.track(data)
        for data, words in [(b"", "frame_marker"), (b"\x82abc", "sync_code"), (b"\x86", "no keyframe")]:
            with self.assertRaisesRegex(RemoteProtocolError, words):
                vp9.parse_keyframe(data)

    @FUZZ
    @given(mutated(RECORD, samples.video("libvpx-vp9", frames=1, **FAST).packets[0][:20]))
    def test_any_bytes_are_read_or_the_peers_fault(self, data: bytes) -> None:
        for use in (vp9.track, vp9.parse_keyframe, lambda d: vp9.in_band(d, vp9.track(RECORD))):
            try:
                use(data)
            except RemoteProtocolError:
                pass
