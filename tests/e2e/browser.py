"""A real Chromium in front of the real pages: what a viewer has on screen, in numbers.

The one idea: a test reads what the viewer would see (the picture's size, the clock of the picture, frames dropped, the
words on the page), and everything else that a page must not do (an error, a breach of its Content-Security-Policy, a
request to another host) fails every test by itself.

Set OXIDECAST_SCREENSHOTS to a directory to keep a picture of every page that a test looks at.
"""

import os
import time
import unittest
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from playwright.sync_api import Browser, BrowserContext, Page, Playwright, sync_playwright

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}

INSTRUMENTS = """
document.addEventListener('securitypolicyviolation', e => console.error('CSP ' + e.violatedDirective));
window.sameDocument = Math.random();
document.addEventListener('playing', () => { window.startedPlaying ??= performance.now(); }, true);
"""
"""`sameDocument` tells a page that was reloaded from one that went on by itself; `playing` does not bubble."""

FAILED_REQUEST = "Failed to load resource"
"""Chromium's report of a request that was answered with an error, or not at all."""


@dataclass(frozen=True, slots=True)
class Glance:
    """What is on screen at one moment."""

    wall: float
    """Seconds, by the page's monotonic clock."""
    time: float
    width: int
    height: int
    frames: int
    dropped: int
    latency: float | None
    state: str
    sound: int
    """Bytes of sound decoded so far."""


class Watcher:
    """One page that plays a stream."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.document = page.evaluate("window.sameDocument")

    def glance(self) -> Glance:
        values = self.page.evaluate(
            """() => {
                const video = document.querySelector('video'), stats = window.oxidecastPlayer.stats();
                return [performance.now() / 1000, stats.currentTime, stats.width, stats.height, stats.totalFrames,
                        stats.droppedFrames, stats.latency, window.oxidecastPlayer.state,
                        video.webkitAudioDecodedByteCount];
            }"""
        )
        return Glance(*values)

    def wait(self, what: str, check: Callable[[Glance], bool], seconds: float = 15) -> Glance:
        """The first moment at which `check` holds."""
        deadline = time.monotonic() + seconds
        while True:
            now = self.glance()
            if check(now):
                return now
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {seconds:g} s in vain for {what}: {now}; {self.words!r}")
            self.page.wait_for_timeout(100)

    def wait_for_state(self, wanted: str, seconds: float = 15) -> Glance:
        return self.wait(f"the state {wanted!r}", lambda now: now.state == wanted, seconds)

    def wait_for_motion(self, seconds: float = 15) -> Glance:
        """Wait until the picture's clock has moved by a second."""
        start = self.wait_for_state("playing", seconds)
        return self.wait(
            "a second of play", lambda now: 1 < now.time - start.time < 10 or start.time - now.time > 1
        )

    def watch(self, seconds: float) -> tuple[Glance, Glance]:
        """Look away for a while: (before, after)."""
        before = self.glance()
        self.page.wait_for_timeout(seconds * 1000)
        return before, self.glance()

    def same_document(self) -> bool:
        """Whether the page has not been reloaded."""
        return bool(self.page.evaluate("window.sameDocument") == self.document)

    def text(self, selector: str) -> str:
        return self.page.locator(selector).inner_text()

    @property
    def words(self) -> str:
        """What the player says instead of, or above, the picture; empty while it only plays."""
        return "\n".join(
            self.text(part) for part in ("#screen", "#toast") if self.page.locator(part).is_visible()
        )


class BrowserTestCase(unittest.TestCase):
    """Tests with a Chromium of their own."""

    arguments: ClassVar[tuple[str, ...]] = ()
    """What it is started with besides."""

    playwright: ClassVar[Playwright]
    browser: ClassVar[Browser]

    @classmethod
    def setUpClass(cls) -> None:
        cls.playwright = sync_playwright().start()
        cls.addClassCleanup(cls.playwright.stop)
        cls.browser = cls.playwright.chromium.launch(
            executable_path=CHROMIUM, headless=True, args=[*ARGUMENTS, *cls.arguments]
        )
        cls.addClassCleanup(cls.browser.close)

    def setUp(self) -> None:
        self.errors: list[str] = []
        self.addresses: list[str] = []
        self.requests_may_fail = False
        """Set by a test in which a server or a stream is away for a while."""

    def tearDown(self) -> None:
        errors = [text for text in self.errors if not (self.requests_may_fail and FAILED_REQUEST in text)]
        self.assertEqual(errors, [])

    def new_context(self, **options: Any) -> BrowserContext:
        context = self.browser.new_context(**{"viewport": DESKTOP, **options})
        self.addCleanup(context.close)
        context.add_init_script(INSTRUMENTS)
        context.on("console", lambda message: self._note(message.type, f"{message.text} {message.location}"))
        context.on("weberror", lambda error: self._note("error", str(error.error)))
        context.on("request", lambda request: self.addresses.append(request.url))
        return context

    def open(self, address: str, context: BrowserContext | None = None) -> Page:
        page = (context or self.new_context()).new_page()
        page.goto(address)
        return page

    def watch(self, address: str, context: BrowserContext | None = None) -> Watcher:
        return Watcher(self.open(address, context))

    def assert_only_asked(self, origin: str) -> None:
        """No request went to another host."""
        strangers = [url for url in self.addresses if not url.startswith((origin, "blob:", "data:"))]
        self.assertEqual(strangers, [])

    def picture(self, page: Page, name: str) -> None:
        directory = os.environ.get("OXIDECAST_SCREENSHOTS")
        if directory:
            page.screenshot(path=Path(directory, f"{name}.png"))

    def _note(self, kind: str, text: str) -> None:
        if kind == "error":
            self.errors.append(text)


def seconds_to_playing(page: Page) -> float:
    """From the beginning of navigation to the first picture."""
    return float(page.evaluate("window.startedPlaying")) / 1000
