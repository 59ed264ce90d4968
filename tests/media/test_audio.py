"""Opus, MP3 and AC-3 against FFmpeg's encoders and muxers, and against hostile bytes."""

from hypothesis import given
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.media import ac3, mp3, opus
from oxidecast.media.errors import RemoteProtocolError
from oxidecast.media.track import Codec
from tests.media import samples
from tests.media.fuzz import FUZZ, mutated

HEAD = samples.audio("libopus", 48000, "stereo", kind="ogg").extradata
SURROUND = samples.audio("libopus", 48000, "5.1", kind="ogg").extradata
MP3 = samples.audio("libmp3lame", 44100, "stereo", kind="mp3").packets[1]
AC3 = samples.audio("ac3", 48000, "5.1", kind="ac3").packets[0]


class OpusTests(SynchronousTestCase):
    def test_the_head_becomes_the_body_of_the_box(self) -> None:
        pre_skip = HEAD[10:12]
        self.assertEqual(
            opus.track(HEAD).extradata, b"\x00\x02" + pre_skip[::-1] + b"\x00\x00\xbb\x80\x00\x00\x00"
        )

    def test_the_box_that_ffmpeg_writes_is_the_one_made_of_the_head(self) -> None:
        for layout, head in (("stereo", HEAD), ("5.1", SURROUND)):
            file = samples.audio("libopus", 48000, layout, kind="mp4")
            self.assertEqual(opus.track(head).extradata, opus.track(file.extradata).extradata)

    def test_both_forms_are_one_track(self) -> None:
        track = opus.track(SURROUND)
        self.assertEqual((track.codec, track.codec_string, track.sample_rate), (Codec.OPUS, "opus", 48000))
        self.assertEqual(track.channels, 6)
        self.assertEqual(opus.track(track.extradata), track)

    def test_packets_tell_how_long_they_last(self) -> None:
        file = samples.audio("libopus", 48000, "stereo")
        self.assertEqual({opus.samples(packet) for packet in file.packets}, {960})
        for packet, length in (
            (b"\x00", 480),
            (b"\x18", 2880),
            (b"\x83\x04", 480),
            (b"\x81", 240),
            (b"\x1a", 5760),
        ):
            self.assertEqual(opus.samples(packet), length)

    def test_refusals_name_the_field(self) -> None:
        for data, words in [
            (b"OpusHead\x01", "OpusHead has 1 bytes"),
            (b"\x01" + HEAD[9:], "dOps version is 1"),
            (b"OpusHead\x01\x00" + HEAD[10:], "0 channels"),
            (SURROUND[:-1], "channel mapping"),
        ]:
            with self.assertRaisesRegex(RemoteProtocolError, words):
                opus.track(data)
        for data, words in (
            (b"", "empty"),
            (b"\x03", "frame count"),
            (b"\x1b\x3f", "181440"),
            (b"\x03\x00", "lasts 0"),
        ):
            with self.assertRaisesRegex(RemoteProtocolError, words):
                opus.samples(data)

    @FUZZ
    @given(mutated(HEAD, SURROUND))
    def test_any_bytes_are_read_or_the_peers_fault(self, data: bytes) -> None:
        for use in (opus.track, opus.samples):
            try:
                use(data)
            except RemoteProtocolError:
                pass


class Mp3Tests(SynchronousTestCase):
    def test_frames_are_what_the_encoder_was_asked_for(self) -> None:
        for rate, layout, channels, length in (
            (44100, "stereo", 2, 1152),
            (48000, "mono", 1, 1152),
            (22050, "mono", 1, 576),
        ):
            file = samples.audio("libmp3lame", rate, layout, kind="mp3")
            for packet in file.packets:
                header = mp3.parse_header(packet)
                self.assertEqual(
                    (header.sample_rate, header.channels, header.samples), (rate, channels, length)
                )
                self.assertEqual(header.length, len(packet))

    def test_the_track(self) -> None:
        track = mp3.track(MP3)
        self.assertEqual((track.codec, track.codec_string, track.extradata), (Codec.MP3, "mp4a.40.34", b""))
        self.assertEqual((track.sample_rate, track.channels, track.profile), (44100, 2, "MPEG-1 layer III"))

    def test_refusals_name_the_field(self) -> None:
        for data, words in [
            (b"\xff", "1 bytes of 4"),
            (b"ID3\x04", "sync word"),
            (b"\xff\xfd\x90\x00", "layer code 2"),
            (b"\xff\xfb\x00\x00", "bit rate code 0"),
            (b"\xff\xfb\x9c\x00", "rate code 3"),
        ]:
            with self.assertRaisesRegex(RemoteProtocolError, words):
                mp3.track(data)

    @FUZZ
    @given(mutated(MP3[:8]))
    def test_any_bytes_are_read_or_the_peers_fault(self, data: bytes) -> None:
        try:
            mp3.track(data)
        except RemoteProtocolError:
            pass


class Ac3Tests(SynchronousTestCase):
    def test_frames_are_what_the_encoder_was_asked_for(self) -> None:
        for rate, layout, channels in (
            (48000, "5.1", 6),
            (48000, "stereo", 2),
            (32000, "mono", 1),
            (44100, "stereo", 2),
        ):
            for packet in samples.audio("ac3", rate, layout, kind="ac3").packets:
                header = ac3.parse_header(packet)
                self.assertEqual(
                    (header.sample_rate, header.channels, header.length), (rate, channels, len(packet))
                )

    def test_the_track(self) -> None:
        track = ac3.track(AC3)
        self.assertEqual((track.codec, track.codec_string, track.channels), (Codec.AC3, "ac-3", 6))

    def test_refusals_name_the_field(self) -> None:
        enhanced = AC3[:5] + bytes((16 << 3,)) + AC3[6:]
        for data, words in [
            (b"", "ends"),
            (bytes(16), "sync word"),
            (AC3[:4] + b"\xff", "fscod 3"),
            (enhanced, "bsid is 16"),
        ]:
            with self.assertRaisesRegex(RemoteProtocolError, words):
                ac3.track(data)

    @FUZZ
    @given(mutated(AC3[:16]))
    def test_any_bytes_are_read_or_the_peers_fault(self, data: bytes) -> None:
        try:
            ac3.track(data)
        except RemoteProtocolError:
            pass
