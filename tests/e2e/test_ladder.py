"""The quality ladder of a whole server: ffmpeg publishes, HLS offers qualities."""

import contextlib
import json
import re
from itertools import pairwise
from typing import Any

import psutil

from tests.e2e.hls import Watcher, shown
from tests.e2e.programs import Program, Server, ServerCase, publish, until

PROFILES = (
    '[{"name": "180p", "width": 320, "height": 180, "bitrate": 300000, "audio_bitrate": 64000},'
    ' {"name": "90p", "width": 160, "height": 90, "bitrate": 100000, "audio_bitrate": 48000}]'
)
LADDER = ["source", "180p", "90p"]
PATIENCE = 30.0
"""Seconds until a test gives up, on a machine that does much else."""


def workers(running: Server) -> list[psutil.Process]:
    """The transcoder's children of a server that are alive."""
    found = []
    for child in psutil.Process(running.process.pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
            if "oxidecast.transcoding.worker" in child.cmdline():
                found.append(child)
    return found


class LadderCase(ServerCase):
    settings = {"OXIDECAST_TRANSCODING_PROFILES": PROFILES, "OXIDECAST_TRANSCODING_PRESET": "ultrafast"}

    def begin(self, title: str, profiles: list[str] = LADDER[1:], **how: Any) -> tuple[str, Program]:
        name, key = self.server.new_stream(title, transcoding_profiles=profiles)
        encoder = publish(self.server.ingest(key), self.log("encoder"), **{"gop": 30, **how})
        self.addCleanup(encoder.__exit__)
        self.server.wait_live(name)
        return name, encoder

    def runs(self, name: str) -> list[str]:
        return [one["name"] for one in self.server.stream(name)["renditions"]]

    def wait_runs(self, name: str, wanted: list[str]) -> None:
        until(lambda: self.runs(name) == wanted, PATIENCE, f"{name} has {wanted}")

    def master(self, name: str) -> dict[str, dict[str, str]]:
        """The multivariant playlist: renditions in order, and what is said of them."""
        text = self.server.get(f"/api/v1/hls/{name}/playlist.m3u8")[1].decode()
        return {
            uri.split("/")[1]: dict(re.findall(r'([A-Z-]+)=("[^"]*"|[^,]*)', line))
            for line, uri in pairwise(text.splitlines())
            if line.startswith("#EXT-X-STREAM-INF")
        }

    def sessions(self, name: str) -> list[str]:
        """What a new viewer's addresses begin with, below the stream's."""
        text = self.server.get(f"/api/v1/hls/{name}/playlist.m3u8")[1].decode()
        return [line.split("/")[0] for line in text.splitlines() if line and not line.startswith("#")]

    def watch(self, name: str, rendition: str, *, fetch: bool = True) -> Watcher:
        watcher = Watcher(self.server.media_playlist(name, rendition)[0], fetch=fetch)
        self.addCleanup(watcher.stop)
        return watcher

    def where(self, name: str, kind: str, rendition: str) -> str:
        query = f"connection_type={kind}&quality_profile={rendition}"
        status, answer = self.server.call("GET", f"/streams/{name}/url?{query}")
        assert status == 200, answer
        return str(answer["data"]["url"])

    def stats(self, name: str) -> dict[str, Any]:
        status, answer = self.server.call("GET", f"/streams/{name}/stats", token=self.server.admin)
        assert status == 200, answer
        found: dict[str, Any] = answer["data"]
        return found

    def children(self) -> list[psutil.Process]:
        return workers(self.server)

    def end(self, name: str, encoder: Program) -> None:
        """And nothing is left of it."""
        encoder.stop()
        self.server.call("POST", f"/streams/{name}/stop", token=self.server.admin)
        until(lambda: not self.children(), PATIENCE, "no child is left")

    def assert_same_times(self, source: Watcher, rendition: Watcher) -> None:
        """Segments begin and end where the source's do. The first may begin within one, for the child takes a moment
        to start."""
        known = {segment.utc: segment.duration for segment in source.segments}
        first, last = min(filter(None, known)), max(filter(None, known))
        compared = 0
        for segment in rendition.segments[1:]:
            if segment.utc is not None and first <= segment.utc <= last:
                self.assertEqual(known.get(segment.utc), segment.duration, segment.utc)
                compared += 1
        self.assertGreaterEqual(compared, 2)


class LadderTests(LadderCase):
    def test_all_qualities_are_cut_at_the_same_keyframes(self) -> None:
        name, encoder = self.begin("Ladder")
        offered = self.master(name)
        self.assertEqual(list(offered), LADDER)
        self.assertEqual([one["RESOLUTION"] for one in offered.values()], ["640x360", "320x180", "160x90"])
        watchers = [self.watch(name, one) for one in LADDER]
        until(lambda: min(len(one.segments) for one in watchers) >= 4, PATIENCE, "segments")
        for watcher in watchers:
            self.assertEqual(watcher.stop().faults, [])
            self.assertEqual(watcher.discontinuities, 0)
            self.assertEqual(watcher.targets, {2})
        source, *ladder = (shown(one) for one in watchers)
        for watcher in watchers[1:]:
            self.assert_same_times(watchers[0], watcher)
        for rendition in ladder:
            # The first may begin in the middle of one of the source's, for the child takes a moment to start.
            common = [start for start in list(rendition)[1:] if start <= max(source)]
            self.assertGreaterEqual(len(common), 2)
            for start in common:
                self.assertEqual(rendition[start], source[start])
        for one in (offered := self.master(name)).values():
            self.assertGreaterEqual(int(one["BANDWIDTH"]), int(one["AVERAGE-BANDWIDTH"]))
            self.assertRegex(one["CODECS"], r'^"avc1\.[0-9a-f]{6},mp4a\.40\.2"$')
            self.assertEqual(one["FRAME-RATE"], "30.000")
        rates = [int(one["AVERAGE-BANDWIDTH"]) for one in offered.values()]
        self.assertEqual(rates, sorted(rates, reverse=True))
        outputs = {one["name"]: one["stats"] for one in self.stats(name)["outputs"]}
        self.assertEqual(set(outputs["multicast"]), set(LADDER))
        for group in outputs["multicast"].values():
            self.assertEqual((group["state"], group["missing"]), ("sending", []))
        watched = {one: self.where(name, "multicast", one) for one in LADDER}
        self.assertEqual(len(set(watched.values())), 3)
        self.assertEqual(watched["source"], self.server.stream(name)["stream_urls"]["multicast"])
        only = self.server.get(self.where(name, "hls", "90p"))[1].decode()
        self.assertEqual(re.findall("/(.*)/playlist.m3u8", only), ["90p"])
        made = self.stats(name)["transcoding"]
        self.assertEqual([one["name"] for one in made["renditions"]], LADDER[1:])
        self.assertGreater(made["resident_bytes"], 0)
        self.assertEqual(self.server.metric("streaming_transcoding_jobs_active"), 1)
        self.end(name, encoder)

    def test_a_change_of_the_profiles_while_live(self) -> None:
        name, encoder = self.begin("Changes", ["90p"])
        self.wait_runs(name, ["source", "90p"])
        for profiles in (["180p", "90p"], ["180p"], []):
            change = {"transcoding_profiles": profiles}
            self.assertEqual(self.server.call("PATCH", f"/streams/{name}", change, self.server.admin)[0], 200)
            self.wait_runs(name, ["source", *profiles])
        until(lambda: not self.children(), PATIENCE, "no child is left")
        self.end(name, encoder)


class OnDemandTests(LadderCase):
    settings = {
        **LadderCase.settings,
        "OXIDECAST_TRANSCODING_MODE": "on_demand",
        "OXIDECAST_TRANSCODING_MAX_CONCURRENT": "1",
    }

    def test_a_quality_is_made_when_somebody_asks_and_only_for_so_many_streams(self) -> None:
        name, encoder = self.begin("Demand")
        self.assertEqual(list(self.master(name)), LADDER)
        self.assertEqual((self.runs(name), self.children()), (["source"], []))
        states = [(one["name"], one["state"]) for one in self.server.stream(name)["qualities"]]
        self.assertEqual(states, [("source", "running"), ("180p", "planned"), ("90p", "planned")])
        watcher = self.watch(name, "90p", fetch=False)
        self.assertEqual(self.runs(name), ["source", "90p"])
        until(lambda: len(watcher.segments) >= 2, PATIENCE, "segments")
        self.assertEqual(watcher.stop().faults, [])

        # There is no room for another, which is said instead of kept waiting for.
        second, other = self.begin("Second")
        self.assertEqual(list(self.master(second)), ["source"])
        states = [(one["name"], one["state"]) for one in self.server.stream(second)["qualities"]]
        self.assertEqual(states, [("source", "running"), ("180p", "left_out"), ("90p", "left_out")])
        status, answer = self.server.call("GET", f"/streams/{second}/url?quality_profile=90p")
        self.assertEqual((status, answer["code"]), (503, "no_quality"))
        self.assertIn("max_concurrent", answer["error"])
        session = next(iter(self.sessions(second)))
        status, body = self.server.get(f"/api/v1/hls/{second}/{session}/90p/playlist.m3u8")
        self.assertEqual((status, json.loads(body)["code"]), (404, "no_quality"))
        # When the first has ended there is.
        encoder.stop()
        self.server.call("POST", f"/streams/{name}/stop", token=self.server.admin)
        until(lambda: list(self.master(second)) == LADDER, PATIENCE, "the qualities are listed again")
        watcher = self.watch(second, "90p", fetch=False)
        until(lambda: len(watcher.segments) >= 2, PATIENCE, "segments")
        self.end(second, other)
