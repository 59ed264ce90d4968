"""ffmpeg publishes, and what comes out is what went in."""

from pathlib import Path

from twisted.trial.unittest import TestCase

from tests.e2e.programs import FFMPEG_9, probe, publish, server


class PublishTests(TestCase):
    """One server, one encoder, ffprobe as the viewer."""

    def publish_and_probe(self, **encoder: object) -> dict[str, dict[str, object]]:
        with server() as running:
            name, key = running.new_stream("Probe")
            with publish(running.ingest(key), Path(running.folder, "encoder.log"), **encoder):  # type: ignore[arg-type]
                running.wait_live(name)
                return {str(stream["codec_type"]): stream for stream in probe(running.hls(name))}

    def test_h264_and_aac_from_debians_ffmpeg(self) -> None:
        streams = self.publish_and_probe()
        self.assertEqual((streams["video"]["codec_name"], streams["video"]["width"]), ("h264", 640))
        self.assertEqual(streams["audio"]["codec_name"], "aac")

    def test_hevc_by_enhanced_rtmp(self) -> None:
        streams = self.publish_and_probe(
            ffmpeg=FFMPEG_9,
            video=(
                "libx265",
                "-preset",
                "ultrafast",
                "-x265-params",
                "log-level=error:keyint=60:min-keyint=60",
            ),
            more=("-rtmp_enhanced_codecs", "hvc1,av01,vp09"),
        )
        self.assertEqual((streams["video"]["codec_name"], streams["video"]["width"]), ("hevc", 640))

    def test_av1_by_enhanced_rtmp(self) -> None:
        streams = self.publish_and_probe(
            ffmpeg=FFMPEG_9,
            video=("libsvtav1", "-preset", "12"),
            more=("-rtmp_enhanced_codecs", "hvc1,av01,vp09"),
        )
        self.assertEqual((streams["video"]["codec_name"], streams["video"]["width"]), ("av1", 640))
