"""WebRTC through bad networks: Chromium behind a relay that loses, delays, and lets through only so much."""

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.programs import publish, until
from tests.e2e.relay import Relay
from tests.e2e.whep import PLAIN_H264, STATS, WHEPCase

RATE = ("-b:v", "2500k", "-maxrate", "2500k", "-bufsize", "2500k", "-x264-params", "nal-hrd=cbr")
"""2.5 Mbit/s, whatever the picture."""

SOURCE, SMALL = 854, 640
"""Pixels of width."""


@pytest.mark.alone
class NetworkTests(WHEPCase):
    def test_one_in_twenty_is_lost_far_away(self) -> None:
        name, key = self.server.new_stream("Far away")
        relay = Relay(self.udp, loss=0.05, delay=0.05)
        self.addCleanup(relay.stop)
        with publish(self.server.ingest(key), self.log("far"), video=(*PLAIN_H264, *RATE)):
            until(lambda: self.server.stream(name)["state"] == "live", 15, "the stream is live")
            page, status, text = self.play(name, relay.port)
            self.assertEqual(status, 201, text)
            self.wait_for_frames(page, 60)
            self.look(page, 12)
            after = page.evaluate(STATS)["video"]
            self.assertGreater(relay.lost, 100)
            self.assertLess(after["freezeCount"], 2, after)
            self.assertLess(after["totalFreezesDuration"], 1, after)

    def test_a_line_that_becomes_narrow_for_a_while(self) -> None:
        name, key = self.server.new_stream("Narrow", transcoding_profiles=["360p"])
        relay = Relay(self.udp, delay=0.02)
        self.addCleanup(relay.stop)
        with publish(self.server.ingest(key), self.log("narrow"), size="854x480", video=(*PLAIN_H264, *RATE)):
            until(lambda: self.server.stream(name)["state"] == "live", 15, "the stream is live")
            page, status, text = self.play(name, relay.port)
            self.assertEqual(status, 201, text)
            self.wait_for_frames(page, 120)
            self.assertEqual(self.width(page), SOURCE)
            began = self.now(page)
            relay.rate = 1_000_000
            self.wait_for_width(page, SMALL, 5)
            self.look(page, 4)
            self.assertEqual(self.width(page), SMALL)
            relay.rate = 0
            self.wait_for_width(page, SOURCE, 30)
            self.look(page, 2)
            self.assertEqual(self.width(page), SOURCE)
            self.assertLess(self.longest_pause(page, began), 1)

    def log(self, name: str) -> Path:
        return Path(self.server.folder, f"{name}.log")

    def look(self, page: Any, seconds: float) -> None:
        page.wait_for_timeout(seconds * 1000)
