"""AAC against FFmpeg's encoder, decoder and muxers, and against hostile bytes."""

import io
import subprocess
import tempfile
from pathlib import Path

import av
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.media import aac
from oxidecast.media.errors import LocalProtocolError, RemoteProtocolError
from oxidecast.media.track import Codec
from tests.media import samples
from tests.media.fuzz import FUZZ, mutated


def asc(*fields: tuple[int, int]) -> bytes:
    """An AudioSpecificConfig of (value, bits)."""
    text = "".join(f"{value:0{bits}b}" for value, bits in fields)
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


LC_TAIL = (0, 3)
LC = asc((2, 5), (4, 4), (2, 4), LC_TAIL)
HE = asc((5, 5), (6, 4), (2, 4), (3, 4), (2, 5), LC_TAIL)
HE_V2 = asc((29, 5), (7, 4), (1, 4), (4, 4), (2, 5), LC_TAIL)
HE_BEHIND = asc((2, 5), (6, 4), (2, 4), LC_TAIL, (0x2B7, 11), (5, 5), (1, 1), (3, 4))
HE_V2_BEHIND = asc((2, 5), (7, 4), (1, 4), LC_TAIL, (0x2B7, 11), (5, 5), (1, 1), (4, 4), (0x548, 11), (1, 1))
NO_SBR_BEHIND = asc((2, 5), (4, 4), (1, 4), LC_TAIL, (0x2B7, 11), (5, 5), (0, 1))
SHORT = asc((2, 5), (3, 4), (2, 4), (1, 1), (0, 2))
EXPLICIT = asc((2, 5), (15, 4), (44100, 24), (2, 4), LC_TAIL)
DOWNSAMPLED = asc((5, 5), (3, 4), (2, 4), (3, 4), (2, 5), LC_TAIL)

# configuration, codec string, profile, decoded rate, channels, samples per frame
TABLE = [
    (LC, "mp4a.40.2", "LC", 44100, 2, 1024),
    (HE, "mp4a.40.5", "HE-AAC", 48000, 2, 2048),
    (HE_V2, "mp4a.40.29", "HE-AACv2", 44100, 2, 2048),
    (HE_BEHIND, "mp4a.40.5", "HE-AAC", 48000, 2, 2048),
    (HE_V2_BEHIND, "mp4a.40.29", "HE-AACv2", 44100, 2, 2048),
    (NO_SBR_BEHIND, "mp4a.40.2", "LC", 44100, 1, 1024),
    (SHORT, "mp4a.40.2", "LC", 48000, 2, 960),
    (EXPLICIT, "mp4a.40.2", "LC", 44100, 2, 1024),
    (DOWNSAMPLED, "mp4a.40.5", "HE-AAC", 48000, 2, 1024),
]


def with_program(layout: str, channels: int) -> samples.Muxed:
    """FFmpeg's encoder writes a program_config_element for layouts that have no number."""
    source = "aevalsrc=" + "|".join(["0.1*sin(440*t)"] * channels) + f":c={layout}:s=48000:d=0.2"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.mp4"
        command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", source, "-c:a", "aac", str(path)]
        subprocess.run(command, check=True, timeout=20)
        return samples.read(io.BytesIO(path.read_bytes()))


class TrackTests(SynchronousTestCase):
    def test_each_form_of_configuration_is_read(self) -> None:
        for data, string, profile, rate, channels, length in TABLE:
            track = aac.track(data)
            self.assertEqual(
                (track.codec, track.codec_string, track.profile, track.sample_rate, track.channels),
                (Codec.AAC, string, profile, rate, channels),
            )
            self.assertEqual(aac.samples_per_frame(track), length, string)

    def test_encoders_configurations_agree_with_the_demuxer(self) -> None:
        for rate, layout in ((44100, "mono"), (44100, "stereo"), (48000, "stereo"), (32000, "5.1")):
            file = samples.audio("aac", rate, layout)
            track = aac.track(file.extradata)
            self.assertEqual((track.sample_rate, track.channels), (file.sample_rate, file.channels))
            self.assertEqual(track.profile, file.profile)

    def test_a_program_config_element_is_counted(self) -> None:
        file = with_program("hexagonal", 6)
        self.assertEqual(file.extradata[1] & 0x78, 0)  # channel configuration 0
        self.assertEqual(aac.track(file.extradata).channels, 6)


class AdtsTests(SynchronousTestCase):
    def _through_adts(self, file: samples.Muxed) -> tuple[int, int, int]:
        """Frames, rate and channels that FFmpeg finds in the frames behind our headers."""
        track = aac.track(file.extradata)
        stream = b"".join(aac.adts_header(track, len(packet)) + packet for packet in file.packets)
        with av.open(io.BytesIO(stream), format="aac") as container:
            frames = list(container.decode(audio=0))
            return len(frames), frames[0].sample_rate, len(frames[0].layout.channels)

    def test_frames_decode_behind_their_headers(self) -> None:
        for rate, layout, channels in ((44100, "mono", 1), (48000, "stereo", 2), (32000, "5.1", 6)):
            file = samples.audio("aac", rate, layout)
            self.assertEqual(self._through_adts(file), (len(file.packets), rate, channels))

    def test_frames_with_a_program_decode_behind_their_headers(self) -> None:
        file = with_program("hexagonal", 6)
        self.assertEqual(self._through_adts(file), (len(file.packets), 48000, 6))

    def test_the_header_is_that_of_the_standard(self) -> None:
        self.assertEqual(aac.adts_header(aac.track(LC), 100).hex(), "fff150800d7ffc")

    def test_he_aac_is_said_as_its_core(self) -> None:
        head = int.from_bytes(aac.adts_header(aac.track(HE_V2), 1), "big")
        self.assertEqual((head >> 38 & 3, head >> 34 & 15, head >> 30 & 7), (1, 7, 1))

    def test_what_adts_has_no_bits_for_is_our_own_misuse(self) -> None:
        odd = asc((2, 5), (15, 4), (47999, 24), (2, 4), LC_TAIL)
        wide = asc((2, 5), (4, 4), (12, 4), LC_TAIL)
        for data, length, words in ((odd, 1, "47999"), (wide, 1, "configuration 12"), (LC, 8185, "8192")):
            with self.assertRaisesRegex(LocalProtocolError, words):
                aac.adts_header(aac.track(data), length)


class HostileTests(SynchronousTestCase):
    def test_refusals_name_the_field(self) -> None:
        for data, words in [
            (b"", "in the middle of a field"),
            (asc((39, 5 + 6)), "in the middle|object type"),
            (asc((2, 5), (13, 4), (2, 4), LC_TAIL), "samplingFrequencyIndex 13"),
            (asc((2, 5), (15, 4), (0, 24), (2, 4), LC_TAIL), "samplingFrequency is 0"),
            (asc((2, 5), (4, 4), (9, 4), LC_TAIL), "channel configuration 9"),
            (asc((5, 5), (6, 4), (2, 4), (0, 4), (2, 5), LC_TAIL), "SBR rate 96000"),
            (LC + bytes(2000), "above 1024"),
        ]:
            with self.assertRaisesRegex(RemoteProtocolError, words):
                aac.track(data)

    @FUZZ
    @given(
        mutated(*(row[0] for row in TABLE), asc((2, 5), (3, 4), (0, 4), LC_TAIL) + bytes(20)),
        st.integers(0, 9000),
    )
    def test_any_bytes_are_a_track_or_the_peers_fault(self, data: bytes, length: int) -> None:
        try:
            track = aac.track(data)
        except RemoteProtocolError:
            return
        try:
            aac.adts_header(track, length)
        except LocalProtocolError:
            pass
