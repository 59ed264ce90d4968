"""A hub on a clock, whose streams a real database knows, with what hears of them."""

from datetime import datetime
from types import SimpleNamespace
from typing import Any

import msgspec
from twisted.internet import reactor
from twisted.internet.task import deferLater

from oxidecast.analytics.plugin import Analytics
from oxidecast.analytics.settings import AnalyticsSettings
from oxidecast.database.interface import Row
from oxidecast.database.streams import insert_stream
from oxidecast.interfaces import IEventListener
from tests.database.support import DatabaseCase
from tests.settings.support import temporary_folder
from tests.streams.stage import HubCase, Keys, info


class AnalyticsCase(DatabaseCase, HubCase):
    """`self.analytics` runs; `show` and `other` are streams of the database."""

    settings = AnalyticsSettings(addresses="full")

    async def setUp(self) -> None:  # type: ignore[override]
        await DatabaseCase.setUp(self)
        HubCase.setUp(self)
        user = await self.someone()
        self.infos = [info(name, owner_id=user.id) for name in ("show", "other")]
        for one in self.infos:
            await self.database.transaction(insert_stream, one, False)
        self.keys.infos = Keys(*self.infos).infos
        self.folder = temporary_folder(self)
        self.analytics = self.begin()

    def begin(self) -> Analytics:
        """As at the start of a server in this data directory."""
        services: Any = SimpleNamespace(
            database=self.database, reactor=self.clock, data_directory=self.folder, hub=self.hub
        )
        analytics = Analytics(self.settings, services)
        self.running = self.add("analytics", IEventListener, analytics)
        analytics.startService()
        self.addCleanup(analytics.stopService)
        return analytics

    def crash(self) -> None:
        """Nothing is written any more, and nobody is told."""
        self.running.state = "failed"
        self.analytics.writer._loop.stop()
        for loop in self.analytics._loops:
            loop.stop()

    async def written(self, seconds: float = 2.0) -> None:
        """So much time passes; then what waits is written."""
        writer = self.analytics.writer
        self.clock.advance(seconds)
        while True:
            if writer._writing is not None:
                await writer._writing
            await deferLater(reactor, 0)  # the timer is set again once this turn is quite over
            if not writer.waiting:
                return
            self.clock.advance(2.0)

    async def rows(self, table: str, order: str = "1") -> list[Row]:
        return await self.database.query(f"SELECT * FROM {table} ORDER BY {order}")

    async def row(self, table: str) -> Row:
        """The only one."""
        (row,) = await self.rows(table)
        return row


def seconds(row: Row, first: str = "started_at", last: str = "ended_at") -> float:
    """The time between two columns."""
    began, ended = (msgspec.convert(row[name], datetime) for name in (first, last))
    return round((ended - began).total_seconds(), 3)
