"""Publishing by WHIP as people do: FFmpeg and a browser publish, HLS and WebRTC play what they sent."""

import io
import time
from pathlib import Path
from typing import Any, ClassVar

import av
import pytest

from tests.e2e.hls import Watcher
from tests.e2e.programs import FFMPEG_9, Program, until
from tests.e2e.whep import PLAY, STATS, WHEPCase

PUBLISH = """
async ([address, key, codec, encodings]) => {
    const canvas = document.createElement('canvas');
    const [width, height] = encodings ? [960, 540] : [320, 240];
    canvas.width = width; canvas.height = height;
    document.body.append(canvas);
    const context = canvas.getContext('2d');
    let frame = 0;
    setInterval(() => {
        // Slowly: an encoder that sees another scene makes keyframes by itself.
        context.fillStyle = `hsl(${frame / 4 % 360} 80% 50%)`;
        context.fillRect(0, 0, width, height);
        context.fillStyle = 'white';
        context.fillRect(frame * 3 % width, 100, 40, 40);
        frame++;
    }, 33);
    const sound = window.sound = new AudioContext();
    const tone = sound.createOscillator(), out = sound.createMediaStreamDestination();
    tone.connect(out); tone.start();
    await sound.resume();
    const pc = window.publishing = new RTCPeerConnection({bundlePolicy: 'max-bundle'});
    const video = pc.addTransceiver(canvas.captureStream(30).getVideoTracks()[0],
                                    {direction: 'sendonly', sendEncodings: encodings ?? [{}]});
    pc.addTransceiver(out.stream.getAudioTracks()[0], {direction: 'sendonly'});
    if (codec) {
        const all = RTCRtpSender.getCapabilities('video').codecs;
        video.setCodecPreferences(all.filter(one => [`video/${codec}`, 'video/rtx'].includes(one.mimeType)));
    }
    await pc.setLocalDescription();
    const answer = await fetch(address, {
        method: 'POST', body: pc.localDescription.sdp,
        headers: {'Content-Type': 'application/sdp', Authorization: `Bearer ${key}`}});
    const text = await answer.text();
    window.session = answer.headers.get('Location');
    if (answer.status === 201) await pc.setRemoteDescription({type: 'answer', sdp: text});
    return [answer.status, text];
}
"""

SENT = """
async () => {
    const all = {state: window.publishing.connectionState};
    for (const report of (await window.publishing.getStats()).values()) {
        if (report.type === 'outbound-rtp') all[report.kind] = report;
        if (report.type === 'candidate-pair' && report.nominated) all.pair = report;
    }
    return all;
}
"""


@pytest.mark.alone
class WHIPTests(WHEPCase):
    settings: ClassVar[dict[str, str | None]] = {"OXIDECAST_HLS_SEGMENT_DURATION": "2"}
    arguments: ClassVar[tuple[str, ...]] = (
        *WHEPCase.arguments,
        "--autoplay-policy=no-user-gesture-required",
    )

    @property
    def whip(self) -> str:
        return f"{self.server.url}/api/v1/webrtc/whip"

    def ffmpeg(self, key: str, *more: str) -> Program:
        inputs = ["-f", "lavfi", "-i", "testsrc2=size=640x360:rate=30"]
        inputs += ["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"]
        coders = ["-c:v", "libx264", "-preset", "ultrafast", "-bf", "0", "-g", "60", "-pix_fmt", "yuv420p"]
        coders += ["-c:a", "libopus", "-ac", "2", "-f", "whip", "-authorization", key, *more, self.whip]
        log = Path(self.server.folder, f"whip-{time.monotonic_ns()}.log")
        return Program([FFMPEG_9, "-v", "error", "-nostdin", "-re", *inputs, *coders], log)

    def publisher(self, key: str, codec: str = "") -> Any:
        page = self.open(f"{self.server.url}/health", self.new_context(bypass_csp=True))
        status, text = page.evaluate(PUBLISH, [self.whip, key, codec])
        self.assertEqual(status, 201, text)
        return page

    def watch_hls(self, name: str, segments: int) -> Watcher:
        """What a player that begins now is given, for as many segments."""
        self.server.wait_live(name)
        address, _ = self.server.media_playlist(name)
        with Watcher(address) as watcher:
            until(lambda: len(watcher.segments) >= segments, 30, f"{name} has {segments} segments")
        self.assertEqual(watcher.faults, [])
        return watcher

    def assert_plays(self, watcher: Watcher) -> dict[str, str]:
        """Pictures and sound of the segments can be decoded, and last as long; the codecs by kind."""
        body = b"".join(segment.body for segment in watcher.segments)
        whole = watcher.inits[watcher.segments[0].init] + body
        spans, codecs = {}, {}
        for kind in ("video", "audio"):
            with av.open(io.BytesIO(whole)) as container:
                stream = getattr(container.streams, kind)[0]
                frames = [float(frame.time) for frame in container.decode(stream)]
                codecs[kind] = stream.codec_context.name
                spans[kind] = frames[-1] - frames[0]
        self.assertLess(abs(spans["video"] - spans["audio"]), 0.2, spans)
        self.assertGreater(spans["video"], 0.8 * watcher.seconds())
        return codecs

    def test_ffmpeg_publishes_and_hls_plays_it_with_sound(self) -> None:
        for flags in ((), ("-whip_flags", "dtls_active")):
            name, key = self.server.new_stream("By FFmpeg")
            with self.ffmpeg(key, *flags) as encoder:
                watcher = self.watch_hls(name, 3)
                self.assertEqual(watcher.discontinuities, 0)
                self.assertEqual(self.assert_plays(watcher), {"video": "h264", "audio": "opus"})
                self.assertEqual(self.server.stream(name)["publisher"]["protocol"], "whip")
                encoder.stop()
            until(lambda name=name: self.server.stream(name)["state"] != "live", 10, "FFmpeg has left")

    def test_a_browser_publishes_and_hls_and_whep_play_it(self) -> None:
        name, key = self.server.new_stream("By a browser")
        page = self.publisher(key)
        watcher = self.watch_hls(name, 3)
        self.assertEqual(self.assert_plays(watcher), {"video": "h264", "audio": "opus"})
        viewer = self.open(f"{self.server.url}/health", self.new_context(bypass_csp=True))
        status, text = viewer.evaluate(PLAY, [f"{self.server.url}/api/v1/webrtc/{name}/whep", 0])
        self.assertEqual(status, 201, text)
        deadline = time.monotonic() + 20
        stats: dict[str, Any] = {}
        while stats.get("video", {}).get("framesDecoded", 0) < 60:
            self.assertLess(time.monotonic(), deadline, stats)
            viewer.wait_for_timeout(200)
            stats = viewer.evaluate(STATS)
        self.assertGreater(stats["audio"]["totalAudioEnergy"], 0)
        # What it makes unasked is enough for a while, and its figures are a second old.
        sent = until(
            lambda: next((s for s in (page.evaluate(SENT),) if s["video"]["pliCount"]), None),
            10,
            "the browser is asked for keyframes",
        )
        self.assertEqual(sent["state"], "connected")
        self.assertGreater(sent["pair"]["availableOutgoingBitrate"], 500_000, sent["pair"])
        page.evaluate("fetch(window.session, {method: 'DELETE'})")
        until(lambda: self.server.stream(name)["state"] != "live", 10, "the browser has left")

    def test_vp9_goes_into_hls_as_it_comes(self) -> None:
        name, key = self.server.new_stream("In VP9")
        self.publisher(key, "VP9")
        self.assertEqual(self.assert_plays(self.watch_hls(name, 2)), {"video": "vp9", "audio": "opus"})
