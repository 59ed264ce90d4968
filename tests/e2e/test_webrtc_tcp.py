"""Where no UDP gets through: Chromium, forbidden to use it, plays and publishes by TCP on the same port."""

from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.e2e.browser import BrowserTestCase
from tests.e2e.programs import Server, free_port, publish, server, until
from tests.e2e.test_whip import PUBLISH
from tests.e2e.whep import PLAIN_H264, PLAY, STATS

PAIR = """
async connection => {
    const all = [...(await connection.getStats()).values()];
    const pair = all.find(one => one.type === 'candidate-pair' && one.nominated && one.state === 'succeeded');
    return all.find(one => one.id === pair?.remoteCandidateId);
}
"""


@pytest.mark.alone
class WithoutUDPTests(BrowserTestCase):
    arguments: ClassVar[tuple[str, ...]] = (
        "--allow-loopback-in-peer-connection",
        "--disable-features=WebRtcHideLocalIpsWithMdns",
        "--webrtc-ip-handling-policy=disable_non_proxied_udp",
    )
    server: ClassVar[Server]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        settings = {"OXIDECAST_WEBRTC_PORT": str(free_port())}
        cls.server = cls.enterClassContext(server(settings=settings))

    def setUp(self) -> None:
        super().setUp()
        self.requests_may_fail = True  # Chromium asks for a favicon, which this page does not have.

    def page(self) -> Any:
        return self.open(f"{self.server.url}/health", self.new_context(bypass_csp=True))

    def play(self, name: str) -> Any:
        """A page that plays it, by TCP."""
        page = self.page()
        status, text = page.evaluate(PLAY, [f"{self.server.url}/api/v1/webrtc/{name}/whep", 0])
        self.assertEqual(status, 201, text)
        until(lambda: self.decoded(page) >= 60, 15, "two seconds of pictures")
        pair = page.evaluate_handle("window.pc").evaluate(PAIR)
        self.assertEqual(pair["protocol"], "tcp")
        return page

    def decoded(self, page: Any) -> int:
        return int(page.evaluate(STATS).get("video", {}).get("framesDecoded", 0))

    def test_it_plays(self) -> None:
        name, key = self.server.new_stream("By TCP")
        log = Path(self.server.folder, "tcp.log")
        with publish(self.server.ingest(key), log, video=PLAIN_H264):
            until(lambda: self.server.stream(name)["state"] == "live", 15, "the stream is live")
            page = self.play(name)
            stats = page.evaluate(STATS)
            self.assertEqual(stats["video"]["packetsLost"], 0)
            self.assertGreater(stats["audio"]["totalSamplesReceived"], 0)
            page.evaluate("fetch(window.location_, {method: 'DELETE'})")
            until(lambda: self.server.stream(name)["viewer_count"] == 0, 5, "the viewer has left")

    def test_it_publishes(self) -> None:
        name, key = self.server.new_stream("Made by TCP")
        page = self.page()
        status, text = page.evaluate(PUBLISH, [f"{self.server.url}/api/v1/webrtc/whip", key, "H264"])
        self.assertEqual(status, 201, text)
        until(lambda: self.server.stream(name)["state"] == "live", 15, "the stream is live")
        pair = page.evaluate_handle("window.publishing").evaluate(PAIR)
        self.assertEqual(pair["protocol"], "tcp")
        self.play(name)
