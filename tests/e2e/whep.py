"""Chromium in front of WHEP, with no page of ours: what it is sent, in its own figures.

`shown` in the page has the second and the width of every picture that was on screen.
"""

import time
from itertools import pairwise
from typing import Any, ClassVar

from tests.e2e.browser import BrowserTestCase
from tests.e2e.programs import Server, free_port, server

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
    window.shown = [];
    const show = (now, frame) => {
        window.shown.push([now / 1000, frame.width]);
        video.requestVideoFrameCallback(show);
    };
    video.requestVideoFrameCallback(show);
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


class WHEPCase(BrowserTestCase):
    """Tests that share a server; `settings` are more of its."""

    settings: ClassVar[dict[str, str | None]] = {}
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
        cls.server = cls.enterClassContext(
            server(settings={"OXIDECAST_WEBRTC_PORT": str(cls.udp), **cls.settings})
        )

    def setUp(self) -> None:
        super().setUp()
        self.requests_may_fail = True  # Chromium asks for a favicon, which this page does not have.

    def play(self, name: str, port: int = 0) -> tuple[Any, int, str]:
        """A page that plays, and what it was answered. A machine that is busy with other tests refuses viewers for a
        while: then once more."""
        page = self.open(f"{self.server.url}/health", self.new_context(bypass_csp=True))
        deadline = time.monotonic() + 15
        while True:
            status, text = page.evaluate(PLAY, [f"{self.server.url}/api/v1/webrtc/{name}/whep", port])
            if status != 503 or time.monotonic() > deadline:
                return page, status, text
            page.wait_for_timeout(1000)

    def wait_for_frames(self, page: Any, count: int) -> None:
        deadline = time.monotonic() + 20
        while page.evaluate(STATS).get("video", {}).get("framesDecoded", 0) < count:
            self.assertLess(time.monotonic(), deadline, page.evaluate(STATS))
            page.wait_for_timeout(200)

    def shown(self, page: Any, since: float = 0.0) -> list[tuple[float, int]]:
        """Pictures on screen, by the page's clock."""
        return [(at, width) for at, width in page.evaluate("window.shown") if at >= since]

    def now(self, page: Any) -> float:
        """The page's clock."""
        return float(page.evaluate("performance.now() / 1000"))

    def longest_pause(self, page: Any, since: float) -> float:
        """Seconds between two pictures, or since the last one."""
        times = [at for at, _ in self.shown(page, since)] or [since]
        return max((after - before for before, after in pairwise([*times, self.now(page)])), default=0.0)

    def width(self, page: Any) -> int:
        """Of the picture that is on screen."""
        return self.shown(page)[-1][1]

    def wait_for_width(self, page: Any, width: int, seconds: float) -> float:
        """Wait until pictures have it; how many seconds that took."""
        began = self.now(page)
        while self.width(page) != width:
            self.assertLess(self.now(page), began + seconds, page.evaluate(STATS))
            page.wait_for_timeout(100)
        return self.now(page) - began
