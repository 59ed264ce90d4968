"""Real encoders publish, and what comes out is what went in: ffprobe and VLC are the viewers."""

from typing import Any

from tests.e2e.programs import FFMPEG_5, FFMPEG_9, ServerCase, probe, publish, until
from tests.e2e.vlc import watching

ENHANCED = ("-rtmp_enhanced_codecs", "hvc1,av01,vp09,Opus,ac-3")
HEVC = ("libx265", "-preset", "ultrafast", "-x265-params", "log-level=error:keyint=60:min-keyint=60")
AV1 = ("libsvtav1", "-preset", "12", "-svtav1-params", "pred-struct=1")
VP9 = ("libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "300k")
AAC = ("aac", "-b:a", "96k")
MP3 = ("libmp3lame", "-b:a", "96k")
OPUS = ("libopus", "-b:a", "64k")

FRAMES = 60
"""Two seconds of pictures, after those that a player needed to start."""


class Publishing(ServerCase):
    """One server; each test publishes a stream and looks at it."""

    def look(self, **encoder: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """(what ffprobe says by kind, what the API says) of a stream published so."""
        name, key = self.server.new_stream("Published")
        with publish(self.server.ingest(key), self.log("encoder"), **encoder):
            said = self.server.wait_live(name)
            return {stream["codec_type"]: stream for stream in probe(self.server.hls(name))}, said

    def assert_vlc_watches(self, **encoder: Any) -> None:
        """VLC shows a stream published so, frame after frame, and loses none."""
        name, key = self.server.new_stream("Watched")
        with publish(self.server.ingest(key), self.log("encoder"), **encoder):
            self.server.wait_live(name)
            with watching(self.server.hls(name), self.log("vlc")) as player:
                player.wait_frames(FRAMES, 25)

    def assert_codecs(self, streams: dict[str, Any], **expected: str) -> None:
        found = {kind: stream["codec_name"] for kind, stream in streams.items()}
        self.assertEqual(found, expected)


class FragmentedTests(Publishing):
    """fMP4, the default."""

    def test_h264_and_aac_from_debians_ffmpeg(self) -> None:
        streams, said = self.look(ffmpeg=FFMPEG_5)
        self.assert_codecs(streams, video="h264", audio="aac")
        self.assertEqual((streams["video"]["width"], streams["video"]["height"]), (640, 360))
        self.assertEqual(streams["video"]["r_frame_rate"], "30/1")
        self.assertEqual((streams["audio"]["sample_rate"], streams["audio"]["channels"]), ("48000", 1))
        self.assertEqual([track["codec"] for track in said["tracks"]], ["h264", "aac"])
        self.assertEqual(said["notices"], [])

    def test_h264_and_aac_from_ffmpeg_9(self) -> None:
        self.assert_codecs(self.look(ffmpeg=FFMPEG_9)[0], video="h264", audio="aac")

    def test_hevc_by_enhanced_rtmp(self) -> None:
        streams, _ = self.look(ffmpeg=FFMPEG_9, video=HEVC, more=ENHANCED)
        self.assert_codecs(streams, video="hevc", audio="aac")
        self.assertEqual(streams["video"]["width"], 640)

    def test_av1_by_enhanced_rtmp(self) -> None:
        streams, _ = self.look(ffmpeg=FFMPEG_9, video=AV1, more=ENHANCED)
        self.assert_codecs(streams, video="av1", audio="aac")
        self.assertEqual(streams["video"]["width"], 640)

    def test_vp9_and_opus_by_enhanced_rtmp(self) -> None:
        streams, _ = self.look(ffmpeg=FFMPEG_9, video=VP9, audio=OPUS, more=ENHANCED)
        self.assert_codecs(streams, video="vp9", audio="opus")
        self.assertEqual(streams["video"]["width"], 640)

    def test_ac3_by_enhanced_rtmp(self) -> None:
        streams, _ = self.look(ffmpeg=FFMPEG_9, audio=("ac3", "-b:a", "96k"), more=ENHANCED)
        self.assert_codecs(streams, video="h264", audio="ac3")

    def test_sound_without_pictures(self) -> None:
        streams, said = self.look(video=None)
        self.assert_codecs(streams, audio="aac")
        self.assertEqual(len(said["tracks"]), 1)

    def test_pictures_without_sound(self) -> None:
        self.assert_codecs(self.look(audio=None)[0], video="h264")

    def test_mp3_is_left_out_and_named_while_the_pictures_go_on(self) -> None:
        streams, said = self.look(audio=MP3)
        self.assert_codecs(streams, video="h264")
        self.assertEqual(len(said["notices"]), 1)
        self.assertIn("mp3", said["notices"][0])
        self.assertIn("mp3", self.server.output)

    def test_a_wrong_key_is_an_error_that_ffmpeg_shows(self) -> None:
        with publish(self.server.ingest("not-a-key"), self.log("encoder")) as encoder:
            until(lambda: encoder.process.poll() is not None, 10, "ffmpeg gives up")
            self.assertIn("The stream key is not known", encoder.output)
        self.assertNotIn("not-a-key", self.server.output)

    def test_vlc_watches_h264(self) -> None:
        self.assert_vlc_watches()

    def test_vlc_watches_hevc(self) -> None:
        self.assert_vlc_watches(ffmpeg=FFMPEG_9, video=HEVC, more=ENHANCED)

    def test_vlc_watches_av1(self) -> None:
        self.assert_vlc_watches(ffmpeg=FFMPEG_9, video=AV1, more=ENHANCED)


class TransportStreamTests(Publishing):
    """MPEG-TS, by setting."""

    settings = {"OXIDECAST_HLS_SEGMENT_TYPE": "mpegts"}

    def test_h264_and_aac(self) -> None:
        self.assert_codecs(self.look()[0], video="h264", audio="aac")

    def test_h264_and_mp3(self) -> None:
        streams, said = self.look(audio=MP3)
        self.assert_codecs(streams, video="h264", audio="mp3")
        self.assertEqual(said["notices"], [])

    def test_hevc(self) -> None:
        streams, _ = self.look(ffmpeg=FFMPEG_9, video=HEVC, more=ENHANCED)
        self.assert_codecs(streams, video="hevc", audio="aac")

    def test_sound_without_pictures(self) -> None:
        self.assert_codecs(self.look(video=None)[0], audio="aac")

    def test_av1_is_left_out_and_named_while_the_sound_goes_on(self) -> None:
        streams, said = self.look(ffmpeg=FFMPEG_9, video=AV1, more=ENHANCED)
        self.assert_codecs(streams, audio="aac")
        self.assertIn("av1", said["notices"][0])

    def test_vlc_watches_h264(self) -> None:
        self.assert_vlc_watches()
