"""Where no UDP gets through: Chromium, forbidden to use it, plays and publishes by TCP on the same port."""

from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.e2e.programs import publish, until
from tests.e2e.test_whip import PUBLISH
from tests.e2e.whep import PLAIN_H264, PLAY, STATS, WHEPCase

PAIR = """
async connection => {
    const all = [...(await connection.getStats()).values()];
    const pair = all.find(one => one.type === 'candidate-pair' && one.nominated && one.state === 'succeeded');
    return all.find(one => one.id === pair?.remoteCandidateId);
}
"""


@pytest.mark.alone
class WithoutUDPTests(WHEPCase):
    arguments: ClassVar[tuple[str, ...]] = (
        *WHEPCase.arguments,
        "--webrtc-ip-handling-policy=disable_non_proxied_udp",
    )

    def page(self) -> Any:
        return self.open(f"{self.server.url}/health", self.new_context(bypass_csp=True))

    def watch(self, name: str) -> Any:
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
            page = self.watch(name)
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
        self.watch(name)
