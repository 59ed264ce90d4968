"""What a viewer keeps when something breaks: the page goes on by itself, in the same document, or says what is
wrong."""

from collections.abc import Callable
from pathlib import Path
from signal import SIGKILL

from oxidecast.outputs.hls.sessions import LEFT_AFTER
from tests.e2e.browser import BrowserTestCase, Glance, Watcher
from tests.e2e.programs import Program, Server, publish, server, until

GRACE = 4.0
"""Seconds for which these servers wait for a publisher: the default of 15 would only make the tests longer."""

AWAY = 5.0
"""Seconds for which a killed encoder is away."""


class RecoveryTests(BrowserTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.encoders = 0

    def serve(self, grace: float = 15) -> Server:
        return self.enterContext(server(settings={"OXIDECAST_STREAMS_PUBLISHER_GRACE": str(grace)}))

    def encode(self, running: Server, key: str, size: str = "640x360") -> Program:
        """An encoder that is ended with the test, if not before."""
        self.encoders += 1
        log = Path(running.folder, f"encoder-{self.encoders}.log")
        return self.enterContext(publish(running.ingest(key), log, size=size))

    def watch_live(self, running: Server, name: str) -> Watcher:
        running.wait_live(name)
        watcher = self.watch(f"{running.url}/player/{name}")
        watcher.wait_for_motion()
        return watcher

    def assert_plays_on(
        self, watcher: Watcher, wanted: Callable[[Glance], bool], seconds: float = 25
    ) -> None:
        """What is wanted comes, the picture moves then, and the page was not loaded anew."""
        watcher.wait("what should follow", wanted, seconds)
        watcher.wait_for_motion()
        self.assertTrue(watcher.same_document())
        latency = watcher.glance().latency
        assert latency is not None
        self.assertTrue(1 < latency < 12, latency)
        self.assertEqual(watcher.words, "")

    def width(self, pixels: int) -> Callable[[Glance], bool]:
        return lambda now: now.width == pixels and now.state == "playing"

    def test_a_killed_encoder_comes_back_and_then_with_another_size(self) -> None:
        running = self.serve()
        name, key = running.new_stream("Falls over")
        encoder = self.encode(running, key)
        watcher = self.watch_live(running, name)

        encoder.stop(SIGKILL)
        until(lambda: running.stream(name)["state"] == "waiting", 5, "the stream waits for its publisher")
        watcher.page.wait_for_timeout(AWAY * 1000)
        gone = watcher.glance()
        encoder = self.encode(running, key)
        # More than was ever in the buffer.
        self.assert_plays_on(watcher, lambda now: now.time > gone.time + 12)

        encoder.stop(SIGKILL)
        until(lambda: running.stream(name)["state"] == "waiting", 5, "the stream waits for its publisher")
        watcher.page.wait_for_timeout(AWAY * 1000)
        self.encode(running, key, "426x240")
        self.assert_plays_on(watcher, self.width(426))
        self.assertEqual(self.errors, [])

    def test_a_second_encoder_with_the_same_key_takes_over(self) -> None:
        running = self.serve()
        name, key = running.new_stream("Handed over")
        first = self.encode(running, key)
        watcher = self.watch_live(running, name)
        self.encode(running, key, "426x240")
        self.assert_plays_on(watcher, self.width(426))
        until(lambda: first.process.poll() is not None, 5, "the first encoder was told to go")
        self.assertEqual(self.errors, [])

    def test_the_end_is_said_and_a_new_beginning_plays_by_itself(self) -> None:
        self.requests_may_fail = True
        running = self.serve(GRACE)
        name, key = running.new_stream("In two parts")
        encoder = self.encode(running, key)
        watcher = self.watch_live(running, name)
        encoder.stop(SIGKILL)
        watcher.wait_for_state("ended", GRACE + 15)
        self.assertIn("The stream has ended", watcher.words)
        self.picture(watcher.page, "ended-desktop")
        self.encode(running, key, "426x240")
        self.assert_plays_on(watcher, self.width(426))

    def test_a_restart_of_the_server_is_survived(self) -> None:
        self.requests_may_fail = True
        running = self.serve()
        name, key = running.new_stream("Through a restart")
        self.encode(running, key)
        watcher = self.watch_live(running, name)
        running.restart()
        self.encode(running, key, "426x240")
        self.assert_plays_on(watcher, self.width(426), 40)
        # A player that had to start over has two sessions, until the first is found to be silent.
        until(lambda: running.stream(name)["viewer_count"] == 1, LEFT_AFTER + 15, "one viewer is counted")

    def test_a_crash_that_a_viewer_sleeps_through_is_survived(self) -> None:
        # The player reads on in the playlist that it knows: its numbers must go on rising there.
        running = self.serve()
        name, key = running.new_stream("Through a crash")
        self.encode(running, key)
        watcher = self.watch_live(running, name)
        watcher.page.context.route("**/hls/**", lambda route: route.abort())
        running.restart(SIGKILL)
        self.encode(running, key, "426x240")
        running.wait_live(name)
        watcher.page.context.unroute("**/hls/**")
        self.requests_may_fail = True
        # Mostly at once. Its retries back off while the server is away, so it may have to wait for the next one, and
        # a stall ends when the player gives it up after 15 s and starts over.
        self.assert_plays_on(watcher, self.width(426), 30)
