"""WebRTC with clients that are none of ours and no Chromium: what they publish is seen, and they see what is published.

Each runs as a program of its own and prints one line of JSON: what came, by its own count.
"""

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from tests.e2e.firefox import Firefox
from tests.e2e.programs import ROOT, Program, ServerCase, free_port, publish, until
from tests.e2e.whep import PLAIN_H264

GSTREAMER = ("/usr/bin/python3", str(ROOT / "tests/e2e/gstreamer_peer.py"))
AIORTC = (sys.executable, str(ROOT / "tests/e2e/aiortc_peer.py"))

WATCH = """
async (address, seconds) => {
    const rest = milliseconds => new Promise(done => setTimeout(done, milliseconds));
    window.captured = await navigator.mediaDevices.getUserMedia({audio: true, fake: true});
    const pc = new RTCPeerConnection({bundlePolicy: 'max-bundle'});
    const stream = new MediaStream();
    for (const kind of ['video', 'audio']) pc.addTransceiver(kind, {direction: 'recvonly'});
    pc.ontrack = event => stream.addTrack(event.track);
    const video = document.createElement('video');
    video.autoplay = true; video.srcObject = stream;
    document.body.append(video);
    await pc.setLocalDescription();
    const answer = await fetch(address, {
        method: 'POST', headers: {'Content-Type': 'application/sdp'}, body: pc.localDescription.sdp});
    const text = await answer.text();
    if (answer.status !== 201) return {status: answer.status, text};
    await pc.setRemoteDescription({type: 'answer', sdp: text});
    for (let i = 0; i < 100 && pc.connectionState !== 'connected'; i++) await rest(100);
    const found = {status: 201, state: pc.connectionState, offered: pc.localDescription.sdp.match(/a=candidate.*/g)};
    if (pc.connectionState === 'connected') await rest(seconds * 1000);
    found.width = video.videoWidth;
    for (const report of (await pc.getStats()).values()) {
        if (report.type === 'inbound-rtp') found[report.kind] = report;
        if (report.type === 'codec') found[report.mimeType] = report.payloadType;
    }
    await fetch(new URL(answer.headers.get('Location'), address), {method: 'DELETE'});
    return found;
}
"""


class Page(BaseHTTPRequestHandler):
    """An empty page of another origin."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><body>")

    def log_message(self, format: str, *values: object) -> None: ...


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

    # -- GStreamer

    def test_gstreamer_sees_and_hears(self) -> None:
        with self.on_air("Show for GStreamer") as name:
            told = self.told(self.peer(*GSTREAMER, "watch", f"{self.webrtc}/{name}/whep", "3"))
            self.assert_seen_and_heard(told, 2)

    def test_what_gstreamer_publishes_is_played(self) -> None:
        for codec in ("H264", "VP8"):
            name, key = self.server.new_stream(f"By GStreamer in {codec}")
            peer = self.peer(
                *GSTREAMER, "publish", f"{self.webrtc}/whip", "4", "--key", key, "--codec", codec
            )
            self.assertEqual(self.tracks(name), {"video": codec.lower(), "audio": "opus"})
            if codec == "H264":
                self.assert_played_by_hls(name)
            self.told(peer)
            until(lambda name=name: self.server.stream(name)["state"] != "live", 5, "it has left")

    # -- Firefox

    def test_firefox_sees_vp8_and_hears_opus(self) -> None:
        name, key = self.server.new_stream("For Firefox")
        publisher = self.peer(*AIORTC, "publish", f"{self.webrtc}/whip", "60", "--key", key, "--codec", "VP8")
        self.addCleanup(publisher.process.kill)
        self.tracks(name)
        pages = HTTPServer(("127.0.0.1", 0), Page)
        self.addCleanup(pages.server_close)
        self.addCleanup(pages.shutdown)
        threading.Thread(target=pages.serve_forever, daemon=True).start()
        with Firefox() as firefox:
            firefox.call("WebDriver:Navigate", {"url": f"http://127.0.0.1:{pages.server_port}/"})
            found = firefox.run(WATCH, f"{self.webrtc}/{name}/whep", 3)
        self.assertEqual(found["status"], 201, found)
        self.assertEqual(found["state"], "connected", found)
        self.assertGreater(found["video"]["framesDecoded"], 60, found)
        self.assertEqual(found["width"], 320)
        self.assertGreater(found["audio"]["totalAudioEnergy"], 0, found)
        self.assertEqual({"video/VP8", "audio/opus"} & set(found), {"video/VP8", "audio/opus"})
