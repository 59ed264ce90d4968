"""The whole server on PostgreSQL, which goes away and comes back."""

import time
from collections.abc import Callable

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from oxidecast.interfaces import PublishRequest, Refused
from oxidecast.outputs.recording import rows
from oxidecast.settings.errors import StartError
from tests.database.cluster import cluster
from tests.database.support import create_database
from tests.house import Answer, HouseCase
from tests.streams.stage import AUDIO, PAYLOAD, PICTURE, VIDEO, Encoder

SOON = 10.0
"""Seconds within which the API serves again."""


class PostgresCase(HouseCase):
    """A server on a new database of a cluster that may be stopped."""

    timeout = 60

    async def setUp(self) -> None:  # type: ignore[override]
        super().setUp()
        self.cluster = cluster()
        self.name = create_database(self, self.cluster)
        self.addCleanup(self.cluster.start)
        self.environ["DATABASE_URL"] = self.cluster.url(self.name)

    async def until(self, path: str, there: Callable[[Answer], bool], token: str = "") -> Answer:
        """Ask until the answer is what was waited for, which has to be soon."""
        began = time.monotonic()
        while not there(answer := await self.ask("GET", path, token=token)):
            self.assertLess(time.monotonic() - began, SOON)
            await deferLater(reactor, 0.1)
        return answer


class OnPostgres(PostgresCase):
    async def test_a_stream_that_is_made_is_listed(self) -> None:
        await self.start()
        made = await self.ask("POST", "/api/v1/streams", {"title": "Birds"}, await self.token("streamer"))
        self.assertEqual(made.status, 201, made.body)
        self.assertIn("birds", made.body.decode())
        self.assertIn("birds", (await self.ask("GET", "/api/v1/streams")).body.decode())

    async def test_an_outage_is_said_and_ends_by_itself(self) -> None:
        await self.start()
        self.cluster.kill()
        away = await self.ask("GET", "/api/v1/streams")
        self.assertEqual((away.status, away.code), (503, "database_away"))
        self.assertIn("retry-after", away.headers)
        self.cluster.start()
        await self.until("/api/v1/streams", lambda answer: answer.status == 200)

    async def test_rows_about_viewers_wait_for_the_database_up_to_a_bound(self) -> None:
        """The stream goes on and is watched meanwhile; what is more than may wait is counted."""
        await self.start()
        token = await self.token("streamer")
        made = (await self.ask("POST", "/api/v1/streams", {"title": "Birds"}, token)).data
        encoder = Encoder(self, key=made["stream_key"])  # type: ignore[arg-type]
        request = PublishRequest(protocol="test", address="192.0.2.1", key=made["stream_key"])
        publication = await self.server.hub.publish(request, encoder)
        publication.expect(True, False)
        publication.track(VIDEO)
        publication.packet(1, 0, 0, True, PAYLOAD)
        stream = self.server.hub.find("birds")
        assert stream is not None
        analytics = next(one.instance for one in self.server.registry.running if one.name == "analytics")
        viewers = analytics.writer.tables[1]
        viewers._most = 10
        await deferLater(reactor, 2.5)  # its beginning is written
        self.cluster.kill()
        for _ in range(2):
            for _ in range(8):
                stream.viewer("hls", "192.0.2.1").leave()
            await deferLater(reactor, 2.5)
        publication.packet(1, PICTURE, PICTURE, True, PAYLOAD)
        self.assertEqual((stream.state, stream.source.packets), ("live", 2))
        self.assertEqual((len(viewers), viewers.dropped), (10, 6))
        text = (await self.ask("GET", "/metrics")).body.decode()
        self.assertIn('oxidecast_rows_dropped_total{table="viewer_sessions"} 6.0', text)
        self.assertRegex(text, r"\noxidecast_rows_waiting 1[01]\.0\n")
        self.cluster.start()
        began = time.monotonic()
        while analytics.writer.waiting:
            self.assertLess(time.monotonic() - began, SOON)
            await deferLater(reactor, 0.1)
        page = await self.ask("GET", "/api/v1/streams/birds/viewers", token=token)
        self.assertEqual((page.status, page.data["total"]), (200, 10))

    async def test_who_watches_what_is_live_does_not_wait_for_it(self) -> None:
        await self.start()
        token = await self.token("streamer")
        for title, private in (("Birds", False), ("Nest", True)):
            await self.live(token, title, private)
        self.cluster.kill()
        for caller in ("", token):  # Whose token it is cannot be found out now.
            shown = await self.ask("GET", "/api/v1/streams/birds", token=caller)
            self.assertEqual((shown.status, shown.data["is_live"]), (200, True))
        joined = await self.ask("POST", "/api/v1/streams/birds/join", {"connection_type": "hls"})
        self.assertEqual(joined.status, 200, joined.body)
        self.assertEqual((await self.ask("GET", "/api/v1/streams/nest")).status, 401)
        self.assertEqual((await self.ask("GET", "/api/v1/streams/nest", token=token)).code, "database_away")
        self.assertEqual((await self.ask("GET", "/api/v1/streams/other")).code, "database_away")

    async def test_what_is_recorded_meanwhile_is_listed_afterwards(self) -> None:
        self.patch(rows, "RETRY", 0.2)
        await self.start()
        token = await self.token("streamer")
        await self.live(token, "Birds", False, recording_enabled=True)
        self.cluster.stop()  # Nothing is lost of what was written just now.
        while (await self.ask("GET", "/api/v1/streams")).status != 503:
            await deferLater(reactor, 0.05)
        [stream] = self.server.hub.streams.values()
        stream.end("over")
        directory = self.folder / "data" / "recordings"
        while not (files := list(directory.rglob("*.mp4"))):
            await deferLater(reactor, 0.05)
        self.cluster.start()
        listed = await self.until(
            "/api/v1/recordings",
            lambda answer: (
                answer.status == 200 and [one["state"] for one in answer.data["items"]] == ["complete"]
            ),
            token,
        )
        [one] = listed.data["items"]
        self.assertEqual((one["state"], one["size"]), ("complete", files[0].stat().st_size))
        self.assertEqual((one["stream"], one["title"]), ("birds", "Birds"))

    async def live(self, token: str, title: str, is_private: bool, **more: bool) -> None:
        """A stream that is on the air."""
        body = {"title": title, "is_private": is_private, **more}
        key = (await self.ask("POST", "/api/v1/streams", body, token)).data["stream_key"]
        request = PublishRequest(protocol="test", address="192.0.2.1", key=key)
        publication = await self.server.hub.publish(request, Encoder(self, key=key))  # type: ignore[arg-type]
        for track in (VIDEO, AUDIO):
            publication.track(track)
        publication.packet(1, 0, 0, True, b"\0\0\0\1\x65")


class StartedWithoutPostgres(PostgresCase):
    """The server starts first, the database later."""

    async def test_it_waits_and_says_so(self) -> None:
        self.cluster.kill()
        await self.start()
        ready = await self.ask("GET", "/ready")
        self.assertEqual(ready.status, 503)
        self.assertEqual(ready.json["reasons"], ["Nothing answers at PostgreSQL's address."])
        self.assertEqual((await self.ask("GET", "/health")).status, 200)
        self.assertEqual((await self.ask("GET", "/")).status, 200)
        away = await self.ask("GET", "/api/v1/streams")
        self.assertEqual((away.status, away.code), (503, "database_away"))
        key = self.server.foundation.safe.new()
        request = PublishRequest(protocol="rtmp", address="127.0.0.1", key=key)
        publishing = self.server.hub.publish(request, Encoder(self, key=key))  # type: ignore[arg-type]
        refused = await self.assertFailure(Deferred.fromCoroutine(publishing), Refused)
        self.assertEqual(refused.code, "unavailable")
        self.cluster.start()
        await self.until("/ready", lambda answer: answer.status == 200)
        # The tables and the first account were made meanwhile.
        self.assertEqual((await self.ask("GET", "/api/v1/streams")).data["total"], 1)
        password = (self.folder / "data" / "admin-password").read_text().strip()
        login = await self.ask("POST", "/api/v1/auth/login", {"username": "admin", "password": password})
        self.assertEqual(login.status, 200, login.body)

    async def test_nobody_comes_to_tables_that_were_not_migrated(self) -> None:
        self.cluster.kill()
        await self.start()
        self.cluster.start()
        answer = await self.ask("GET", "/api/v1/streams")
        self.assertIn(answer.status, (200, 503))  # never a 500 for a table that is not there

    async def test_what_does_not_mend_itself_stops_the_start(self) -> None:
        for url, sentence in (
            (self.cluster.url(self.name, "wrong"), "refuses the user or the password"),
            (self.cluster.url("nowhere"), "has no database of the name"),
        ):
            self.environ["DATABASE_URL"] = url
            server = self.build()
            server.startService()
            error = await self.assertFailure(server.started, StartError)
            self.assertIn(sentence, str(error))
            await server.stopService()

    async def test_the_demo_needs_it(self) -> None:
        self.cluster.kill()
        server = self.build(demo=True)
        server.startService()
        error = await self.assertFailure(server.started, StartError)
        self.assertIn("the demo needs the database", str(error))
        await server.stopService()

    async def test_a_newer_schema_that_comes_back_is_left_alone(self) -> None:
        await self.start()
        await self.server.foundation.database.execute(
            "INSERT INTO schema_migrations (version, name, applied_at) VALUES (9999, 'later', now())"
        )
        await self.server.stopService()
        self.cluster.stop()  # which keeps what was written just now
        await self.start()
        self.cluster.start()
        await self.until("/ready", lambda answer: b"install the newer version again" in answer.body)
        self.assertEqual((await self.ask("GET", "/api/v1/streams")).code, "database_away")
