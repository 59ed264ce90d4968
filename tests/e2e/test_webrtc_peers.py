"""WebRTC with clients that are none of ours and no Chromium: what they publish is seen, and they see what is published.

Each runs as a program of its own and prints one line of JSON: what came, by its own count.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.e2e.programs import ROOT, Program, ServerCase, free_port, publish, until
from tests.e2e.test_webrtc import PLAIN_H264

AIORTC = (sys.executable, str(ROOT / "tests/e2e/aiortc_peer.py"))


class PeersTests(ServerCase):
    settings = {"OXIDECAST_WEBRTC_PORT": str(free_port())}

    @property
    def webrtc(self) -> str:
        return f"{self.server.url}/api/v1/webrtc"

    @contextmanager
    def on_air(self, title: str) -> Iterator[str]:
        """The name of a stream in H.264 and AAC."""
        name, key = self.server.new_stream(title)
        with publish(self.server.ingest(key), self.log("encoder"), video=PLAIN_H264, gop=30):
            until(lambda: self.server.stream(name)["state"] == "live", 15, "the stream is live")
            yield name

    def peer(self, *arguments: str) -> Program:
        # It must not outlive a test run that is killed.
        return Program(["setpriv", "--pdeathsig=KILL", *arguments], self.log("peer"))

    def told(self, peer: Program) -> dict[str, Any]:
        """What a peer says at its end."""
        status = peer.process.wait(30)
        assert status == 0, peer.output
        found: dict[str, Any] = json.loads(peer.output.strip().splitlines()[-1])
        return found

    def assert_seen_and_heard(self, told: dict[str, Any], seconds: float) -> None:
        self.assertGreater(told["video"]["frames"], 25 * seconds, told)
        self.assertEqual(told["video"]["shape"], [640, 360])
        self.assertGreater(told["audio"]["seconds"], 0.8 * seconds, told)
        self.assertGreater(told["audio"]["loudest"], 1000, "the tone is heard")

    def tracks(self, name: str) -> dict[str, str]:
        """The codec of each kind of a stream that is live."""
        found = until(lambda: self.server.stream(name)["renditions"], 15, f"{name} is live")
        return {track["kind"]: track["codec"] for track in found[0]["tracks"]}

    def assert_played_by_hls(self, name: str) -> None:
        self.server.wait_live(name)
        _, playlist = self.server.media_playlist(name)
        self.assertIn("#EXTINF", playlist)

    # -- aiortc

    def test_aiortc_sees_and_hears_with_both_ciphers_and_both_ways_of_bundling(self) -> None:
        with self.on_air("Show") as name:
            whep = f"{self.webrtc}/{name}/whep"
            peers = {
                "SRTP_AEAD_AES_128_GCM": self.peer(*AIORTC, "watch", whep, "3", "--bundle", "balanced"),
                "SRTP_AES128_CM_SHA1_80": self.peer(*AIORTC, "watch", whep, "3", "--only-cm"),
            }
            for profile, peer in peers.items():
                told = self.told(peer)
                self.assertEqual(told["profile"], profile)
                self.assert_seen_and_heard(told, 3)
                self.assertEqual((told["video_lost"], told["audio_lost"]), (0, 0))
            until(lambda: self.server.stream(name)["viewer_count"] == 0, 5, "they have left")

    def test_what_aiortc_publishes_is_played(self) -> None:
        for codec, more in (("H264", ()), ("VP8", ("--only-cm",))):
            name, key = self.server.new_stream(f"By aiortc in {codec}")
            peer = self.peer(
                *AIORTC, "publish", f"{self.webrtc}/whip", "4", "--key", key, "--codec", codec, *more
            )
            self.assertEqual(self.tracks(name), {"video": codec.lower(), "audio": "opus"})
            if codec == "H264":
                self.assert_played_by_hls(name)
            told = self.told(peer)
            self.assertEqual(told["profile"].endswith("GCM"), not more)
            until(lambda name=name: self.server.stream(name)["state"] != "live", 5, "it has left")
