"""Every codec of WebRTC with real clients: Chromium publishes and plays VP8, VP9 and AV1, FFmpeg publishes AV1 by RTMP,
who has no H.264 is sent VP8, and a browser publishes three sizes at once."""

import io
import re
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

import av
import pytest

from tests.e2e.hls import Watcher
from tests.e2e.programs import FFMPEG_9, publish, until
from tests.e2e.test_whip import PUBLISH
from tests.e2e.whep import PLAY, STATS, WHEPCase

ASKED = """
async () => [...(await window.publishing.getStats()).values()]
    .filter(one => one.type === 'outbound-rtp' && one.rid).map(one => one.pliCount)
"""
AV1 = ("libsvtav1", "-preset", "12", "-svtav1-params", "rtc=1:pred-struct=1")


@pytest.mark.alone
class CodecTests(WHEPCase):
    settings: ClassVar[dict[str, str | None]] = {"OXIDECAST_HLS_SEGMENT_DURATION": "2"}

    def page(self) -> Any:
        return self.open(f"{self.server.url}/health", self.new_context(bypass_csp=True))

    def publisher(self, key: str, codec: str, encodings: list[dict[str, Any]] | None = None) -> Any:
        page = self.page()
        address = f"{self.server.url}/api/v1/webrtc/whip"
        status, text = page.evaluate(PUBLISH, [address, key, codec, encodings])
        self.assertEqual(status, 201, text)
        return page

    def assert_played(
        self, name: str, codec: str, *offered: str, frames: int = 45, rendition: str = ""
    ) -> dict[str, Any]:
        """A browser that offers these codecs (all, when none is named) sees a stream in this one."""
        page = self.page()
        address = f"{self.server.url}/api/v1/webrtc/{name}/whep?rendition={rendition}"
        status, text = page.evaluate(PLAY, [address, 0, list(offered)])
        self.assertEqual(status, 201, text)
        deadline, stats = time.monotonic() + 20, {}
        while stats.get("video", {}).get("framesDecoded", 0) < frames:
            self.assertLess(time.monotonic(), deadline, stats)
            page.wait_for_timeout(200)
            stats = page.evaluate(STATS)
        self.assertEqual((stats["codec"], stats["video"]["packetsLost"]), (codec, 0))
        self.assertGreater(stats["audio"]["totalAudioEnergy"], 0)
        page.close()
        return stats

    def assert_in_hls(self, name: str, rendition: str, codec: str) -> None:
        self.server.wait_live(name)
        address, _ = self.server.media_playlist(name, rendition)
        with Watcher(address) as watcher:
            until(lambda: len(watcher.segments) >= 2, 30, f"{name} has two segments")
        self.assertEqual(watcher.faults, [])
        whole = watcher.inits[watcher.segments[0].init] + b"".join(one.body for one in watcher.segments)
        with av.open(io.BytesIO(whole)) as container:
            self.assertEqual(container.streams.video[0].codec_context.name, codec)
            self.assertEqual(len(container.streams.audio), 1)
            self.assertGreater(len(list(container.decode(video=0))), 20)

    def test_what_a_browser_publishes(self) -> None:
        for codec in ("VP8", "VP9", "AV1"):
            with self.subTest(codec):
                profiles = {"transcoding_profiles": ["360p"]} if codec == "VP8" else {}
                name, key = self.server.new_stream(f"In {codec}", **profiles)
                page = self.publisher(key, codec)
                until(lambda name=name: self.server.stream(name)["state"] == "live", 15, f"{name} is live")
                self.assert_played(name, f"video/{codec}")
                if codec == "VP8":
                    self.assert_played(name, "video/H264", "H264")
                    self.assert_in_hls(name, "360p", "h264")
                page.close()

    def test_av1_by_rtmp_is_passed_through(self) -> None:
        name, key = self.server.new_stream("AV1 by RTMP")
        log = Path(self.server.folder, "av1.log")
        more = ("-rtmp_enhanced_codecs", "av01")
        with publish(self.server.ingest(key), log, ffmpeg=FFMPEG_9, video=AV1, more=more):
            until(lambda: self.server.stream(name)["state"] == "live", 20, "the stream is live")
            self.assert_played(name, "video/AV1")

    def test_who_has_no_h264_is_sent_vp8(self) -> None:
        name, key = self.server.new_stream("For all", transcoding_profiles=["360p"])
        with ExitStack() as stack:
            stack.enter_context(publish(self.server.ingest(key), Path(self.server.folder, "all.log")))
            until(lambda: self.server.stream(name)["state"] == "live", 15, "the stream is live")
            self.assert_played(name, "video/VP8", "VP8", "AV1")
            page = self.page()
            address = f"{self.server.url}/api/v1/webrtc/{name}/whep"
            status, text = page.evaluate(PLAY, [address, 0, ["AV1"]])
            self.assertEqual(status, 422, text)
            self.assertIn("which the offer does not have", text)

    def test_sizes_of_a_simulcast_are_renditions(self) -> None:
        name, key = self.server.new_stream("In three sizes")
        sizes = [
            {"rid": "l", "maxBitrate": 150_000, "scaleResolutionDownBy": 4},
            {"rid": "m", "maxBitrate": 400_000, "scaleResolutionDownBy": 2},
            {"rid": "h", "maxBitrate": 900_000},
        ]
        page = self.publisher(key, "H264", sizes)
        address = f"/api/v1/hls/{name}/playlist.m3u8"

        def listed() -> int:
            return self.server.get(address)[1].count(b"#EXT-X-STREAM-INF")

        until(lambda: listed() == 3, 30, "HLS lists all sizes")
        widths = {one["name"]: one["tracks"][0]["width"] for one in self.server.stream(name)["renditions"]}
        self.assertEqual(widths, {"source": 960, "layer.1": 240, "layer.2": 480})
        stats = self.assert_played(name, "video/H264", rendition="layer.2")
        self.assertEqual(stats["video"]["frameWidth"], 480)
        # All begin their segments at the same times, so players may change between them.
        until(lambda: len(self.begins(name, "source") & self.begins(name, "layer.2")) > 1, 15, "in step")
        self.assertGreater(min(page.evaluate(ASKED)), 0, "each size was asked for keyframes")

    def begins(self, name: str, rendition: str) -> set[str]:
        """When the segments of a rendition begin."""
        _, playlist = self.server.media_playlist(name, rendition)
        return set(re.findall("#EXT-X-PROGRAM-DATE-TIME:(.*)", playlist))
