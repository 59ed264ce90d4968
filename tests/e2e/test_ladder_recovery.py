"""What goes wrong beneath the ladder: its child dies or hangs, the picture is damaged or another one, the server stops.

The one idea: whoever watches `source` sees what the encoder sent and nothing else, and the qualities are there again
within `BACK`, by the clock that their own segments are dated with.
"""

import os
import signal
from itertools import pairwise

from tests.e2e.hls import Watcher
from tests.e2e.programs import until
from tests.e2e.test_ladder import LADDER, PATIENCE, LadderCase

BACK = 5.0
"""Seconds that the ladder may be away for."""


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

    def restarts(self, name: str) -> int:
        restarts: int = self.stats(name)["transcoding"]["restarts"]
        return restarts


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
        at = [len(one.segments) for one in ladder]
        os.kill(child.pid, how)
        until(lambda: self.restarts(name), PATIENCE, "another child")
        self.assertFalse(child.is_running())
        more = [count + 4 for count in at]
        until(lambda: all(len(o.segments) >= m for o, m in zip(ladder, more, strict=True)), PATIENCE, "more")
        for watcher in (source, *ladder):
            self.assert_whole(watcher)
        for watcher in ladder:
            print(how.name, [round(segment.late, 2) for segment in watcher.segments])
            self.assertLess(max(segment.late for segment in watcher.segments[2:]), BACK)
        self.assertEqual(self.restarts(name), 1)
        self.end(name, encoder)
