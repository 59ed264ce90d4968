"""Sound and pictures by WebRTC belong together, and are shown soon after they were made: in Chromium, and as they come
to a viewer of our own.

The one idea: the source shows the machine's clock, flashes and beeps (`clock.py`). Ten minutes of it are in
`tests/soak/soak_webrtc_sync.py`.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, ClassVar

import pytest

from tests.e2e import clock
from tests.e2e.browser import BrowserTestCase
from tests.e2e.clock_viewer import Viewer
from tests.e2e.hls import Watcher
from tests.e2e.programs import Server, free_port, server, until
from tests.e2e.sync import MOST_APART, Marks
from tests.e2e.whep import PLAY

SETTLED = 5
"""Beeps at the end: a browser takes a dozen seconds to bring sound and pictures together, a step each second or two."""
PATIENCE = 30
"""Seconds more."""

MOST_OLD = 0.150
"""Seconds from the encoder's input to the screen."""

FLASHES = """
async ([address, key, width, height]) => {
    const canvas = document.createElement('canvas');
    canvas.width = width; canvas.height = height;
    document.body.append(canvas);
    const context = canvas.getContext('2d');
    const sound = window.sound = new AudioContext({latencyHint: 'interactive'});
    const out = sound.createMediaStreamDestination(), gain = sound.createGain(), tone = sound.createOscillator();
    tone.frequency.value = 1000;
    gain.gain.value = 0;
    tone.connect(gain).connect(out);
    tone.start();
    await sound.resume();
    for (let at = 1; at < 100; at++) {
        gain.gain.setValueAtTime(0.5, at); gain.gain.setValueAtTime(0, at + 0.1);
    }
    const video = canvas.captureStream(0).getVideoTracks()[0];
    let before = null, frame = 0;
    setInterval(() => {
        const white = sound.currentTime > 1 && sound.currentTime % 1 < 0.1;
        if (white === before && frame++ % 3) return;
        before = white;
        context.fillStyle = white ? 'white' : 'black';
        context.fillRect(0, 0, width, height);
        context.fillStyle = 'gray';
        context.fillRect(frame % width, 0, 8, 8);
        video.requestFrame();
    }, 10);
    const pc = window.publishing = new RTCPeerConnection({bundlePolicy: 'max-bundle'});
    pc.addTransceiver(video, {direction: 'sendonly'});
    pc.addTransceiver(out.stream.getAudioTracks()[0], {direction: 'sendonly'});
    await pc.setLocalDescription();
    const answer = await fetch(address, {
        method: 'POST', body: pc.localDescription.sdp,
        headers: {'Content-Type': 'application/sdp', Authorization: `Bearer ${key}`}});
    const text = await answer.text();
    if (answer.status === 201) await pc.setRemoteDescription({type: 'answer', sdp: text});
    return [answer.status, text];
}
"""
"""Publishes flashes and beeps of the page's own; it looks every 10 ms whether there is a beep now."""


class SyncCase(BrowserTestCase):
    arguments: ClassVar[tuple[str, ...]] = (
        "--allow-loopback-in-peer-connection",
        "--disable-features=WebRtcHideLocalIpsWithMdns",
        "--autoplay-policy=no-user-gesture-required",
    )
    server: ClassVar[Server]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        settings = {
            "OXIDECAST_WEBRTC_PORT": str(free_port()),
            "OXIDECAST_HLS_SEGMENT_DURATION": "2",
            "OXIDECAST_TRANSCODING_PRESET": "ultrafast",
        }
        cls.server = cls.enterClassContext(server(settings=settings))

    def setUp(self) -> None:
        super().setUp()
        self.requests_may_fail = True  # Chromium asks for a favicon, which this page does not have.

    @property
    def whip(self) -> str:
        return f"{self.server.url}/api/v1/webrtc/whip"

    def whep(self, name: str) -> str:
        return f"{self.server.url}/api/v1/webrtc/{name}/whep"

    def source(self, coders: Sequence[str], rate: int = 48_000) -> clock.Source:
        log = Path(self.server.folder, f"source-{self.id().rpartition('.')[2]}.log")
        source = clock.Source(log, coders, rate)
        self.addCleanup(source.stop)
        return source

    def page(self, name: str) -> Any:
        """Chromium, which plays a stream and looks at it."""
        until(lambda: self.server.stream(name)["state"] == "live", 20, f"{name} is live")
        page = self.open(f"{self.server.url}/health", self.new_context(bypass_csp=True))
        status, text = page.evaluate(PLAY, [self.whep(name), 0])
        self.assertEqual(status, 201, text)
        page.evaluate(clock.WATCH, clock.PAGE)
        return page

    def watch(self, name: str, least: float, most_old: float = 10.0) -> tuple[clock.Seen, clock.Seen]:
        """What Chromium shows, and what comes to a viewer of our own: for so many seconds at least, and until Chromium
        has brought sound and pictures together, and shows them soon enough. A busy machine delays that; a server that
        is to blame prevents it."""
        page = self.page(name)
        viewer = Viewer(self.whep(name))
        self.addCleanup(viewer.stop)
        page.wait_for_timeout(1000 * least)
        for _ in range(PATIENCE):
            shown = clock.Seen.by_page(page.evaluate("window.seen"))
            if is_together(shown) and shown.age() < most_old:
                break
            page.wait_for_timeout(1000)
        came = viewer.stop().seen()
        print(f"{name}, in Chromium: {shown}, at the end {1000 * median(shown.apart()[-SETTLED:]):.0f}")
        print(f"{name}, as it comes: {came}")
        self.assertGreater(len(came.apart()), least * 0.6)
        self.assertLess(max(map(abs, came.apart())), MOST_APART)
        self.assertTrue(is_together(shown), shown)
        for seen in (shown, came):
            self.assertLess(seen.age(), most_old)
        return shown, came


def is_together(seen: clock.Seen) -> bool:
    """Whether sound and pictures are now, after the steps that a browser takes to that."""
    apart = seen.apart()[-SETTLED:]
    return len(apart) == SETTLED and abs(median(apart)) < MOST_APART


@pytest.mark.alone
class WebRTCSyncTests(SyncCase):
    def test_what_is_passed_through(self) -> None:
        name, key = self.server.new_stream("Passed through")
        self.source(clock.rtmp(self.server.ingest(key), sound="libopus"))
        self.watch(name, 8, MOST_OLD)

    def test_b_frames_and_aac_as_obs_sends_them(self) -> None:
        name, key = self.server.new_stream("As by OBS", transcoding_profiles=["360p"])
        self.source(clock.rtmp(self.server.ingest(key), bframes=2), 44_100)
        self.watch(name, 8)

    def test_what_is_published_by_whip_is_together_in_hls_and_by_whep(self) -> None:
        name, key = self.server.new_stream("By FFmpeg")
        self.source(clock.whip(self.whip, key))
        self.watch(name, 8, MOST_OLD)
        self.assert_hls_together(name)

    def test_what_a_browser_publishes_is_together_in_hls(self) -> None:
        name, key = self.server.new_stream("By Chromium")
        page = self.open(f"{self.server.url}/health", self.new_context(bypass_csp=True))
        status, text = page.evaluate(FLASHES, [self.whip, key, clock.WIDTH, clock.HEIGHT])
        self.assertEqual(status, 201, text)
        self.assert_hls_together(name)

    def assert_hls_together(self, name: str) -> None:
        self.server.wait_live(name)
        address, _ = self.server.media_playlist(name)
        with Watcher(address) as watcher:
            until(lambda: watcher.seconds() > 10, 30, "ten seconds of HLS")
        apart = sorted(Marks.of(watcher).sync)
        print(f"{name}, in HLS: {len(apart)} beeps, late {1000 * apart[0]:.0f} to {1000 * apart[-1]:.0f} ms")
        self.assertGreater(len(apart), 3)
        self.assertLess(abs(median(apart)), MOST_APART)
