"""The whole server on PostgreSQL, which goes away and comes back."""

import time

from twisted.internet import reactor
from twisted.internet.task import deferLater

from tests.database.cluster import cluster
from tests.database.support import create_database
from tests.house import HouseCase

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
