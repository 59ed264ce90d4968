"""The pages in a real Chromium, on real media: what a viewer sees when all goes well, and when it does not.

Playwright drives the browser from this process; the server is a child, so that no two event loops meet.
Set OXIDECAST_SCREENSHOTS to a directory to keep a picture of every page, on a desktop and on a phone.
"""

import os
import subprocess
import sys
import tempfile
import time
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, Route, sync_playwright

from tests.e2e.canned_server import CONSTANT_RATE, HITS, LEFT_OUT, LONG_GROUPS, PICTURE

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
UNCARRIED = {"success": False, "data": None, "error": "It cannot.", "code": "not_carried", "timestamp": ""}
ROOT = Path(__file__).parents[2]

WATCH_POLICY = (
    "document.addEventListener('securitypolicyviolation', e => console.error('CSP ' + e.violatedDirective))"
)


class PlayerPage(unittest.TestCase):
    server: ClassVar["subprocess.Popen[str]"]
    playwright: ClassVar[Playwright]
    browser: ClassVar[Browser]
    origin: ClassVar[str]

    @classmethod
    def setUpClass(cls) -> None:
        media = tempfile.TemporaryDirectory()
        cls.addClassCleanup(media.cleanup)
        command = [sys.executable, "-m", "tests.e2e.canned_server", media.name]
        cls.server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        cls.addClassCleanup(cls.stop_server)
        cls.playwright = sync_playwright().start()
        cls.addClassCleanup(cls.playwright.stop)
        cls.browser = cls.playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=ARGUMENTS)
        cls.addClassCleanup(cls.browser.close)
        assert cls.server.stdout is not None
        cls.origin = f"http://127.0.0.1:{int(cls.server.stdout.readline())}"

    @classmethod
    def stop_server(cls) -> None:
        cls.server.terminate()
        cls.server.wait(10)
        if cls.server.stdout is not None:
            cls.server.stdout.close()

    def setUp(self) -> None:
        self.complaints: list[str] = []
        self.addresses: list[str] = []
        self.context = self.new_context(viewport={"width": 1280, "height": 800})

    def new_context(self, **options: Any) -> BrowserContext:
        context = self.browser.new_context(**options)
        self.addCleanup(context.close)
        context.add_init_script(WATCH_POLICY)
        context.on("console", lambda message: self.note(message.type, message.text))
        context.on("weberror", lambda error: self.note("error", str(error.error)))
        context.on("request", lambda request: self.addresses.append(request.url))
        return context

    def note(self, kind: str, text: str) -> None:
        # Chromium reports every 404 as an error, the expected ones too: what the page makes of it counts.
        if kind == "error" and "Failed to load resource" not in text:
            self.complaints.append(text)

    def tearDown(self) -> None:
        self.assertEqual(self.complaints, [])
        strangers = [url for url in self.addresses if not url.startswith((self.origin, "blob:", "data:"))]
        self.assertEqual(strangers, [])

    def open(self, path: str, context: BrowserContext | None = None) -> Page:
        page = (context or self.context).new_page()
        page.goto(self.origin + path)
        return page

    def stats(self, page: Page) -> dict[str, float]:
        stats: dict[str, float] = page.evaluate("window.oxidecastPlayer.stats()")
        return stats

    def state(self, page: Page) -> str:
        state: str = page.evaluate("window.oxidecastPlayer.state")
        return state

    def wait(self, what: str, check: Callable[[], bool], seconds: float = 10.0) -> None:
        deadline = time.monotonic() + seconds
        while not check():
            if time.monotonic() > deadline:
                self.fail(f"waited {seconds:.0f} s in vain for {what}")
            self.context.pages[0].wait_for_timeout(100)

    def wait_for_state(self, page: Page, wanted: str, seconds: float = 10.0) -> None:
        try:
            page.wait_for_function(
                "s => window.oxidecastPlayer?.state === s", arg=wanted, timeout=seconds * 1000
            )
        except Exception:
            self.fail(f"state is {self.state(page)!r}, not {wanted!r}; {self.stats(page)}")

    def change_answers(self, page: Page, name: str, change: Callable[[dict[str, Any]], None]) -> None:
        """What the API says of a stream is changed on its way to the page."""

        def answer(route: Route) -> None:
            response = route.fetch()
            envelope = response.json()
            change(envelope["data"])
            route.fulfill(response=response, json=envelope)

        page.route(f"**/api/v1/streams/{name}", answer)

    def picture(self, page: Page, name: str) -> None:
        directory = os.environ.get("OXIDECAST_SCREENSHOTS")
        if directory:
            page.screenshot(path=Path(directory) / f"{name}.png")

    def test_a_live_stream_plays(self) -> None:
        page = self.open("/player/show")
        self.wait_for_state(page, "playing")
        before = self.stats(page)
        page.wait_for_timeout(2000)
        after = self.stats(page)
        self.assertGreater(after["currentTime"] - before["currentTime"], 1.3)
        self.assertGreater(after["totalFrames"] - before["totalFrames"], 30)
        self.assertEqual((after["width"], after["height"]), (640, 360))
        self.assertLess(after["latency"], 5.0)
        self.assertEqual(page.locator("h1").inner_text(), "The evening show <b>live</b> & in colour")
        self.assertIn("1,284 viewers", page.locator("#facts").inner_text())
        self.assertEqual(page.locator("#c-live-word").text_content(), "Live")
        page.hover("#player")
        self.picture(page, "watch-desktop")

    def test_the_viewer_is_in_control_by_keyboard(self) -> None:
        page = self.open("/player/show")
        self.wait_for_state(page, "playing")
        page.keyboard.press("k")
        self.wait_for_state(page, "paused")
        self.assertEqual(page.locator("#c-live-word").text_content(), "Go to live")
        page.keyboard.press("m")
        self.assertTrue(page.evaluate("document.querySelector('video').muted"))
        page.keyboard.press("m")
        page.keyboard.press("ArrowDown")
        self.assertAlmostEqual(page.evaluate("document.querySelector('video').volume"), 0.95)
        page.keyboard.press("l")
        self.wait_for_state(page, "playing")

    def test_a_browser_that_refuses_sound_plays_without_and_offers_it(self) -> None:
        flags = [*ARGUMENTS[:-1], "--autoplay-policy=document-user-activation-required"]
        browser = self.playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=flags)
        self.addCleanup(browser.close)
        page = browser.new_page()
        # What Playwright evaluates in a page counts as a gesture: nothing may be, until play() is refused.
        with page.expect_request("**/large-*.m4s"):
            page.goto(self.origin + "/player/show")
        self.wait_for_state(page, "playing")
        self.assertTrue(page.evaluate("document.querySelector('video').muted"))
        page.get_by_text("Turn sound on").click()
        self.assertFalse(page.evaluate("document.querySelector('video').muted"))
        page.get_by_text("Turn sound on").wait_for(state="hidden", timeout=5_000)

    def choose(self, page: Page, name: str) -> None:
        page.click("#c-quality")
        page.locator("#c-levels button", has_text=name).click()

    def watch_for_stalls(self, page: Page) -> Callable[[], tuple[int, int, list[str]]]:
        """Afterwards: how often the buffer ran dry, how many ranges it has (1 without a gap), and states other than
        playing."""
        page.evaluate(
            """() => {
                const video = document.querySelector('video');
                window.dry = 0;
                window.states = new Set();
                video.addEventListener('waiting', () => { window.dry += 1; });
                setInterval(() => window.states.add(window.oxidecastPlayer.state), 50);
            }"""
        )

        def seen() -> tuple[int, int, list[str]]:
            found: tuple[int, int, list[str]] = page.evaluate(
                "() => [window.dry, document.querySelector('video').buffered.length, [...window.states]]"
            )
            return tuple(found)  # type: ignore[return-value]

        return seen

    @pytest.mark.alone
    def test_one_of_several_qualities_can_be_chosen(self) -> None:
        page = self.open("/player/ladder")
        self.wait_for_state(page, "playing")
        self.wait("the size", lambda: self.stats(page)["height"] == 360)
        page.click("#c-quality")
        names = page.locator("#c-levels button").all_inner_texts()
        self.assertEqual([name.strip() for name in names], ["Auto (360p)", "360p", "240p", "144p"])
        self.picture(page, "quality-desktop")
        page.keyboard.press("End")
        page.keyboard.press("ArrowUp")
        page.keyboard.press("Enter")
        self.assertEqual(page.locator("#c-quality-word").text_content(), "240p")
        seen = self.watch_for_stalls(page)
        self.wait("the small picture", lambda: self.stats(page)["height"] == 240)
        self.assertIn("240p", page.locator("#facts").inner_text())
        self.choose(page, "144p")
        self.wait("the tiny picture", lambda: self.stats(page)["width"] == 256)
        self.choose(page, "360p")
        self.wait("the large picture", lambda: self.stats(page)["height"] == 360)
        self.assertEqual(seen(), (0, 1, ["playing"]))

    def test_what_was_chosen_is_remembered(self) -> None:
        page = self.open("/player/ladder")
        self.wait_for_state(page, "playing")
        self.choose(page, "240p")
        again = self.open("/player/ladder")
        self.wait_for_state(again, "playing")
        self.assertEqual(self.stats(again)["height"], 240)
        self.assertEqual(again.locator("#c-quality-word").text_content(), "240p")
        self.choose(again, "Auto")
        self.wait("the best again", lambda: self.stats(again)["height"] == 360)
        again.reload()
        self.wait_for_state(again, "playing")
        self.assertIn("Auto", again.locator("#c-quality-word").text_content() or "")

    def test_a_choice_that_a_stream_does_not_have_is_the_next_smaller_one(self) -> None:
        page = self.context.new_page()
        page.add_init_script("localStorage.setItem('oxidecast.quality', '300p30')")
        page.goto(self.origin + "/player/ladder")
        self.wait_for_state(page, "playing")
        self.assertEqual(page.locator("#c-quality-word").text_content(), "240p")
        page.goto(self.origin + "/player/show")
        self.wait_for_state(page, "playing")
        self.assertFalse(page.locator("#c-quality").is_visible(), "there is nothing to choose")
        self.assertEqual(self.stats(page)["height"], 360)

    def test_qualities_that_come_later_can_be_chosen_in_the_same_page(self) -> None:
        page = self.context.new_page()
        addresses = ("**/api/v1/streams/ladder", "**/hls/ladder/playlist.m3u8")
        text = page.request.get(f"{self.origin}/api/v1/hls/ladder/playlist.m3u8").text()
        first = "\n".join(text.splitlines()[:3])
        self.change_answers(page, "ladder", lambda stream: stream.update(qualities=stream["qualities"][:1]))
        page.route(addresses[1], lambda route: route.fulfill(body=first))
        page.goto(self.origin + "/player/ladder")
        self.wait_for_state(page, "playing")
        self.assertFalse(page.locator("#c-quality").is_visible(), "there is nothing to choose")
        page.evaluate("window.sameDocument = true")
        for address in addresses:
            page.unroute(address)
        self.wait("the choice", lambda: page.locator("#c-quality").is_visible(), 15)
        self.wait_for_state(page, "playing")
        self.choose(page, "240p")
        self.wait("the small picture", lambda: self.stats(page)["height"] == 240)
        self.assertTrue(page.evaluate("window.sameDocument"))
        # It looked again after it began anew, and left it at that.
        page.wait_for_timeout(3000)
        begun = [url for url in self.addresses if url.endswith("/hls/ladder/playlist.m3u8")]
        self.assertEqual(len(begun), 2)

    @pytest.mark.alone
    def test_automatic_follows_the_link_down_and_up_without_a_stall(self) -> None:
        page = self.context.new_page()
        link = self.context.new_cdp_session(page)
        link.send("Network.enable")

        def throttle(kilobits: int) -> None:
            rate = kilobits * 1000 / 8
            conditions = {"offline": False, "latency": 0, "downloadThroughput": rate, "uploadThroughput": -1}
            link.send("Network.emulateNetworkConditions", conditions)

        throttle(3000)
        page.goto(self.origin + "/player/ladder")
        self.wait_for_state(page, "playing")
        self.wait("the best", lambda: self.stats(page)["height"] == 360)
        ahead = "() => { const {buffered: b, currentTime: at} = document.querySelector('video'); return b.end(0) - at }"
        self.wait("the buffer of a moment ago", lambda: float(page.evaluate(ahead)) > 2.2)
        seen = self.watch_for_stalls(page)
        throttle(500)
        self.wait("a smaller picture", lambda: self.stats(page)["height"] < 360, 20)
        throttle(3000)
        self.wait("the best again", lambda: self.stats(page)["height"] == 360, 30)
        self.assertEqual(seen(), (0, 1, ["playing"]))

    def test_qualities_can_be_chosen_by_touch_on_a_phone(self) -> None:
        phone = self.new_context(**self.playwright.devices["iPhone 13"])
        page = self.open("/player/ladder", phone)
        self.wait_for_state(page, "playing")
        page.tap("#player")
        page.tap("#c-quality")
        menu, player = page.locator("#c-levels").bounding_box(), page.locator("#player").bounding_box()
        assert menu is not None and player is not None
        self.picture(page, "quality-phone")
        self.assertGreaterEqual(menu["y"], player["y"])
        self.assertLessEqual(menu["x"] + menu["width"], 390)
        for item in page.locator("#c-levels button").all():
            box = item.bounding_box()
            assert box is not None
            self.assertGreaterEqual(box["height"], 40, "for a finger")
        page.locator("#c-levels button", has_text="144p").tap()
        wanted = "height => window.oxidecastPlayer.stats().height === height"
        page.wait_for_function(wanted, arg=144, timeout=15_000)

    def test_playback_goes_on_after_a_gap_with_another_picture_size(self) -> None:
        page = self.open("/player/switch")
        self.wait_for_state(page, "playing")
        self.assertEqual(self.stats(page)["height"], 360)
        page.evaluate("window.sameDocument = true")
        self.wait_for_state(page, "waiting")
        self.assertIn("signal dropped", page.locator("#toast").inner_text())
        self.picture(page, "waiting-desktop")
        self.wait("the other picture", lambda: self.stats(page)["height"] == 240)
        self.wait_for_state(page, "playing")
        page.locator("#toast").wait_for(state="hidden", timeout=5_000)
        self.assertTrue(page.evaluate("window.sameDocument"))

    def test_an_ended_stream_says_so_and_starts_again_by_itself(self) -> None:
        page = self.open("/player/ending")
        self.wait_for_state(page, "playing")
        self.wait_for_state(page, "ended")
        page.get_by_text("The stream has ended").wait_for(timeout=5_000)
        page.locator("#controls").wait_for(state="hidden", timeout=5_000)
        self.picture(page, "ended-desktop")
        self.wait_for_state(page, "playing", 12)
        page.locator("#screen").wait_for(state="hidden", timeout=5_000)

    def test_an_undecodable_codec_is_named_before_anything_is_tried(self) -> None:
        page = self.open("/player/hevc")
        self.wait_for_state(page, "unsupported")
        text = page.locator("#screen").inner_text()
        self.assertIn("H.265 (HEVC)", text)
        self.assertIn("hvc1.1.6.L93.B0", text)
        self.assertIn("VLC", text)
        self.assertEqual(page.input_value("#hls-address"), f"{self.origin}/api/v1/hls/hevc/playlist.m3u8")
        self.assertFalse([url for url in self.addresses if "~1" in url])
        self.picture(page, "hevc-desktop")

    def test_the_sound_plays_when_only_the_picture_cannot(self) -> None:
        page = self.open("/player/hevc-sound")
        self.wait_for_state(page, "playing")
        self.assertIn("Sound only", page.locator("#toast").inner_text())
        self.assertIn("hvc1.1.6.L93.B0", page.locator("#toast").inner_text())
        page.locator("#still").wait_for(timeout=5_000)

    def test_a_stream_of_sound_shows_a_still(self) -> None:
        page = self.open("/player/radio")
        self.wait_for_state(page, "playing")
        page.locator("#still").wait_for(timeout=5_000)
        self.assertEqual(page.locator("#still-title").inner_text(), "Night radio")
        self.picture(page, "radio-desktop")

    def assert_says_that_nothing_is_carried(self, page: Page, codec: str) -> None:
        """The server is named as the one that cannot, and nothing that answers with an error is offered."""
        self.wait_for_state(page, "uncarried")
        self.assertEqual(page.locator("#screen-title").inner_text(), f"The server cannot send {codec} by HLS")
        text = page.locator("#screen").inner_text()
        self.assertNotIn("browser", text)
        self.assertNotIn("VLC", text)
        self.assertFalse(page.locator("#hls-address").is_visible())
        page.get_by_text("Share").click()
        self.assertTrue(page.locator("#share-link").is_visible())
        self.assertFalse(page.locator("#share-hls").is_visible())
        page.get_by_text("Share").click()

    def test_a_codec_that_the_server_leaves_out_is_not_blamed_on_the_browser(self) -> None:
        page = self.open("/player/mp3")
        self.assert_says_that_nothing_is_carried(page, "MP3")
        self.assertEqual(page.locator("#screen-notices li").all_inner_texts(), [LEFT_OUT])
        self.assertFalse(page.locator("#notices").is_visible(), "said once is enough")
        self.picture(page, "uncarried-desktop")

    def test_a_codec_that_the_server_leaves_out_and_the_browser_has_is_named_too(self) -> None:
        page = self.context.new_page()
        page.route("**/hls/show/playlist.m3u8", lambda route: route.fulfill(status=404, json=UNCARRIED))
        page.goto(f"{self.origin}/player/show")
        self.assert_says_that_nothing_is_carried(page, "H.264 (AVC) and AAC")

    def test_a_stream_that_was_left_out_plays_by_itself_when_it_no_longer_is(self) -> None:
        page = self.context.new_page()
        page.route("**/hls/show/playlist.m3u8", lambda route: route.fulfill(status=404, json=UNCARRIED))
        page.goto(f"{self.origin}/player/show")
        self.wait_for_state(page, "uncarried")
        page.unroute("**/hls/show/playlist.m3u8")
        self.wait_for_state(page, "playing")
        page.locator("#screen").wait_for(state="hidden", timeout=5_000)

    def test_a_change_to_a_codec_that_the_server_leaves_out_is_told_to_those_who_watch(self) -> None:
        page = self.open("/player/show")
        self.wait_for_state(page, "playing")
        frozen = page.request.get(f"{self.origin}/api/v1/hls/show/~1/source/playlist.m3u8").text()
        page.route("**/hls/show/~1/**", lambda route: route.fulfill(body=frozen))
        page.route("**/hls/show/playlist.m3u8", lambda route: route.fulfill(status=404, json=UNCARRIED))
        self.wait_for_state(page, "waiting", 15)
        self.wait_for_state(page, "uncarried", 15)

    def test_a_playlist_that_is_not_there_yet_is_no_verdict_on_the_browser(self) -> None:
        page = self.context.new_page()
        self.change_answers(page, "show", lambda stream: stream.update(tracks=[PICTURE, HITS]))
        missing = {**UNCARRIED, "code": "no_segment"}
        page.route("**/hls/show/playlist.m3u8", lambda route: route.fulfill(status=404, json=missing))
        page.goto(f"{self.origin}/player/show")
        self.wait_for_state(page, "waiting")
        page.unroute("**/hls/show/playlist.m3u8")
        self.wait_for_state(page, "playing")

    def test_notices_are_shown_as_they_are(self) -> None:
        page = self.open("/player/noted")
        self.wait_for_state(page, "playing")
        self.assertEqual(page.locator("#notices li").all_inner_texts(), [LONG_GROUPS, CONSTANT_RATE])
        self.picture(page, "notices-desktop")

    def test_without_a_notice_there_is_no_room_for_one(self) -> None:
        page = self.open("/player/show")
        self.wait_for_state(page, "playing")
        self.assertFalse(page.locator("#notices").is_visible())

    def test_notices_come_and_go_with_what_the_server_says(self) -> None:
        page = self.context.new_page()
        notices: list[str] = []
        self.change_answers(page, "show", lambda stream: stream.update(notices=list(notices)))
        page.goto(f"{self.origin}/player/show")
        self.wait_for_state(page, "playing")
        notices.append("the sky is falling")
        page.locator("#notices").get_by_text("the sky is falling").wait_for(timeout=15_000)
        notices.clear()
        page.locator("#notices").wait_for(state="hidden", timeout=15_000)

    def test_a_token_opens_a_private_stream(self) -> None:
        page = self.open("/player/secret")
        self.wait_for_state(page, "private")
        self.picture(page, "private-desktop")
        page = self.open("/player/secret?token=open-sesame")
        self.wait_for_state(page, "playing")

    def test_streams_that_are_not_there_are_told_apart(self) -> None:
        self.wait_for_state(self.open("/player/quiet"), "offline")
        self.wait_for_state(self.open("/player/%3Cimg%20src=x%20onerror=alert(1)%3E"), "missing")

    def test_another_site_can_embed_the_player_and_no_other_page(self) -> None:
        page = self.open("/framing")
        frame = page.frame(url="**/embed/show")
        assert frame is not None
        frame.wait_for_function("() => window.oxidecastPlayer?.state === 'playing'", timeout=10_000)
        self.picture(page, "embed-desktop")

    def test_the_live_list_shows_what_is_live_without_loading_the_player(self) -> None:
        page = self.open("/player")
        page.locator(".card").first.wait_for()
        names = page.evaluate("[...document.querySelectorAll('.card')].map(card => card.dataset.stream)")
        self.assertIn("show", names)
        self.assertNotIn("quiet", names)
        self.assertNotIn("secret", names)
        self.assertFalse([url for url in self.addresses if "hls" in url])
        self.picture(page, "list-desktop")
        page.click(".card[data-stream=show] a")
        page.wait_for_url("**/player/show")
        self.wait_for_state(page, "playing")

    def test_the_list_shows_the_picture_of_a_stream_and_nothing_moves_for_it(self) -> None:
        page = self.context.new_page()
        waiting: list[Route] = []
        page.route("**/thumbnails/**", lambda route: waiting.append(route))
        page.goto(self.origin + "/")
        card = page.locator(".card[data-stream=show]")
        card.wait_for()
        self.wait("the request", lambda: bool(waiting))
        before = card.bounding_box()
        for route in waiting:
            route.continue_()
        page.locator(".card[data-stream=show] img.there").wait_for()
        self.assertEqual(card.bounding_box(), before)
        image = card.locator("img")
        self.assertEqual(image.evaluate("one => one.naturalWidth"), 640)
        self.assertIn("The evening show", image.get_attribute("alt") or "")
        page.wait_for_timeout(400)
        self.picture(page, "start-thumbnails-desktop")
        self.assertEqual(page.locator(".card[data-stream=radio] img.there").count(), 0)

    def test_the_start_page_says_how_to_publish(self) -> None:
        page = self.open("/")
        page.locator(".card").first.wait_for()
        self.assertEqual(page.input_value("#server"), "rtmp://127.0.0.1:1935/live")
        page.click("[data-copy=server]")
        page.get_by_text("Copied").wait_for()
        self.picture(page, "start-desktop")

    def test_no_page_is_wider_than_a_phone(self) -> None:
        phone = self.new_context(
            viewport={"width": 390, "height": 844}, device_scale_factor=2, is_mobile=True, has_touch=True
        )
        for path in ("/", "/player/show", "/player/hevc", "/player/radio", "/player/noted", "/player/mp3"):
            page = self.open(path, phone)
            page.wait_for_function(
                "() => document.querySelector('.card, #player:not([data-state=loading])') !== null",
                timeout=10_000,
            )
            self.picture(page, f"phone{path.replace('/', '-')}")
            width = page.evaluate("document.documentElement.scrollWidth")
            self.assertEqual((path, width), (path, 390))
            page.close()
