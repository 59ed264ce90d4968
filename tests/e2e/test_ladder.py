"""The quality ladder of a whole server: ffmpeg publishes, HLS offers qualities, and the child is killed meanwhile."""

import os
import re
import signal
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from tests.e2e.hls import Watcher, packets
from tests.e2e.programs import ServerCase, publish, until

PROFILES = (
    '[{"name": "180p", "width": 320, "height": 180, "bitrate": 300000, "audio_bitrate": 64000},'
    ' {"name": "90p", "width": 160, "height": 90, "bitrate": 100000, "audio_bitrate": 48000}]'
)
LADDER = ["source", "180p", "90p"]


class LadderCase(ServerCase):
    settings = {"OXIDECAST_TRANSCODING_PROFILES": PROFILES, "OXIDECAST_TRANSCODING_PRESET": "ultrafast"}

    def live(self, title: str, profiles: list[str] = LADDER[1:], **how: Any) -> str:
        name, key = self.server.new_stream(title, transcoding_profiles=profiles)
        encoder = publish(self.server.ingest(key), self.log("encoder"), **{"gop": 30, **how})
        self.addCleanup(encoder.__exit__)
        self.server.wait_live(name)
        return name

    def runs(self, name: str) -> list[str]:
        return [one["name"] for one in self.server.stream(name)["renditions"]]

    def master(self, name: str) -> list[tuple[str, dict[str, str]]]:
        """The multivariant playlist: names of renditions, and what is said of them."""
        text = self.server.get(f"/api/v1/hls/{name}/playlist.m3u8")[1].decode()
        return [
            (uri.split("/")[1], dict(re.findall(r'([A-Z-]+)=("[^"]*"|[^,]*)', line)))
            for line, uri in pairwise(text.splitlines())
            if line.startswith("#EXT-X-STREAM-INF")
        ]

    def watch(self, name: str, rendition: str) -> Watcher:
        watcher = Watcher(self.server.media_playlist(name, rendition)[0])
        self.addCleanup(watcher.stop)
        return watcher

    def children(self) -> list[psutil.Process]:
        return [
            one
            for one in psutil.Process(self.server.process.pid).children()
            if "oxidecast.transcoding.worker" in one.cmdline()
        ]


class LadderTests(LadderCase):
    def test_hls_offers_the_ladder(self) -> None:
        name = self.live("Ladder")
        until(lambda: self.runs(name) == LADDER, 15, "the ladder runs")

    def test_debug(self) -> None:
        import time
        name = self.live("Debug")
        time.sleep(4)
        print(self.server.call("GET", f"/streams/{name}/stats", token=self.server.admin))
        print(self.children())
        print([one.cmdline() for one in psutil.Process(self.server.process.pid).children(recursive=True)])
        os.system(f"cat /proc/{self.server.process.pid}/stat; ls -l /proc/{self.server.process.pid}/fd | tail -30")
        assert 0
