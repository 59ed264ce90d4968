"""What playlists and segments promise is true, and stays true from reload to reload."""

import re
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.error import HTTPError
from urllib.parse import urljoin
from urllib.request import Request, urlopen

import m3u8

from tests.e2e.hls import Watcher, packets, ts_faults
from tests.e2e.programs import ServerCase, probe, publish, until

GRACE = "1"


def fetch(url: str, method: str = "GET", **fields: str) -> tuple[int, dict[str, str], bytes]:
    """(status, header fields by lower-case name, body)."""
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    try:
        with urlopen(Request(url, method=method, headers=headers), timeout=15) as answer:
            return answer.status, {n.lower(): v for n, v in answer.headers.items()}, answer.read()
    except HTTPError as error:
        with error:
            return error.code, {n.lower(): v for n, v in error.headers.items()}, error.read()


class PlaylistCase(ServerCase):
    """Watches a stream from its first segment to its end."""

    def watch_whole(self, seconds: float, **encoder: object) -> tuple[Watcher, m3u8.M3U8, str]:
        """(what was seen until ENDLIST, the multivariant playlist near the end, the stream's name)."""
        name, key = self.server.new_stream("Whole")
        with publish(self.server.ingest(key), self.log("encoder"), seconds=seconds, **encoder) as encoding:  # type: ignore[arg-type]
            self.server.wait_live(name)
            with Watcher(self.server.media_playlist(name)[0]) as watcher:
                until(lambda: encoding.process.poll() is not None, seconds + 15, "the encoder has finished")
                main = m3u8.loads(self.server.get(self.server.hls(name))[1].decode())
                until(lambda: watcher.ended, 15, "the playlist ends")
        self.assertEqual(watcher.faults, [])
        return watcher, main, name


class TruthTests(PlaylistCase):
    """fMP4: one stream of ten seconds, looked at from all sides."""

    settings = {"OXIDECAST_STREAMS_PUBLISHER_GRACE": GRACE}

    def test_what_the_playlists_say_is_so(self) -> None:
        began = time.time()
        watcher, main, name = self.watch_whole(10, size="426x240", rate=25, gop=50)

        variant = main.playlists[0].stream_info
        self.assertEqual(variant.resolution, (426, 240))
        self.assertEqual(variant.frame_rate, 25.0)
        self.assertRegex(variant.codecs, r"^avc1\.4d40[0-9a-f]{2},mp4a\.40\.2$")
        rates = [len(segment.body) * 8 / segment.duration for segment in watcher.segments]
        # The last segment comes after this playlist was read.
        self.assertGreaterEqual(variant.bandwidth, max(rates[:-1]) * 0.99)
        self.assertLessEqual(variant.bandwidth, max(rates) * 1.01)
        self.assertLessEqual(variant.average_bandwidth, variant.bandwidth)
        # A media playlist says so of what it lists; here it would be a promise of all that comes.
        self.assertFalse(main.is_independent_segments)
        self.assertEqual(watcher.independent, {True})

        self.assertEqual(watcher.targets, {2})
        self.assertEqual(watcher.discontinuities, 0)
        self.assert_near(watcher.seconds(), 10, 0.05)
        for segment in watcher.segments:
            assert segment.utc is not None
            # A segment is listed when it is complete, and was live just before.
            self.assert_near(segment.utc.timestamp() + segment.duration, segment.arrived, 1.5, segment.uri)
        first = watcher.segments[0].utc
        assert first is not None
        self.assertTrue(began - 1 < first.timestamp() < began + 5)
        for one, next in zip(watcher.segments, watcher.segments[1:], strict=False):
            assert one.utc is not None and next.utc is not None
            self.assert_near(next.utc.timestamp() - one.utc.timestamp(), one.duration, 0.002, one.uri)
        with TemporaryDirectory() as folder:
            for path in watcher.write(Path(folder)):
                pictures, sounds = packets(path, "v:0"), packets(path, "a:0")
                self.assertTrue(pictures[0]["flags"].startswith("K"), path.name)
                self.assertTrue(sounds, path.name)
        self.assertEqual(self.server.stream(name)["state"], "idle")
        # Late viewers find the end, not an error, for a while.
        self.assertIn("#EXT-X-ENDLIST", self.server.media_playlist(name)[1])

    def test_sound_only_segments_are_bounded_and_true(self) -> None:
        watcher, main, _ = self.watch_whole(8, video=None)
        self.assertEqual(main.playlists[0].stream_info.codecs, "mp4a.40.2")
        self.assertIsNone(main.playlists[0].stream_info.resolution)
        self.assert_near(watcher.seconds(), 8, 0.1)
        self.assertTrue(all(segment.duration < 2.5 for segment in watcher.segments))

    def test_a_keyframe_every_ten_seconds_is_warned_about_and_segments_stay_bounded(self) -> None:
        name, key = self.server.new_stream("Long groups")
        with publish(
            self.server.ingest(key),
            self.log("encoder"),
            gop=300,
            seconds=40,
            video=("libx264", "-preset", "ultrafast"),
        ):
            self.server.wait_live(name)
            with Watcher(self.server.media_playlist(name)[0]) as watcher:
                notices = until(
                    lambda: self.server.stream(name)["notices"], 25, "the stream says what is wrong with it"
                )
        self.assertEqual(watcher.faults, [])
        self.assertIn("keyframe", notices[0])
        self.assertIn("10.0 s", notices[0])
        self.assertEqual(len(watcher.targets), 1)
        self.assertLessEqual(max(segment.duration for segment in watcher.segments), 4.5)
        self.assertIn(False, watcher.independent)
        self.assertEqual(watcher.discontinuities, 0)

    def test_media_answers_keep_the_promises_of_http(self) -> None:
        name, key = self.server.new_stream("HTTP")
        with publish(self.server.ingest(key), self.log("encoder")):
            self.server.wait_live(name)
            main = self.server.hls(name)
            address, text = self.server.media_playlist(name)
            playlist = m3u8.loads(text)
            segment = urljoin(address, playlist.segments[0].uri)
            init = urljoin(address, playlist.segments[0].init_section.uri)

            status, headers, _ = fetch(main)
            self.assertEqual((status, headers["cache-control"]), (200, "no-store"))
            self.assertEqual(headers["content-type"], "application/vnd.apple.mpegurl")
            self.assertEqual(headers["access-control-allow-origin"], "*")

            status, headers, _ = fetch(address)
            self.assertEqual(headers["content-type"], "application/vnd.apple.mpegurl")
            self.assertIn("max-age=1", headers["cache-control"])
            self.assertTrue(headers["etag"])
            self.assertEqual(headers["access-control-allow-origin"], "*")
            self.assertNotIn("access-control-allow-credentials", headers)

            for url in (segment, init):
                status, headers, body = fetch(url)
                self.assertEqual(status, 200)
                self.assertEqual(headers["content-type"], "video/mp4")
                self.assertIn("immutable", headers["cache-control"])
                self.assertGreater(int(re.search(r"max-age=(\d+)", headers["cache-control"]).group(1)), 60)  # type: ignore[union-attr]
                self.assertEqual(headers["accept-ranges"], "bytes")
                self.assertEqual(headers["access-control-allow-origin"], "*")
                self.assertEqual(int(headers["content-length"]), len(body))

                again, same, nothing = fetch(url, If_None_Match=headers["etag"])
                self.assertEqual((again, nothing, same["etag"]), (304, b"", headers["etag"]))

                head, fields, nothing = fetch(url, "HEAD")
                self.assertEqual((head, nothing), (200, b""))
                self.assertEqual(fields["content-length"], headers["content-length"])

                part, fields, some = fetch(url, Range="bytes=10-19")
                self.assertEqual((part, some), (206, body[10:20]))
                self.assertEqual(fields["content-range"], f"bytes 10-19/{len(body)}")
                self.assertEqual(fetch(url, Range="bytes=-5")[2], body[-5:])
                self.assertEqual(fetch(url, Range=f"bytes={len(body)}-")[0], 416)

                allowed, fields, _ = fetch(
                    url, "OPTIONS", Origin="http://elsewhere.example", Access_Control_Request_Method="GET"
                )
                self.assertEqual(allowed, 204)
                self.assertEqual(fields["access-control-allow-origin"], "*")

            self.assertEqual(fetch(urljoin(address, "no-such-segment.m4s"))[0], 404)
            self.assertEqual(fetch(address.replace("/~", "/~x"))[0], 404)
            self.assertEqual(self.server.stream(name)["viewer_count"], 1)


class TransportStreamTests(PlaylistCase):
    """The same promises for MPEG-TS."""

    settings = {"OXIDECAST_HLS_SEGMENT_TYPE": "mpegts", "OXIDECAST_STREAMS_PUBLISHER_GRACE": GRACE}

    def test_segments_are_whole_and_join_without_a_gap(self) -> None:
        watcher, main, _ = self.watch_whole(10)
        self.assertEqual(main.playlists[0].stream_info.resolution, (640, 360))
        self.assertEqual(watcher.targets, {2})
        self.assert_near(watcher.seconds(), 10, 0.05)
        self.assertTrue(all(not segment.init for segment in watcher.segments))
        with TemporaryDirectory() as folder:
            files = watcher.write(Path(folder))
            for path in files:
                self.assertEqual({one["codec_name"] for one in probe(str(path))}, {"h264", "aac"})
                self.assertEqual(ts_faults(path), [])
            whole = Path(folder, "whole.ts")
            whole.write_bytes(b"".join(path.read_bytes() for path in files))
            self.assertEqual(ts_faults(whole), [])
            self.assertEqual(len(packets(whole, "v:0")), 300)
