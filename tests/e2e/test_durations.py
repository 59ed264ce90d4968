"""Ten minutes of media go through the server, faster than real time: none of it is lost, stretched or squeezed.

The one idea: the server's clock for media is the media's own, so a file that is pushed as fast as the server reads
must come out with the durations that it had. A playlist long enough to hold everything is read once, at the end.
"""

import subprocess
from pathlib import Path

import m3u8

from tests.e2e.encoder import Encoder, tags
from tests.e2e.hls import packets
from tests.e2e.programs import FFMPEG_5, ServerCase, until

SECONDS = 600
RATE = 30
FRAME = 1 / RATE


class DurationCase(ServerCase):
    """A server that forgets nothing."""

    settings = {
        "OXIDECAST_HLS_PLAYLIST_LENGTH": "1000",
        "OXIDECAST_HLS_MAX_BUFFER": "1000000000",
        "OXIDECAST_STREAMS_PUBLISHER_GRACE": "0.5",
    }

    def material(self, name: str, sample_rate: int, *video: str) -> Path:
        """Ten minutes in an FLV file: pictures with B-frames, a keyframe every two seconds, and a tone."""
        path = self.server.folder / f"{name}.flv"
        made = subprocess.run(
            [FFMPEG_5, "-v", "error", "-nostdin", "-f", "lavfi", "-i", f"testsrc=size=128x72:rate={RATE}"]
            + ["-f", "lavfi", "-i", f"sine=frequency=440:sample_rate={sample_rate}", "-t", str(SECONDS)]
            + ["-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-pix_fmt", "yuv420p", *video]
            + ["-c:a", "aac", "-b:a", "32k", "-f", "flv", str(path)],
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        self.assertEqual((made.returncode, made.stderr), (0, ""))
        return path

    def assert_nothing_is_lost(self, sample_rate: int, container: str, *video: str) -> m3u8.M3U8:
        """Publish, then compare durations, counts and times of what went in and what can be watched."""
        flv = self.material(f"published-{sample_rate}", sample_rate, *video)
        name, key = self.server.new_stream("Ten minutes")
        with Encoder(self.server.rtmp, key).start() as encoder:
            encoder.send(tags(flv.read_bytes()))
            encoder.finish()
            address, _ = self.server.media_playlist(name)
        text = until(lambda: self.ended(address), 10, "the playlist ends")
        playlist = m3u8.loads(text)

        sent = {kind: packets(flv, f"{kind}:0") for kind in "va"}
        dts = [float(packet["dts_time"]) for packet in sent["v"]]
        listed = sum(segment.duration for segment in playlist.segments)
        self.assertIn("-0.", playlist.segments[0].uri)
        self.assertFalse(any(segment.discontinuity for segment in playlist.segments))
        self.assert_near(listed, dts[-1] - dts[0], FRAME + 0.0011, "the segments' durations add up")

        whole = self.server.folder / f"whole-{sample_rate}.{container}"
        folder = address.rpartition("/")[0]
        init = playlist.segments[0].init_section
        with whole.open("wb") as file:
            if init is not None:
                file.write(self.server.get(f"{folder}/{init.uri}")[1])
            for segment in playlist.segments:
                status, body = self.server.get(f"{folder}/{segment.uri}")
                self.assertEqual(status, 200)
                file.write(body)
        for kind, track in (("v", "the picture"), ("a", "the sound")):
            came = packets(whole, f"{kind}:0")
            self.assertEqual(len(came), len(sent[kind]), f"every packet of {track} is there")
            lasted = float(came[-1]["dts_time"]) - float(came[0]["dts_time"])
            published = float(sent[kind][-1]["dts_time"]) - float(sent[kind][0]["dts_time"])
            self.assert_near(lasted, published, 0.005, f"{track} lasts as long as before")
        first = [float(packets_[0]["pts_time"]) for packets_ in (sent["v"], sent["a"])]
        after = [float(packets(whole, f"{kind}:0")[0]["pts_time"]) for kind in "va"]
        self.assert_near(after[1] - after[0], first[1] - first[0], 0.005, "sound and picture are in sync")
        return playlist

    def ended(self, address: str) -> str | None:
        text = self.server.get(address)[1].decode()
        return text if "#EXT-X-ENDLIST" in text else None


class FragmentedTests(DurationCase):
    """fMP4."""

    def test_ten_minutes_with_sound_at_48_kHz(self) -> None:
        playlist = self.assert_nothing_is_lost(48_000, "mp4", "-g", "60")
        self.assertEqual(len(playlist.segments), SECONDS // 2)

    def test_ten_minutes_with_sound_at_44_1_kHz_and_keyframes_where_the_encoder_likes(self) -> None:
        self.assert_nothing_is_lost(44_100, "mp4", "-g", "97")


class TransportStreamTests(DurationCase):
    """MPEG-TS."""

    settings = {**DurationCase.settings, "OXIDECAST_HLS_SEGMENT_TYPE": "mpegts"}

    def test_ten_minutes_with_sound_at_44_1_kHz(self) -> None:
        playlist = self.assert_nothing_is_lost(44_100, "ts", "-g", "60")
        self.assertEqual(len(playlist.segments), SECONDS // 2)
