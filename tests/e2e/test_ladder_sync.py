"""Sound and pictures of every quality are as far apart as the source's: through a whole server, whatever the source is.

The one idea: all kinds of sources at once, as streams of tiny pictures, so that their time passes only once. Ten
minutes of it are in `tests/soak/soak_sync.py`.
"""

import random
from collections.abc import Sequence
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.e2e.programs import until
from tests.e2e.sync import (
    BFRAMES,
    MONO,
    MOST_APART,
    PLAIN,
    VARIABLE,
    Case,
    Listener,
    Marks,
    gap,
    publish,
)
from tests.e2e.test_ladder import PATIENCE, LadderCase

LADDER = ["source", "90p", "60p"]
PROFILES = (
    # Sound that is coded anew, and sound that is copied.
    '[{"name": "90p", "width": 160, "height": 90, "bitrate": 200000, "audio_bitrate": 48000},'
    ' {"name": "60p", "width": 106, "height": 60, "bitrate": 100000, "audio_bitrate": 192000}]'
)


class SyncCase(LadderCase):
    settings = {
        "OXIDECAST_TRANSCODING_PROFILES": PROFILES,
        "OXIDECAST_TRANSCODING_PRESET": "ultrafast",
        "OXIDECAST_TRANSCODING_MAX_CONCURRENT": "8",
        # Other servers on this machine send to groups of their own.
        "OXIDECAST_MULTICAST_BASE_ADDRESS": f"239.{random.randrange(1, 255)}.{random.randrange(1, 255)}.1",
    }

    def go_through(self, seconds: int, cases: Sequence[Case]) -> None:
        """All cases at once. What is recorded, and sent to groups, is the case of B-frames."""
        keys = {case: self.server.new_stream(case.name, transcoding_profiles=LADDER[1:]) for case in cases}
        names = {case: name for case, (name, _) in keys.items()}
        change = {"recording_enabled": True}
        self.assertEqual(
            self.server.call("PATCH", f"/streams/{names[BFRAMES]}", change, self.server.admin)[0], 200
        )
        encoders = []
        for case, (_, key) in keys.items():
            encoders.append(publish(self.server.ingest(key), self.log("encoder"), case, seconds))
            self.addCleanup(encoders[-1].__exit__)
        for name in names.values():
            self.server.wait_live(name)
            self.wait_runs(name, LADDER)
        watchers = {case: {one: self.watch(name, one) for one in LADDER} for case, name in names.items()}
        listeners = self.listen(names[BFRAMES])
        for encoder in encoders:
            self.assertEqual(encoder.process.wait(seconds + PATIENCE), 0, encoder.output)
        sent = {one: listener.stop() for one, listener in listeners.items()}
        for name in names.values():
            self.server.call("POST", f"/streams/{name}/stop", token=self.server.admin)
        for case, of_case in watchers.items():
            for watcher in of_case.values():
                watcher.join(PATIENCE)
            self.compare(case, {one: Marks.of(watcher) for one, watcher in of_case.items()}, seconds)
        source = Marks.of(watchers[BFRAMES]["source"])
        for one, body in sent.items():
            self.near(f"group of {one}", Marks.read(body), source)
        self.near("recording", Marks.read(self.recorded(names[BFRAMES])), source)

    def compare(self, case: Case, found: dict[str, Marks], seconds: int) -> None:
        source = found.pop("source")
        print(
            f"{case.name}, source: {len(source.pairs)} beeps, {1000 * min(source.sync):.2f} to"
            f" {1000 * max(source.sync):.2f} ms after their flashes"
        )
        for name, marks in found.items():
            apart, clock = marks.against(source), marks.clock(source)
            print(f"{case.name}, {name}: {apart}; date-time {1000 * clock:.2f} ms at most")
            self.assertLess(apart.worst, MOST_APART)
            self.assertLess(clock, MOST_APART)
            begin, end = case.gap
            self.assertEqual(len(marks.silent), end - begin)
            # Nothing is missing in the middle.
            together = sorted((*marks.silent, *(flash for flash, _ in marks.pairs)))
            self.assertEqual(len(together), round(together[-1] - together[0]) + 1, together)
            self.assertGreater(len(together), seconds - 9)

    def near(self, what: str, found: Marks, source: Marks) -> None:
        apart = sorted(map(abs, found.beside(source)))
        print(
            f"{what}: {len(apart)} beeps, {1000 * apart[-1]:.2f} ms at most, {1000 * median(apart):.2f} median"
        )
        self.assertEqual(found.silent, [])
        self.assertLess(apart[-1], MOST_APART)

    def listen(self, name: str) -> dict[str, Listener]:
        groups = {one["name"]: one["stats"] for one in self.stats(name)["outputs"]}["multicast"]
        listeners = {}
        for one in LADDER:
            to = urlsplit(groups[one]["url"])
            assert to.hostname and to.port
            listeners[one] = Listener(to.hostname, to.port)
            self.addCleanup(listeners[one].stop)
        return listeners

    def recorded(self, name: str) -> bytes:
        def complete() -> Any:
            path = f"/recordings?stream={name}&state=complete"
            return self.server.call("GET", path, token=self.server.admin)[1]["data"]["items"]

        [one] = until(complete, PATIENCE, f"{name} is recorded")
        answer = self.server.call("GET", f"/recordings/{one['id']}/url", token=self.server.admin)[1]
        self.server.secrets.add(answer["data"]["url"].partition("token=")[2])
        status, body = self.server.get(answer["data"]["url"])
        self.assertEqual(status, 200)
        return body


@pytest.mark.alone
class LadderSyncTests(SyncCase):
    def test_every_kind_of_source(self) -> None:
        self.go_through(16, [PLAIN, BFRAMES, VARIABLE, MONO, gap(8, 11)])
