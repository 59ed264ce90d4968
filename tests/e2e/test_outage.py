"""PostgreSQL goes away while streams are live: what is live goes on, the rest says why, and all recovers by itself."""

import json
import threading
from collections import Counter
from contextlib import ExitStack
from typing import Any

from twisted.trial.unittest import TestCase

from tests.database.cluster import cluster
from tests.database.support import create_database
from tests.e2e.hls import Watcher
from tests.e2e.programs import Server, publish, server, until

SIZE = "320x180"
RECOVERY = 12.0
"""Seconds within which the server is ready again: it looks every five, and PostgreSQL needs some to start."""
CANNOT_CHECK = "The server cannot check stream keys at the moment: try again later."


class Load(threading.Thread):
    """Somebody who asks all the time, as a crowd does: viewers who join, look, and are heard of."""

    def __init__(self, running: Server, name: str) -> None:
        super().__init__(daemon=True)
        self._running, self._name = running, name
        self._over = threading.Event()
        self.answers: Counter[tuple[str, int]] = Counter()
        self.start()

    def run(self) -> None:
        while not self._over.is_set():
            status, answer = self._ask(
                "join", "POST", f"/streams/{self._name}/join", {"connection_type": "hls"}
            )
            if status == 200:
                self._ask("heartbeat", "POST", f"/viewers/{answer['data']['viewer_id']}/heartbeat", None)
                self._ask("leave", "DELETE", f"/viewers/{answer['data']['viewer_id']}", None)
            self._ask("show", "GET", f"/streams/{self._name}", None)
            self._ask("list", "GET", "/streams", None)
            self._over.wait(0.05)

    def _ask(self, what: str, *call: Any) -> tuple[int, Any]:
        status, answer = self._running.call(*call)
        self.answers[what, status] += 1
        return status, answer

    def stop(self) -> Counter[tuple[str, int]]:
        self._over.set()
        self.join(20)
        return self.answers


class OutageTests(TestCase):
    def test_live_without_a_database(self) -> None:
        postgres = cluster()
        settings = {
            "DATABASE_URL": postgres.url(create_database(self, postgres)),
            "OXIDECAST_STREAMS_PUBLISHER_GRACE": "1",
        }
        self.addCleanup(postgres.start)
        with server(settings=settings) as running, ExitStack() as publishers:

            def on_air(name: str, key: str) -> Any:
                program = publish(running.ingest(key), running.folder / f"{name}.log", size=SIZE)
                return publishers.enter_context(program)

            def is_live(name: str, token: str = "") -> bool:
                query = f"?token={token}" if token else ""
                return running.get(f"/api/v1/hls/{name}/playlist.m3u8{query}")[0] == 200

            public, public_key = running.new_stream("Public")
            private, private_key = running.new_stream("Private", is_private=True)
            known, known_key = running.new_stream("Known")
            never, never_key = running.new_stream("Never")
            with publish(running.ingest(known_key), running.folder / "first.log", size=SIZE) as first:
                until(lambda: is_live(known), 20, "the known one is live")
                first.stop()
            until(lambda: running.stream(known)["state"] == "idle", 25, "and has ended")
            on_air(public, public_key)
            on_air(private, private_key)
            running.wait_live(public)
            running.wait_live(private)
            _, answer = running.call("GET", f"/streams/{private}/url", token=running.admin)
            token = answer["data"]["url"].partition("token=")[2]
            running.secrets.add(token)

            with Watcher(running.media_playlist(public)[0]) as watcher:
                load = Load(running, public)
                until(lambda: load.answers["list", 200] > 5, 10, "the load runs")
                postgres.kill()
                seen = len(watcher.segments)

                # Whoever watches goes on, whoever comes may watch, and a known key publishes.
                on_air(known, known_key)
                until(lambda: is_live(known), 20, "a known key publishes")
                until(lambda: len(watcher.segments) > seen + 2, 20, "segments go on coming")
                self.assertTrue(is_live(public))
                self.assertTrue(is_live(private, token))
                self.assertEqual(running.get(f"/player/{public}")[0], 200)

                # A key that was never seen cannot be checked, and the encoder hears so.
                refused = on_air(never, never_key)
                until(lambda: refused.process.poll() is not None, 15, "an unknown key is refused")
                self.assertIn(CANNOT_CHECK, running.output)

                # The rest says why it cannot be done.
                ready, body = running.get("/ready")
                self.assertEqual((ready, json.loads(body)["status"]), (503, "not ready"))
                self.assertIn("PostgreSQL", body.decode())
                self.assertEqual(running.get("/health")[0], 200)
                self.assertEqual(running.metric("oxidecast_database_up"), 0)
                status, answer = running.call("POST", "/streams", {"title": "Later"}, running.admin)
                self.assertEqual((status, answer["code"]), (503, "database_away"))

                postgres.start()
                until(lambda: running.get("/ready")[0] == 200, RECOVERY, "it is ready again")
                self.assertEqual(running.call("POST", "/streams", {"title": "Later"}, running.admin)[0], 201)
                answers = load.stop()
                seen = len(watcher.segments)
                until(lambda: len(watcher.segments) > seen, 10, "the first plays on")
            self.assertEqual((watcher.faults, watcher.discontinuities), ([], 0))
            statuses = {what: {status for name, status in answers if name == what} for what, _ in answers}
            self.assertEqual(statuses["list"], {200, 503})
            for what in ("join", "heartbeat", "leave", "show"):
                self.assertEqual(statuses[what], {200}, what)

            # After a restart nothing is remembered: nobody publishes until the database is back.
            publishers.close()
            postgres.kill()
            running.restart(answers="/health")
            self.assertEqual(running.get("/ready")[0], 503)
            refusals = running.output.count(CANNOT_CHECK)
            once_known = on_air(known, known_key)
            until(lambda: once_known.process.poll() is not None, 15, "a key of before is refused")
            self.assertEqual(running.output.count(CANNOT_CHECK), refusals + 1)
            self.assertEqual(running.call("GET", "/streams")[1]["code"], "database_away")
            postgres.start()
            until(lambda: running.get("/ready")[0] == 200, RECOVERY, "it is ready by itself")
            on_air(known, known_key)
            until(lambda: is_live(known), 20, "and publishes again")
            publishers.close()

    def test_two_servers_that_start_at_once_on_nothing(self) -> None:
        """On one database: one of them makes the tables and the first account, and both serve it."""
        postgres = cluster()
        shared = {
            "DATABASE_URL": postgres.url(create_database(self, postgres)),
            "OXIDECAST_SERVER_SECRET_KEY": "a secret that both of the servers have",
            "OXIDECAST_AUTH_JWT_SECRET": "another secret that both servers have",
        }
        started: list[Server] = []
        go_on, lock = threading.Event(), threading.Lock()

        def run() -> None:
            with server(settings=shared) as running:
                with lock:
                    started.append(running)
                go_on.wait(60)

        threads = [threading.Thread(target=run) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            until(lambda: len(started) == 2, 40, "both are ready")
            one, other = started
            if not (one.folder / "data" / "admin-password").exists():
                one, other = other, one
            self.assertFalse((other.folder / "data" / "admin-password").exists())
            self.assertEqual(other.call("GET", "/streams", token=one.admin)[1]["data"]["total"], 1)
            self.assertEqual(other.call("GET", "/users", token=one.admin)[1]["data"]["total"], 1)
            # A key that one has made publishes at the other.
            name, key = one.new_stream("Shared")
            other.secrets |= one.secrets
            with publish(other.ingest(key), other.folder / "shared.log", size=SIZE):
                until(lambda: other.get(f"/api/v1/hls/{name}/playlist.m3u8")[0] == 200, 20, "it is live")
        finally:
            go_on.set()
            for thread in threads:
                thread.join(30)
