"""The whole server on PostgreSQL, which goes away and comes back."""

import time

from twisted.internet import reactor
from twisted.internet.task import deferLater

from oxidecast.interfaces import PublishRequest
from tests.database.cluster import cluster
from tests.database.support import create_database
from tests.house import HouseCase
from tests.streams.stage import PAYLOAD, PICTURE, VIDEO, Encoder

SOON = 10.0
"""Seconds within which the API serves again."""


class OnPostgres(HouseCase):
    timeout = 60

    async def setUp(self) -> None:  # type: ignore[override]
        super().setUp()
        self.cluster = cluster()
        self.addCleanup(self.cluster.start)
        self.environ["DATABASE_URL"] = self.cluster.url(create_database(self, self.cluster))
        await self.start()

    async def test_a_stream_that_is_made_is_listed(self) -> None:
        made = await self.ask("POST", "/api/v1/streams", {"title": "Birds"}, await self.token("streamer"))
        self.assertEqual(made.status, 201, made.body)
        self.assertIn("birds", made.body.decode())
        self.assertIn("birds", (await self.ask("GET", "/api/v1/streams")).body.decode())

    async def test_an_outage_is_said_and_ends_by_itself(self) -> None:
        self.cluster.kill()
        away = await self.ask("GET", "/api/v1/streams")
        self.assertEqual((away.status, away.code), (503, "database_away"))
        self.assertIn("retry-after", away.headers)
        self.cluster.start()
        began = time.monotonic()
        while (await self.ask("GET", "/api/v1/streams")).status != 200:
            self.assertLess(time.monotonic() - began, SOON)
            await deferLater(reactor, 0.1)

    async def test_rows_about_viewers_wait_for_the_database_up_to_a_bound(self) -> None:
        """The stream goes on and is watched meanwhile; what is more than may wait is counted."""
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
