"""What is written of a real broadcast and of who watched it, on both engines, with a crash in between."""

import signal
import time
from typing import Any

from twisted.trial.unittest import TestCase

from oxidecast.database.broadcasts import CRASHED
from tests.database.cluster import cluster
from tests.database.support import create_database
from tests.e2e.programs import FFMPEG_5, Program, Server, publish, server, until

LONG = 9
"""Seconds of the broadcast."""


class Written(TestCase):
    """On SQLite."""

    timeout = 120
    settings = {
        "OXIDECAST_ANALYTICS_INTERVAL": "2",
        "OXIDECAST_ANALYTICS_ADDRESSES": "full",
        "OXIDECAST_STREAMS_PUBLISHER_GRACE": "1",
    }

    def test_a_broadcast_with_a_viewer_and_one_that_is_cut_off(self) -> None:
        with server(settings=self.settings) as running:
            name, key = running.new_stream("Show")
            self.watched(running, name, key)
            self.crashed(running, name, key)

    def items(self, running: Server, path: str) -> list[dict[str, Any]]:
        status, answer = running.call("GET", path, token=running.admin)
        assert status == 200, answer
        items: list[dict[str, Any]] = answer["data"]["items"]
        return items

    def watched(self, running: Server, name: str, key: str) -> None:
        began = time.time()
        with publish(running.ingest(key), running.folder / "ffmpeg.log", seconds=LONG):
            running.wait_live(name)
            play = [
                FFMPEG_5,
                "-v",
                "error",
                "-nostdin",
                "-i",
                running.hls(name),
                "-c",
                "copy",
                "-f",
                "null",
                "-",
            ]
            with Program(play, running.folder / "player.log") as player:
                self.assertEqual(player.process.wait(40), 0, player.output)
        lasted = time.time() - began
        [row] = until(
            lambda: [one for one in self.items(running, f"/streams/{name}/sessions") if one["ended_at"]],
            10,
            "the broadcast is over",
        )
        self.assertEqual((row["protocol"], row["publisher_address"]), ("rtmp", "127.0.0.1"))
        self.assertEqual(row["end_reason"], "the publisher did not come back")
        self.assertIn("Lavf", row["encoder"])
        self.assertEqual((row["reconnects"], row["unique_viewers"]), (0, 1))
        self.assertGreater(row["bytes_received"], 50_000)
        viewers = until(lambda: self.items(running, f"/streams/{name}/viewers"), 10, "viewers are written")
        played = max(viewers, key=lambda one: one["bytes_sent"])
        self.assertEqual((played["connection_type"], played["rendition"]), ("hls", "source"))
        self.assertEqual((played["address"], played["broadcast_id"]), ("127.0.0.1", row["id"]))
        self.assertTrue(2 < played["watch_time"] <= lasted, played)
        self.assertGreater(played["bytes_sent"], row["bytes_received"] / 3)
        self.assertEqual(running.stream(name)["max_viewers"], row["peak_viewers"])
        stats = running.call("GET", f"/streams/{name}/stats", token=running.admin)[1]["data"]["history"]
        self.assertEqual((stats["broadcasts"], stats["viewer_sessions"]), (1, len(viewers)))
        self.assertTrue(LONG - 2 < stats["air_time"] < LONG + 5, stats)
        series = running.call("GET", f"/streams/{name}/metrics?resolution=90", token=running.admin)[1]["data"]
        rates = [point["frame_rate"] for point in series["points"]]
        self.assertTrue(rates and 15 < max(rates) < 40, series)
        self.assertGreater(max(point["bitrate"] for point in series["points"]), 50_000)

    def crashed(self, running: Server, name: str, key: str) -> None:
        with publish(running.ingest(key), running.folder / "ffmpeg.log"):
            running.wait_live(name)
            until(lambda: len(self.items(running, f"/streams/{name}/sessions")) == 2, 10, "it is written")
            running.restart(signal.SIGKILL)
        row = until(
            lambda: next(
                (
                    one
                    for one in self.items(running, f"/streams/{name}/sessions")
                    if one["end_reason"] == CRASHED
                ),
                None,
            ),
            10,
            "the broadcast that was cut off is closed",
        )
        self.assertGreater(row["ended_at"], row["started_at"])
        self.assertEqual(len(self.items(running, f"/streams/{name}/sessions")), 2)


class WrittenToPostgres(Written):
    def setUp(self) -> None:
        self.cluster = cluster()
        self.settings = {
            **Written.settings,
            "DATABASE_URL": self.cluster.url(create_database(self, self.cluster)),
        }

    def test_an_outage_in_mid_broadcast(self) -> None:
        """Who watches notices nothing, and nothing is lost."""
        self.addCleanup(self.cluster.start)
        with server(settings=self.settings) as running:
            name, key = running.new_stream("Show")
            with publish(running.ingest(key), running.folder / "ffmpeg.log", seconds=LONG + 3):
                running.wait_live(name)
                self.cluster.kill()
                play = [FFMPEG_5, "-v", "error", "-nostdin", "-i", running.hls(name), "-c", "copy"]
                with Program([*play, "-f", "null", "-"], running.folder / "player.log") as player:
                    until(lambda: running.metric("oxidecast_rows_waiting"), 10, "rows wait")
                    self.assertEqual(player.process.wait(40), 0, player.output)
            until(lambda: running.metric("streaming_active_streams") == 0, 10, "the stream has ended")
            until(lambda: running.metric("oxidecast_rows_waiting") >= 3, 10, "its rows wait")
            self.cluster.start()
            until(lambda: running.metric("oxidecast_rows_waiting") == 0, 15, "they are written")
            [row] = self.items(running, f"/streams/{name}/sessions")
            self.assertEqual(row["end_reason"], "the publisher did not come back")
            played = max(self.items(running, f"/streams/{name}/viewers"), key=lambda one: one["bytes_sent"])
            self.assertGreater(played["watch_time"], 2)
