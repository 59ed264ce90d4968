"""The quality ladder as a viewer has it: a real Chromium at the end of a line whose speed changes."""

from pathlib import Path
from typing import ClassVar

import pytest
from playwright.sync_api import Page

from tests.e2e.browser import BrowserTestCase
from tests.e2e.hls import Watcher as HlsWatcher
from tests.e2e.hls import shown
from tests.e2e.link import FREE, Link
from tests.e2e.programs import Server, publish, server, until

PROFILE = '[{"name": "360p", "width": 640, "height": 360, "bitrate": 500000, "audio_bitrate": 64000}]'
SOURCE = ("libx264", "-preset", "ultrafast", "-b:v", "2500k", "-maxrate", "2500k", "-bufsize", "2500k")
NARROW = 1_200_000
"""Bits a second: the small picture twice over, the source not by half."""

PATIENCE = 60
"""Seconds. The player has to see two segments of a line before it believes in it, and shows first what it loaded."""

WINDOW = {"width": 900, "height": 700}
"""More than 640 wide: the player asks for no larger picture than it can show. Not much more: without a graphics card
Chromium pays per pixel on screen."""

WATCH = """() => {
    const video = document.querySelector('video');
    window.seen = {dry: 0, jumps: 0, states: new Set(), sizes: []};
    video.addEventListener('waiting', () => { seen.dry += 1; });
    video.addEventListener('seeking', () => { seen.jumps += 1; });
    video.addEventListener('resize', () => { seen.sizes.push(video.videoHeight); });
    setInterval(() => seen.states.add(window.oxidecastPlayer.state), 20);
}"""
SEEN = "() => [seen.dry, seen.jumps, [...seen.states], seen.sizes]"
"""A gap that play comes to is waited at, or jumped over. One further ahead is there while a quality is exchanged."""

WHOLE = "document.querySelector('video').buffered.length === 1"


@pytest.mark.alone
class AdaptiveTests(BrowserTestCase):
    server: ClassVar[Server]
    link: ClassVar[Link]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        settings = {"OXIDECAST_TRANSCODING_PROFILES": PROFILE, "OXIDECAST_TRANSCODING_PRESET": "ultrafast"}
        cls.server = cls.enterClassContext(server(settings=settings))
        cls.link = cls.enterClassContext(Link(cls.server.http))

    def test_the_picture_follows_the_line_and_the_viewer_without_a_stall(self) -> None:
        name, key = self.server.new_stream("Marathon", transcoding_profiles=["360p"])
        log = Path(self.server.folder, "encoder.log")
        with publish(self.server.ingest(key), log, size="1920x1080", gop=30, video=SOURCE):
            self.server.wait_live(name, 20)
            until(lambda: len(self.server.stream(name)["renditions"]) == 2, 20, "the ladder")
            readers = [HlsWatcher(self.server.media_playlist(name, one)[0]) for one in ("source", "360p")]
            try:
                # A player keeps three segments behind the edge, where there are so many.
                until(lambda: all(len(one.segments) >= 4 for one in readers), 20, "segments")
                self.play(name)
            finally:
                for reader in readers:
                    reader.stop()
        self.assertEqual([(one.faults, one.discontinuities) for one in readers], [([], 0)] * 2)
        source, small = map(shown, readers)
        common = sorted(source.keys() & small.keys())
        # The ends apart: a rendition's reader may have come, or gone, between two segments.
        self.assertGreaterEqual(len(common), 10)
        for one in (source, small):
            inside = [start for start in one if common[0] <= start <= common[-1]]
            self.assertEqual(inside, common)
        for start in common:
            self.assertEqual(source[start], small[start])

    def play(self, name: str) -> None:
        self.link.rate = NARROW
        watcher = self.watch(f"{self.link.url}/player/{name}", self.new_context(viewport=WINDOW))
        page = watcher.page
        watcher.wait_for_motion()
        # What comes first is a guess; what the line carries is known after that.
        small = watcher.wait("a picture for this line", lambda now: now.height == 360, PATIENCE)
        self.assertEqual(small.width, 640)
        page.evaluate(WATCH)
        start = watcher.glance()

        def becomes(height: int) -> None:
            watcher.wait(f"{height}p", lambda now: now.height == height, PATIENCE)

        def full(seconds: float) -> None:
            """So much is loaded ahead that a narrower line is no surprise."""
            watcher.wait("a buffer", lambda now: ahead(page) >= seconds, 15)

        self.link.rate = FREE
        becomes(1080)
        full(3)
        self.picture(page, "adaptive-wide")
        self.link.rate = NARROW
        becomes(360)
        self.link.rate = FREE
        for label, height in (("1080p", 1080), ("360p", 360), ("Auto", 1080)):
            page.hover("#player")
            page.click("#c-quality")
            self.picture(page, f"adaptive-{label}")
            page.locator("#c-levels button", has_text=label).last.click()
            becomes(height)
            self.assertIn(label, page.locator("#c-quality-word").text_content() or "")
        end = watcher.glance()
        dry, jumps, states, sizes = page.evaluate(SEEN)
        self.assertEqual((dry, jumps, states), (0, 0, ["playing"]))
        self.assertEqual(sizes, [1080, 360, 1080, 360, 1080])
        self.assertAlmostEqual(end.time - start.time, end.wall - start.wall, delta=0.5)
        page.wait_for_function(WHOLE, timeout=10_000)
        self.assert_only_asked(self.link.url)


def ahead(page: Page) -> float:
    """Seconds that are loaded beyond what is shown."""
    script = "() => { const {buffered: b, currentTime: at} = document.querySelector('video'); return b.end(0) - at }"
    return float(page.evaluate(script))
