"""What goes wrong beneath the ladder: its child dies or hangs, the picture is damaged or another one, the server stops.

The one idea: whoever watches `source` sees what the encoder sent and nothing else, and the qualities are there again
within `BACK`, by the clock that their own segments are dated with.
"""

import io
import os
import random
import signal
import threading
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import psutil
import pytest
from twisted.trial.unittest import TestCase

from tests.e2e.browser import BrowserTestCase
from tests.e2e.encoder import VIDEO, Encoder, Tag, material, shifted
from tests.e2e.hls import Watcher
from tests.e2e.programs import durations, publish, server, until
from tests.e2e.test_ladder import LADDER, PATIENCE, LadderCase, shown, workers
from tests.e2e.test_recording import complaints, look

BACK = 5.0
"""Seconds that the ladder may be away for."""

GROWTH = 48 << 20
"""Bytes that the server and its child may hold more after a bad time: caches and heaps that are not given back."""


def one_after_another(*parts: Iterable[Tag]) -> list[Tag]:
    """Tags as one stream, whose pictures go on without a pause."""
    made: list[Tag] = []
    end = 0
    for part in parts:
        found = list(part)
        pictures = [tag.timestamp for tag in found if tag.kind == VIDEO and not tag.header]
        made += shifted(found, end - pictures[0] if made else 0)
        end = max(tag.timestamp for tag in made if tag.kind == VIDEO) + 33
    return made


def damaged(sent: Iterable[Tag], wild: random.Random, every: int = 3) -> list[Tag]:
    """One to eight bits flipped in every so manieth tag: in NAL units (their lengths stay, for a frame that does not
    add up ends the connection) and in sound."""
    made = []
    for tag in sent:
        body = bytearray(tag.body)
        places = list(range(2, len(body)))
        if tag.kind == VIDEO:
            places, at = [], 5
            while at + 4 < len(body):
                size = int.from_bytes(body[at : at + 4], "big")
                places += range(at + 4, at + 4 + size)
                at += 4 + size
        if places and not tag.header and wild.randrange(every) == 0:
            for _ in range(wild.randint(1, 8)):
                body[wild.choice(places)] ^= 1 << wild.randrange(8)
        made.append(tag._replace(body=bytes(body)))
    return made


def apart(watcher: Watcher, kind: str) -> tuple[float, float]:
    """Seconds between packets of pictures or sound (`video`, `audio`), by their `pts`: the least and the most."""
    found: list[float] = []
    for segment in watcher.segments:
        with av.open(io.BytesIO(watcher.inits[segment.init] + segment.body)) as container:
            (track,) = [one for one in container.streams if one.type == kind]
            found += [float(one.pts * one.time_base) for one in container.demux(track) if one.pts is not None]
    steps = [after - before for before, after in pairwise(sorted(found))]
    return min(steps), max(steps)


class Publisher(threading.Thread):
    """Sends tags in time, in a thread of its own."""

    def __init__(self, encoder: Encoder, sent: Sequence[Tag]) -> None:
        super().__init__(daemon=True)
        self.encoder = encoder
        self.error: BaseException | None = None
        self._sent = sent
        self.start()

    def run(self) -> None:
        try:
            self.encoder.play(self._sent)
        except (OSError, EOFError) as error:
            self.error = error


class RecoveryCase(LadderCase):
    def assert_whole(self, watcher: Watcher, discontinuities: int = 0) -> None:
        """Nothing is missing, and nothing was done that a playlist must not do."""
        watcher.stop()
        self.assertEqual(watcher.faults, [])
        self.assertEqual([segment.sequence for segment in watcher.segments if segment.gap], [])
        self.assertEqual(watcher.discontinuities, discontinuities)
        for before, after in pairwise(watcher.segments):
            assert before.utc and after.utc
            apart = (after.utc - before.utc).total_seconds()
            if not after.discontinuity:
                self.assert_near(apart, before.duration, 0.05, (watcher.address, before.sequence))

    def assert_same_numbers(self, source: Watcher, rendition: Watcher) -> None:
        """Discontinuities are the source's, so that players know what belongs together."""
        began = [(segment.utc, segment.number) for segment in source.segments if segment.utc]
        compared = 0
        for one in rendition.segments:
            numbers = [number for utc, number in began if one.utc and utc <= one.utc]
            if numbers and one.utc and one.utc < began[-1][0]:
                compared += 1
                self.assertEqual(one.number, numbers[-1], one.utc)
        self.assertGreater(compared, 3)

    def restarts(self, name: str) -> int:
        restarts: int = self.stats(name)["transcoding"]["restarts"]
        return restarts

    def wait_more(self, watchers: Iterable[Watcher], count: int) -> None:
        """So many segments more in each."""
        wanted = [(watcher, len(watcher.segments) + count) for watcher in watchers]
        until(lambda: all(len(one.segments) >= many for one, many in wanted), PATIENCE, "more segments")

    def resident(self) -> int:
        processes = [psutil.Process(self.server.process.pid), *self.children()]
        return sum(int(one.memory_info().rss) for one in processes)


class DeathTests(RecoveryCase):
    def test_a_killed_child(self) -> None:
        self._survives(signal.SIGKILL)

    def test_a_child_that_hangs(self) -> None:
        self._survives(signal.SIGSTOP)

    def _survives(self, how: signal.Signals) -> None:
        name, encoder = self.begin(f"Survives {how.name}", gop=60)
        self.wait_runs(name, LADDER)
        source, *ladder = (self.watch(name, one) for one in LADDER)
        until(lambda: min(len(one.segments) for one in ladder) >= 2, PATIENCE, "segments")
        (child,) = self.children()
        os.kill(child.pid, how)
        until(lambda: self.restarts(name), PATIENCE, "another child")
        self.assertFalse(child.is_running())
        self.wait_more(ladder, 3)
        for watcher in (source, *ladder):
            self.assert_whole(watcher)
        for watcher in ladder:
            self.assert_same_times(source, watcher)
            self.assertLess(max(segment.late for segment in watcher.segments[2:]), BACK)
            for kind, lasts in (("video", 1 / 30), ("audio", 1024 / 48_000)):
                least, most = apart(watcher, kind)
                # On a machine that does much else pictures are dropped in catching up.
                self.assertGreater(least, lasts / 2)
                self.assertLess(most, 0.5)
        self.assertEqual(self.restarts(name), 1)
        self.end(name, encoder)


class DamageTests(RecoveryCase):
    seconds = 6
    """Of damage; `make soak` has a minute."""

    def test_flipped_bits(self) -> None:
        whole = material(6, "320x180", 60)
        wild = random.Random(5)
        bad = one_after_another(*(damaged(whole, wild) for _ in range(self.seconds // 6)))
        until_then = whole[-1].timestamp / 1000 + bad[-1].timestamp / 1000
        name, key = self.server.new_stream("Damaged", transcoding_profiles=LADDER[2:])
        with Encoder(self.server.rtmp, key).start() as encoder:
            sending = Publisher(encoder, one_after_another(whole, bad, whole))
            self.server.wait_live(name)
            self.wait_runs(name, ["source", "90p"])
            source, small = (self.watch(name, one) for one in ("source", "90p"))
            (first,) = self.children()
            until(lambda: small.segments, PATIENCE, "segments")
            before = self.resident()
            sending.join(until_then + 10 + PATIENCE)
            self.assertIsNone(sending.error)
            after = self.resident()
            restarts = self.restarts(name)
        self.server.call("POST", f"/streams/{name}/stop", token=self.server.admin)
        until(lambda: source.ended and small.ended, PATIENCE, "the end")
        self.assert_whole(source)
        self.assertLessEqual(restarts, 1 + self.seconds // 10)
        self.assertLess(after - before, GROWTH)
        until(lambda: not self.children(), PATIENCE, "no child is left")
        self.assertFalse(first.is_running())
        # The last six seconds are good again, and begin with a keyframe.
        small.stop()
        self.assertEqual(small.faults, [])
        began = source.segments[0].utc
        good = [one for one in small.segments if (one.utc - began).total_seconds() > until_then - 0.1]
        self.assertGreaterEqual(len(good), 2)
        self.assertEqual([one for one in good if one.gap or one.discontinuity], [])
        self.assertLess(max(one.late for one in good), BACK)
        print(f"damage: {restarts} deaths, {(after - before) >> 10} KiB more memory")


class ChangeTests(RecoveryCase):
    def test_other_sizes_another_codec_and_another_encoder(self) -> None:
        """Without reconnecting: the same shape, another shape, HEVC. Then somebody takes over."""
        name, key = self.server.new_stream("Changes", transcoding_profiles=LADDER[1:])
        sizes = ["640x360", "480x270", "480x360"]
        parts = [*(material(3, size, 30) for size in sizes), material(3, "640x360", 30, hevc=True)]
        with ExitStack() as stack:
            first = stack.enter_context(Encoder(self.server.rtmp, key).start())
            sending = Publisher(first, one_after_another(*parts, material(8, "640x360", 30, hevc=True)))
            self.server.wait_live(name)
            self.wait_runs(name, LADDER)
            (child,) = self.children()
            watchers = source, *ladder = [self.watch(name, one) for one in LADDER]
            until(lambda: source.discontinuities == 3, PATIENCE, "three changes")
            self.wait_more([source], 2)
            second = stack.enter_context(Encoder(self.server.rtmp, key).start())
            Publisher(second, one_after_another(material(10, "640x360", 30)))
            sending.join(PATIENCE)
            self.assertIsNotNone(sending.error)  # It was told to go.
            until(lambda: all(one.discontinuities == 4 for one in watchers), PATIENCE, "four changes")
            self.wait_more(watchers, 2)
            self.assertEqual((self.restarts(name), self.children()), (0, [child]))
        self.server.call("POST", f"/streams/{name}/stop", token=self.server.admin)
        until(lambda: not self.children(), PATIENCE, "no child is left")
        for watcher in watchers:
            self.assert_whole(watcher, 4)
        for watcher in ladder:
            self.assert_same_times(source, watcher)
            self.assert_same_numbers(source, watcher)
            self.assertLess(max(one.late for one in watcher.segments[2:]), BACK)
            # Each segment can be decoded by itself, and begins with a keyframe.
            for start, keys in shown(watcher).items():
                self.assertEqual(keys[0], start)


class ViewerTests(BrowserTestCase):
    @pytest.mark.alone
    def test_who_watches_a_quality_does_not_notice(self) -> None:
        profile = '[{"name": "216p", "width": 384, "height": 216, "bitrate": 300000}]'
        settings = {**LadderCase.settings, "OXIDECAST_TRANSCODING_PROFILES": profile}
        running = self.enterContext(server(settings=settings))
        name, key = running.new_stream("Watched", transcoding_profiles=["216p"])
        self.enterContext(publish(running.ingest(key), Path(running.folder, "encoder.log"), gop=60))
        running.wait_live(name)

        def has_enough() -> bool:
            return len(durations(running.media_playlist(name, "216p")[1])) > 3

        until(lambda: len(running.stream(name)["renditions"]) == 2, PATIENCE, "the ladder")
        until(has_enough, PATIENCE, "what a player wants to have before it begins")
        # A page so small that Auto does not go beyond it.
        small = self.new_context(viewport={"width": 320, "height": 500})
        watcher = self.watch(f"{running.url}/player/{name}", small)
        watcher.wait_for_motion()
        watcher.wait("the quality that fits", lambda now: now.width == 384, PATIENCE)
        watcher.page.evaluate(INTERRUPTIONS)
        for how in (signal.SIGKILL, signal.SIGSTOP):
            (child,) = workers(running)
            os.kill(child.pid, how)
            before, after = watcher.watch(10)
            self.assertFalse(child.is_running())
            self.assertEqual(watcher.page.evaluate("window.interruptions"), [], how)
            self.assertAlmostEqual(after.time - before.time, after.wall - before.wall, delta=0.5)
            self.assertEqual(after.width, 384)
        self.assertEqual(watcher.words, "")


INTERRUPTIONS = """() => {
    window.interruptions = [];
    for (const name of ['waiting', 'seeking', 'pause', 'error'])
        document.querySelector('video').addEventListener(name, () => window.interruptions.push(name));
}"""
"""What a viewer would notice, from now on."""


class StopTests(TestCase):
    def test_the_server_is_stopped(self) -> None:
        running, children, name = self._begin()
        self.assertEqual(running.stop(signal.SIGTERM), 0)
        self.assertEqual([one for one in children if one.is_running()], [])
        self.assertIn(f"{name} ended", running.output)
        (path,) = Path(running.folder, "data").rglob("*.mp4")
        self.assertGreater(look(str(path))[0], 1)
        self.assertEqual(complaints(str(path)), "")

    def test_the_server_is_killed(self) -> None:
        running, children, _ = self._begin()
        running.stop(signal.SIGKILL)
        psutil.wait_procs(children, 5)
        self.assertEqual([one for one in children if one.is_running()], [])

    def _begin(self) -> tuple[Any, list[psutil.Process], str]:
        stack = ExitStack()
        self.addCleanup(stack.close)
        running = stack.enter_context(server(settings=LadderCase.settings))
        name, key = running.new_stream("Stops", transcoding_profiles=LADDER[1:], recording_enabled=True)
        stack.enter_context(
            publish(running.ingest(key), Path(running.folder, "encoder.log"), size="320x180", gop=30)
        )
        running.wait_live(name)
        until(lambda: len(running.stream(name)["renditions"]) == 3, PATIENCE, "the ladder")
        children = psutil.Process(running.process.pid).children(recursive=True)
        self.assertEqual(len(children), 1)
        return running, children, name
