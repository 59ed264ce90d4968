"""Encoders die, come back, change, and fight; the stream goes on for those who watch."""

import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.e2e.encoder import Encoder, material, shifted
from tests.e2e.hls import Seen, Watcher, packets
from tests.e2e.programs import FFMPEG_5, Program, ServerCase, publish, until
from tests.e2e.vlc import watching

GRACE = 6.0
GOP = 1.0
"""Seconds between keyframes of the encoder of our own."""
SLACK = 0.75
"""Seconds by which a busy test machine may stretch what is timed."""


def gaps(segments: list[Seen]) -> list[float]:
    """Seconds of wall clock between each segment and the one before it that no segment covers."""
    found = []
    for one, next in pairwise(segments):
        assert one.utc is not None and next.utc is not None
        found.append((next.utc - one.utc).total_seconds() - one.duration)
    return found


@contextmanager
def reading(url: str, log: Path) -> Iterator[Program]:
    """An ffmpeg that decodes what it can read, and counts frames in its log."""
    command = ["setpriv", "--pdeathsig=KILL", FFMPEG_5, "-nostdin", "-hide_banner", "-loglevel", "warning"]
    with Program([*command, "-i", url, "-progress", "pipe:1", "-f", "null", "-"], log) as reader:
        yield reader


def frames(reader: Program) -> int:
    """Pictures that were decoded by now."""
    return max(map(int, re.findall(r"^frame=\s*(\d+)", reader.output, re.MULTILINE)), default=0)


class LifeCase(ServerCase):
    settings = {"OXIDECAST_STREAMS_PUBLISHER_GRACE": str(GRACE), "OXIDECAST_HLS_SEGMENT_DURATION": "1"}

    @contextmanager
    def watched(self, name: str) -> Iterator[Watcher]:
        self.server.wait_live(name)
        with Watcher(self.server.media_playlist(name)[0]) as watcher:
            yield watcher

    def more(self, watcher: Watcher, count: int = 2) -> None:
        """Wait for new segments."""
        known = len(watcher.segments)
        until(lambda: len(watcher.segments) >= known + count, 15, f"{count} more segments: {watcher.faults}")


class ReturnTests(LifeCase):
    """The encoder is killed."""

    def test_back_within_the_grace_time_the_same_playlist_goes_on(self) -> None:
        name, key = self.server.new_stream("Killed")
        url = self.server.ingest(key)
        with (
            publish(url, self.log("first"), gop=30) as first,
            self.watched(name) as watcher,
            reading(self.server.hls(name), self.log("ffmpeg")) as reader,
        ):
            self.more(watcher, 1)
            first.stop(signal.SIGKILL)
            until(lambda: self.server.stream(name)["state"] == "waiting", 5, "the stream waits")
            time.sleep(3)
            with publish(url, self.log("second"), gop=30):
                until(lambda: watcher.discontinuities, 10, "the playlist goes on")
                self.more(watcher)
                self.assertEqual(self.server.stream(name)["state"], "live")
                so_far = frames(reader)
                until(lambda: frames(reader) > so_far + 30, 15, f"ffmpeg reads on: {reader.output}")
        self.assertEqual(watcher.faults, [])
        self.assertEqual((watcher.discontinuities, len(watcher.targets)), (1, 1))
        self.assertEqual(len(watcher.inits), 1, "nothing changed, so the initialisation section did not")
        at = next(number for number, seen in enumerate(watcher.segments) if seen.discontinuity)
        gap = gaps(watcher.segments)[at - 1]
        self.assertTrue(2.5 < gap < 8, f"the clock tells of the gap: {gap}")
        with TemporaryDirectory() as folder:
            for path in watcher.write(Path(folder)):
                self.assertTrue(packets(path, "v:0")[0]["flags"].startswith("K"))

    def test_back_with_another_size_the_playlist_names_another_map(self) -> None:
        name, key = self.server.new_stream("Resized")
        url = self.server.ingest(key)
        with publish(url, self.log("first"), gop=30) as first, self.watched(name) as watcher:
            first.stop(signal.SIGKILL)
            with publish(url, self.log("second"), gop=30, size="426x240"):
                until(lambda: watcher.discontinuities, 10, "the playlist goes on")
                self.more(watcher)
                main = self.server.get(self.server.hls(name))[1].decode()
                with watching(self.server.hls(name), self.log("vlc")) as player:
                    player.wait_frames(20, 20)
        self.assertEqual(watcher.faults, [])
        self.assertEqual((watcher.discontinuities, len(watcher.inits)), (1, 2))
        at = next(number for number, seen in enumerate(watcher.segments) if seen.discontinuity)
        self.assertNotEqual(watcher.segments[at].init, watcher.segments[at - 1].init)
        self.assertEqual(len({seen.init for seen in watcher.segments[at:]}), 1)
        self.assertIn("RESOLUTION=426x240", main)

    def test_when_the_grace_time_is_over_the_playlist_ends(self) -> None:
        name, key = self.server.new_stream("Gone")
        with (
            publish(self.server.ingest(key), self.log("encoder"), gop=30) as encoder,
            self.watched(name) as watcher,
        ):
            self.more(watcher, 1)
            encoder.stop(signal.SIGKILL)
            left = time.monotonic()
            until(lambda: watcher.ended, GRACE + 5, "the playlist ends")
            self.assertGreater(time.monotonic() - left, GRACE - 1)
        self.assertEqual(watcher.faults, [])
        self.assertEqual(self.server.stream(name)["state"], "idle")
        self.assertFalse(self.server.stream(name)["is_live"])
        # The same key begins a new stream, with a playlist of its own whose numbers go on rising.
        with publish(self.server.ingest(key), self.log("again"), gop=30), self.watched(name) as again:
            self.more(again, 1)
        self.assertEqual(again.faults, [])
        self.assertGreater(again.segments[0].sequence, watcher.segments[-1].sequence)
        self.assertFalse({seen.uri for seen in again.segments} & {seen.uri for seen in watcher.segments})


class TransportStreamReturnTests(LifeCase):
    """The same in MPEG-TS, where VLC 3 plays on too (in fMP4 it misses the initialisation section there)."""

    settings = {**LifeCase.settings, "OXIDECAST_HLS_SEGMENT_TYPE": "mpegts"}

    def test_vlc_plays_on_after_the_encoder_was_killed_and_came_back_with_another_size(self) -> None:
        name, key = self.server.new_stream("Killed")
        url = self.server.ingest(key)
        with (
            publish(url, self.log("first"), gop=30) as first,
            self.watched(name) as watcher,
            watching(self.server.hls(name), self.log("vlc")) as player,
        ):
            player.wait_frames(10, 20)
            first.stop(signal.SIGKILL)
            with publish(url, self.log("second"), gop=30, size="426x240"):
                until(lambda: watcher.discontinuities, 10, "the playlist goes on")
                self.more(watcher, 4)
                player.wait_frames(30, 20)
        self.assertEqual(watcher.faults, [])
        self.assertEqual(watcher.discontinuities, 1)


class TakeoverTests(LifeCase):
    """A second encoder comes with the same key."""

    def play_until_stopped(self, encoder: Encoder, stop: threading.Event) -> None:
        """Publish the same ten seconds again and again, on one clock."""
        sent = material()
        lasts = 10_000
        for round in range(60):
            for tag in shifted(sent, round * lasts):
                while not stop.is_set():
                    due = self.began[encoder] + tag.timestamp / 1000
                    wait = due - time.monotonic()
                    if wait <= 0:
                        break
                    stop.wait(min(wait, 0.05))
                if stop.is_set():
                    return
                try:
                    encoder.send([tag])
                except (OSError, EOFError):
                    return

    @contextmanager
    def publishing(self, key: str) -> Iterator[Encoder]:
        """An encoder of our own in a thread."""
        stop = threading.Event()
        with Encoder(self.server.rtmp, key).start() as encoder:
            self.began[encoder] = time.monotonic()
            thread = threading.Thread(target=self.play_until_stopped, args=(encoder, stop), daemon=True)
            thread.start()
            try:
                yield encoder
            finally:
                stop.set()
                thread.join(10)

    def setUp(self) -> None:
        super().setUp()
        self.began: dict[Encoder, float] = {}
        material()

    def test_an_old_one_that_goes_on_sending_reads_why_all_the_same(self) -> None:
        """It looks at what it was told only after a second of sending: a connection that is reset would not let it."""
        name, key = self.server.new_stream("Unread")
        with Encoder(self.server.rtmp, key).start() as old:
            old.play(material(2), speed=4)
            self.server.wait_live(name)
            old.look()
            with self.publishing(key):
                until(
                    lambda: f"{name}: taken over" in self.server.output, 10, "the newcomer feeds the stream"
                )
                for _ in range(20):
                    time.sleep(0.05)
                    old.socket.sendall(bytes(65536))
                old.wait_status("NetStream.Publish.BadName")
                self.assertTrue(old.hung_up())

    def test_the_newcomer_takes_over_and_the_old_one_is_told(self) -> None:
        name, key = self.server.new_stream("Taken")
        with self.publishing(key) as old, self.watched(name) as watcher:
            self.more(watcher)
            with self.publishing(key) as new:
                until(lambda: watcher.discontinuities, 10, "the newcomer feeds the stream")
                self.more(watcher)
                until(
                    lambda: "NetStream.Publish.BadName" in old.statuses,
                    5,
                    f"the old one is told: {old.events}",
                )
                self.assertNotIn("NetStream.Publish.BadName", new.statuses)
                self.assertEqual(self.server.stream(name)["state"], "live")
        self.assertEqual(watcher.faults, [])
        self.assertEqual(watcher.discontinuities, 1)
        longest = max(gaps(watcher.segments))
        self.assertLess(longest, GOP + SLACK, "no more than a group of pictures is missing")

    def test_a_newcomer_without_a_keyframe_takes_nothing(self) -> None:
        name, key = self.server.new_stream("Kept")
        with (
            self.publishing(key) as old,
            self.watched(name) as watcher,
            Encoder(self.server.rtmp, key).start() as new,
        ):
            useless = [tag for tag in material() if tag.header or not tag.keyframe]
            new.play(useless[:150])
            self.more(watcher)
            self.assertEqual(old.statuses, [])
        self.assertEqual(watcher.faults, [])
        self.assertEqual(watcher.discontinuities, 0)

    def test_two_that_fight_are_calmed(self) -> None:
        name, key = self.server.new_stream("Fought over")
        over = threading.Event()
        refusals: list[str] = []

        def fight() -> None:
            """Publish; when thrown out, come back at once."""
            while not over.is_set():
                try:
                    with Encoder(self.server.rtmp, key).start() as encoder:
                        self.began[encoder] = time.monotonic()
                        self.play_until_stopped(encoder, over)
                except (OSError, EOFError):
                    pass
                except AssertionError as refused:
                    refusals.append(str(refused))
                    over.wait(0.5)

        fighters = [threading.Thread(target=fight, daemon=True) for _ in range(2)]
        for fighter in fighters:
            fighter.start()
        try:
            with self.watched(name) as watcher:
                until(lambda: len(refusals) >= 3, 30, f"a newcomer is refused: {watcher.discontinuities}")
                self.more(watcher)
                calm = watcher.discontinuities
                self.more(watcher, 4)
        finally:
            over.set()
            for fighter in fighters:
                fighter.join(10)
        self.assertEqual(watcher.faults, [])
        self.assertIn("stop one of them", refusals[0])
        self.assertEqual(self.server.output.count(f"{name}: taken over"), 3)
        self.assertEqual(watcher.discontinuities, calm, "the picture stays")
