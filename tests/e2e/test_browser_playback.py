"""What a viewer gets: the real pages of the real server in a real Chromium, fed by real encoders."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
from playwright.sync_api import expect

from oxidecast.accounts.signing import Keyring, secret_key
from oxidecast.accounts.tokens import Tokens
from tests.e2e.browser import PHONE, BrowserTestCase, Watcher, seconds_to_playing
from tests.e2e.programs import FFMPEG_9, Server, publish, server, until

SECRET = "only for this test: " + "x" * 32
CHEAP_PICTURE = {"width": 640, "height": 480}
"""Without a graphics card Chromium pays per pixel on screen: a window about as large as the picture is enough to see
whether every frame comes in time."""

WINDOWS = 3
"""One of so many windows of 10 s must go as it should. Frames that the server is to blame for are missing all the time;
those that a busy test machine loses are not."""

HEVC = (
    "libx265",
    "-preset",
    "ultrafast",
    "-x265-params",
    "log-level=error:keyint=60:min-keyint=60",
)
MP3 = ("libmp3lame", "-b:a", "96k")
ENHANCED = ("-rtmp_enhanced_codecs", "hvc1,av01,vp09")


class WallClock:
    """What `Tokens` reads."""

    def seconds(self) -> float:
        return time.time()


@pytest.mark.alone
class PlaybackTests(BrowserTestCase):
    server: ClassVar[Server]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.server = cls.enterClassContext(server(settings={"OXIDECAST_AUTH_JWT_SECRET": SECRET}))

    def tearDown(self) -> None:
        super().tearDown()
        self.assert_only_asked(self.server.url)

    @contextmanager
    def live(self, title: str, encoder: dict[str, Any], **stream: Any) -> Iterator[str]:
        """A live stream's name."""
        name, key = self.server.new_stream(title, **stream)
        log = Path(self.server.folder, f"{name}.log")
        with publish(self.server.ingest(key), log, **encoder):
            self.server.wait_live(name, 20)
            yield name

    def assert_plays_well(self, watcher: Watcher) -> None:
        """10 s in which time goes as it should, and at most 1 % of the frames are dropped."""
        faults = []
        for _ in range(WINDOWS):
            before, after = watcher.watch(10)
            frames, dropped = after.frames - before.frames, after.dropped - before.dropped
            drift = (after.time - before.time) - (after.wall - before.wall)
            if dropped <= frames / 100 and frames >= 290 and abs(drift) < 0.25:
                return
            faults.append(f"{dropped} of {frames} frames dropped, {drift:+.2f} s of drift")
        self.fail("; ".join(faults))

    def play(self, title: str, encoder: dict[str, Any]) -> None:
        with self.live(title, encoder) as name:
            context = self.new_context(viewport=CHEAP_PICTURE)
            watcher = self.watch(f"{self.server.url}/player/{name}", context)
            start = watcher.wait_for_motion()
            self.assertEqual((start.width, start.height), (640, 360))
            self.assertLess(seconds_to_playing(watcher.page), 5)
            self.assert_plays_well(watcher)
            now = watcher.glance()
            self.assertGreater(now.sound, start.sound)
            assert now.latency is not None
            self.assertTrue(1 < now.latency < 9, now.latency)
            watcher.page.hover("#player")
            watcher.page.locator("#c-latency").wait_for()
            shown = watcher.text("#c-latency")
            self.assertAlmostEqual(float(shown.removesuffix(" s")), now.latency, delta=1)
            self.assertEqual(watcher.words, "")

    def test_h264_and_aac(self) -> None:
        self.play("Plain", {})

    def test_av1_and_aac(self) -> None:
        self.play("Modern", {"ffmpeg": FFMPEG_9, "video": ("libsvtav1", "-preset", "12"), "more": ENHANCED})

    def test_hevc_is_refused_with_the_reason_and_the_way_out(self) -> None:
        encoder = {"ffmpeg": FFMPEG_9, "video": HEVC, "more": ENHANCED, "size": "320x180"}
        with self.live("For a Television", encoder) as name:
            watcher = self.watch(f"{self.server.url}/player/{name}")
            watcher.wait_for_state("unsupported")
            for word in ("H.265 (HEVC)", "hvc1.", "Safari", "VLC"):
                self.assertIn(word, watcher.words)
            self.assertEqual(watcher.page.input_value("#hls-address"), self.server.hls(name))
            self.picture(watcher.page, "hevc-desktop")
            phone = self.watch(
                f"{self.server.url}/player/{name}", self.new_context(viewport=PHONE, is_mobile=True)
            )
            phone.wait_for_state("unsupported")
            self.picture(phone.page, "hevc-phone")

    def test_sound_alone(self) -> None:
        with self.live("Night Radio", {"video": None}) as name:
            watcher = self.watch(f"{self.server.url}/player/{name}")
            watcher.wait_for_motion()
            before, after = watcher.watch(4)
            self.assertAlmostEqual(after.time - before.time, after.wall - before.wall, delta=0.3)
            self.assertGreater(after.sound, before.sound)
            self.assertEqual((after.width, watcher.text("#still-title")), (0, "Night Radio"))
            self.picture(watcher.page, "sound-desktop")

    def test_pictures_alone(self) -> None:
        with self.live("Silent Film", {"audio": None}) as name:
            watcher = self.watch(f"{self.server.url}/player/{name}")
            watcher.wait_for_motion()
            before, after = watcher.watch(4)
            self.assertAlmostEqual(after.time - before.time, after.wall - before.wall, delta=0.3)
            self.assertEqual((after.width, after.height, after.sound), (640, 360, 0))

    def test_sound_that_is_left_out_is_named_while_the_pictures_play(self) -> None:
        with self.live("Old Hits in Colour", {"audio": MP3}) as name:
            watcher = self.watch(f"{self.server.url}/player/{name}")
            self.assertEqual(watcher.wait_for_motion().width, 640)
            self.assertEqual(watcher.text("#notices"), "HLS (fmp4) cannot carry mp3; it is left out")
            self.assertEqual(watcher.words, "")
            self.picture(watcher.page, "left-out-desktop")

    def test_sound_that_is_left_out_alone_is_refused_with_the_reason(self) -> None:
        self.requests_may_fail = True
        name, key = self.server.new_stream("Old Hits")
        with publish(self.server.ingest(key), Path(self.server.folder, "hits.log"), video=None, audio=MP3):
            until(lambda: self.server.stream(name)["is_live"], 15, "the stream is live")
            for label, context in (
                ("desktop", self.new_context()),
                ("phone", self.new_context(viewport=PHONE, is_mobile=True)),
            ):
                watcher = self.watch(f"{self.server.url}/player/{name}", context)
                watcher.wait_for_state("uncarried")
                self.assertIn("The server cannot send MP3 by HLS", watcher.words)
                self.assertIn("HLS (fmp4) cannot carry mp3; it is left out", watcher.words)
                self.assertFalse(watcher.page.locator("#hls-address").is_visible())
                self.picture(watcher.page, f"uncarried-{label}")

    def test_every_page_leads_to_the_picture(self) -> None:
        with self.live("Morning Show", {}) as name, self.live("Night Radio Two", {"video": None}):
            for path in ("/", "/player"):
                for label, context in (
                    ("desktop", self.new_context()),
                    ("phone", self.new_context(viewport=PHONE, is_mobile=True)),
                ):
                    page = self.open(self.server.url + path, context)
                    page.locator(f".card[data-stream={name}]").wait_for()
                    if path == "/":
                        ingest = self.server.ingest("KEY")
                        expect(page.locator("#server")).to_have_value(ingest.removesuffix("/KEY"))
                        self.assertIn(ingest, page.input_value("#ffmpeg"))
                    self.picture(page, f"{'list' if path == '/player' else 'start'}-{label}")
                page.click(f".card[data-stream={name}] a")
                page.wait_for_url(f"**/player/{name}")
                watcher = Watcher(page)
                watcher.wait_for_motion()
                self.picture(page, f"watch-{label}")
                page.context.close()
            embed = self.watch(f"{self.server.url}/embed/{name}")
            embed.wait_for_motion()
            embed.page.hover("#player")
            self.picture(embed.page, "embed-desktop")
            desktop = self.watch(f"{self.server.url}/player/{name}")
            desktop.wait_for_motion()
            desktop.page.get_by_text("viewers · ").wait_for()
            desktop.page.hover("#player")
            self.picture(desktop.page, "watch-desktop")

    def test_a_private_stream_plays_by_a_link_from_its_owner(self) -> None:
        self.requests_may_fail = True
        with self.live("Family Only", {}, is_private=True) as name:
            page = f"{self.server.url}/player/{name}"
            stranger = self.watch(page)
            stranger.wait_for_state("private")
            self.assertIn("This stream is private", stranger.words)
            self.picture(stranger.page, "private-desktop")
            status, answer = self.server.call("GET", f"/streams/{name}/url", token=self.server.admin)
            self.assertEqual(status, 200)
            token = answer["data"]["url"].partition("token=")[2]
            guest = self.watch(f"{page}?token={token}")
            self.assertEqual(guest.wait_for_motion().width, 640)

    def test_playback_outlives_its_token(self) -> None:
        # Once the token has expired the page's questions to the API are refused; the picture's session goes on.
        self.requests_may_fail = True
        lifetime = 10
        with self.live("Family Again", {}, is_private=True) as name:
            tokens = Tokens(Keyring(secret_key(SECRET.encode())), WallClock(), 60)  # type: ignore[arg-type]
            token = tokens.playback(self.server.stream(name)["id"], lifetime=lifetime)
            expires = time.monotonic() + lifetime
            guest = self.watch(f"{self.server.url}/player/{name}?token={token}")
            before = guest.wait_for_motion()
            # Longer than everything that was in the buffer when the token ran out.
            after = guest.wait(
                "12 s of play after the token", lambda now: time.monotonic() > expires + 12, 30
            )
            self.assertEqual((after.state, guest.words), ("playing", ""))
            self.assertAlmostEqual(after.time - before.time, after.wall - before.wall, delta=1)
            self.assertEqual(self.server.get(f"/api/v1/hls/{name}/playlist.m3u8?token={token}")[0], 401)
