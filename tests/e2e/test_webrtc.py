"""WebRTC as a browser gets it: Chromium plays by WHEP what ffmpeg publishes."""

import time
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.e2e.browser import BrowserTestCase
from tests.e2e.programs import Server, free_port, publish, server, until
from tests.e2e.relay import Relay

WINDOWS = 4
PLAIN_H264 = ("libx264", "-preset", "ultrafast", "-bf", "0", "-profile:v", "baseline")

PLAY = """
async ([address, port, codecs]) => {
    const pc = window.pc = new RTCPeerConnection({bundlePolicy: 'max-bundle'});
    const stream = new MediaStream();
    const pictures = pc.addTransceiver('video', {direction: 'recvonly'});
    pc.addTransceiver('audio', {direction: 'recvonly'});
    if (codecs?.length) {
        const all = RTCRtpReceiver.getCapabilities('video').codecs;
        const names = [...codecs, 'rtx'].map(name => `video/${name}`);
        pictures.setCodecPreferences(all.filter(one => names.includes(one.mimeType)));
    }
    pc.ontrack = event => stream.addTrack(event.track);
    const video = window.video = document.createElement('video');
    video.autoplay = true; video.srcObject = stream;
    document.body.append(video);
    await pc.setLocalDescription();
    window.began = performance.now();
    video.addEventListener('loadeddata', () => { window.firstFrame = performance.now() - window.began; });
    const answer = await fetch(address, {
        method: 'POST', headers: {'Content-Type': 'application/sdp'}, body: pc.localDescription.sdp});
    let text = await answer.text();
    if (port) text = text.replaceAll(/ \\d+ typ host/g, ` ${port} typ host`);
    window.location_ = answer.headers.get('Location');
    if (answer.status === 201) await pc.setRemoteDescription({type: 'answer', sdp: text});
    return [answer.status, text];
}
"""

STATS = """
async () => {
    const all = {state: window.pc.connectionState, first: window.firstFrame ?? null};
    const reports = await window.pc.getStats();
    for (const report of reports.values()) {
        if (report.type === 'inbound-rtp') all[report.kind] = report;
        if (report.type === 'inbound-rtp' && report.kind === 'video')
            all.codec = reports.get(report.codecId)?.mimeType;
        if (report.type === 'transport') all.transport = report;
    }
    return all;
}
"""


@pytest.mark.alone
class WebRTCTests(BrowserTestCase):
    arguments: ClassVar[tuple[str, ...]] = (
        "--allow-loopback-in-peer-connection",
        "--disable-features=WebRtcHideLocalIpsWithMdns",
    )
    server: ClassVar[Server]
    udp: ClassVar[int]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.udp = free_port()
        cls.server = cls.enterClassContext(server(settings={"OXIDECAST_WEBRTC_PORT": str(cls.udp)}))

    def setUp(self) -> None:
        super().setUp()
        self.requests_may_fail = True  # Chromium asks for a favicon, which this page does not have.

    def play(self, name: str, port: int = 0) -> tuple[Any, int, str]:
        page = self.open(f"{self.server.url}/health", self.new_context(bypass_csp=True))
        status, text = page.evaluate(PLAY, [f"{self.server.url}/api/v1/webrtc/{name}/whep", port])
        return page, status, text

    def test_a_browser_sees_and_hears_a_stream(self) -> None:
        name, key = self.server.new_stream("Show")
        log = Path(self.server.folder, "show.log")
        with publish(self.server.ingest(key), log, video=PLAIN_H264):
            until(lambda: self.server.stream(name)["state"] == "live", 15, "the stream is live")
            page, status, text = self.play(name)
            self.assertEqual(status, 201, text)
            deadline = time.monotonic() + 15
            stats: dict[str, Any] = {}
            while stats.get("audio", {}).get("totalSamplesReceived", 0) < 48_000:
                self.assertLess(time.monotonic(), deadline, stats)
                page.wait_for_timeout(200)
                stats = page.evaluate(STATS)
            after = self.good_window(page)
            self.assertEqual(after["state"], "connected")
            self.assertEqual(after["transport"]["srtpCipher"], "SRTP_AEAD_AES_128_GCM")
            seen = self.server.stream(name)
            self.assertEqual(seen["viewer_count"], 1)
            self.assertGreater(after["audio"]["totalAudioEnergy"], 0)
            self.assertLess(after["first"], 5000)
            page.evaluate("fetch(window.location_, {method: 'DELETE'})")
            until(lambda: self.server.stream(name)["viewer_count"] == 0, 5, "the viewer has left")

    def test_b_frames_are_repaired_where_there_is_a_ladder(self) -> None:
        plain, key = self.server.new_stream("Without a ladder")
        name, other = self.server.new_stream("With a ladder", transcoding_profiles=["360p"])
        log = Path(self.server.folder, "frames.log")
        with publish(self.server.ingest(key), log), publish(self.server.ingest(other), log):
            for one in (plain, name):
                until(lambda one=one: self.server.stream(one)["state"] == "live", 15, f"{one} is live")
            until(lambda: self.server.stream(plain)["renditions"], 5, "it has pictures")
            _, status, text = self.play(plain)
            self.assertEqual(status, 422)
            self.assertIn("B-frames", text)
            page, status, text = self.play(name)
            self.assertEqual(status, 201, text)
            self.wait_for_frames(page, 60)
            self.assertEqual(page.evaluate(STATS)["video"]["packetsLost"], 0)
            viewer = self.server.stream(name)["outputs"]
            feeds = next(one["stats"]["feeds"] for one in viewer if one["name"] == "webrtc")
            self.assertIn("360p:live", feeds)

    def test_what_is_lost_comes_again_and_an_address_may_change(self) -> None:
        name, key = self.server.new_stream("Over a bad network")
        log = Path(self.server.folder, "bad.log")
        relay = Relay(self.udp, 0.05)
        self.addCleanup(relay.stop)
        with publish(self.server.ingest(key), log, video=PLAIN_H264, audio=None):
            until(lambda: self.server.stream(name)["state"] == "live", 15, "the stream is live")
            page, status, text = self.play(name, relay.port)
            self.assertEqual(status, 201, text)
            self.wait_for_frames(page, 150)
            stats = page.evaluate(STATS)["video"]
            self.assertGreater(relay.lost, 10)
            self.assertGreater(stats["retransmittedPacketsReceived"], relay.lost / 2)
            self.assertLess(stats["packetsLost"], 2 * relay.lost)
            relay.move()
            self.wait_for_frames(page, stats["framesDecoded"] + 90)

    def test_the_player_takes_it_when_the_least_delay_is_wanted(self) -> None:
        name, key = self.server.new_stream("At once")
        other, its_key = self.server.new_stream("With B-frames")
        log = Path(self.server.folder, "page.log")
        publishing = publish(self.server.ingest(key), log, video=PLAIN_H264, gop=30)
        with publishing, publish(self.server.ingest(its_key), log):
            for one in (name, other):
                self.server.wait_live(one)
            watcher = self.watch(f"{self.server.url}/player/{name}?latency=low")
            watcher.wait_for_motion()
            watcher.wait("the delay is known", lambda now: now.latency is not None and now.latency < 2)
            self.assertTrue(watcher.page.evaluate("document.querySelector('video').srcObject !== null"))
            self.assertEqual(watcher.glance().width, 640)
            until(lambda: self.server.stream(name)["viewer_count"] == 1, 5, "it is counted, once")
            watcher.page.goto(f"{self.server.url}/player")
            until(lambda: self.server.stream(name)["viewer_count"] == 0, 10, "the viewer has left")
            # What cannot be had so is played as ever.
            watcher = self.watch(f"{self.server.url}/player/{other}?latency=low")
            watcher.wait_for_motion()
            self.assertFalse(watcher.page.evaluate("document.querySelector('video').srcObject !== null"))

    def good_window(self, page: Any) -> dict[str, Any]:
        """Figures at the end of a few seconds in which nothing was lost, froze or was made up. A busy machine may spoil
        some of them; a server that is to blame spoils all."""
        faults = []
        for _ in range(WINDOWS):
            before = page.evaluate(STATS)
            page.wait_for_timeout(3000)
            after: dict[str, Any] = page.evaluate(STATS)
            self.assertEqual(after["video"]["packetsLost"], 0)
            frames = after["video"]["framesDecoded"] - before["video"]["framesDecoded"]
            frozen = after["video"]["freezeCount"] - before["video"]["freezeCount"]
            made_up = after["audio"]["concealedSamples"] - before["audio"]["concealedSamples"]
            if frames >= 85 and not frozen and not made_up:
                return after
            faults.append(f"{frames} frames, {frozen} freezes, {made_up} samples made up")
        raise AssertionError("; ".join(faults))

    def wait_for_frames(self, page: Any, count: int) -> None:
        deadline = time.monotonic() + 20
        while page.evaluate(STATS).get("video", {}).get("framesDecoded", 0) < count:
            self.assertLess(time.monotonic(), deadline, page.evaluate(STATS))
            page.wait_for_timeout(200)
