"""Hears of streams and viewers, and makes the rows that are written about them.

The one idea: what is live is only looked at. An event costs a few microseconds and leaves a row with the `Writer`,
which alone knows the database; a live stream never waits for it.

A broadcast's row is there from its start on, and is written anew while it goes on, so that a crash loses a minute of
it. A viewer's row is written when the viewer has left: half the writes, and a crash loses those who watched just then.
"""

from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from oxidecast.analytics.addresses import kept
from oxidecast.analytics.on_air import OnAir
from oxidecast.analytics.settings import AnalyticsSettings
from oxidecast.analytics.writer import Writer
from oxidecast.database.broadcasts import Broadcasts
from oxidecast.database.errors import DatabaseError
from oxidecast.database.history import ViewerSession
from oxidecast.database.records import is_id, new_id, utc
from oxidecast.interfaces import IEventListener, IMeasured, IReloadable, IServices
from oxidecast.settings.private import write_private_once
from oxidecast.streams.viewer import Viewer

SILENT_INTERVALS = 5
LEAST_SILENCE = 300.0
"""A server that has not written for so many intervals, and so many seconds, is taken for dead, and its broadcasts for
over: longer than an outage of the database that people call short."""


@implementer(IEventListener, IReloadable, IMeasured)
class Analytics(MultiService):
    """The plugin while it runs."""

    log = Logger()

    def __init__(self, settings: AnalyticsSettings, services: IServices) -> None:
        super().__init__()
        self._settings = settings
        self._clock = services.reactor
        self._began = utc(services.reactor)
        self._broadcasts = Broadcasts(services.database)
        self._server_id = server_id(services.data_directory)
        self._on_air: dict[str, OnAir] = {}
        self.flooded = 0
        """Viewer sessions that were not written, because their stream had too many of them."""
        self.writer = Writer(services.database, services.reactor)
        self.writer.setServiceParent(self)
        self._loops = (LoopingCall(self.look), LoopingCall(self.close_abandoned))
        for loop in self._loops:
            loop.clock = services.reactor

    def startService(self) -> None:
        super().startService()
        for loop in self._loops:
            loop.start(self._settings.interval)

    def stopService(self) -> Deferred[Any]:
        for loop in self._loops:
            if loop.running:
                loop.stop()
        stopped: Deferred[Any] = super().stopService()
        return stopped

    def reload(self, settings: AnalyticsSettings) -> None:
        self._settings = settings

    def metrics(self, streams: Collection[str]) -> Iterable[Metric]:
        dropped = CounterMetricFamily(
            "oxidecast_rows_dropped", "Rows about streams and viewers that were given up", labels=["table"]
        )
        for table in self.writer.tables:
            flooded = self.flooded if table.table == "viewer_sessions" else 0
            dropped.add_metric([table.table], table.dropped + flooded)
        yield dropped
        yield GaugeMetricFamily(
            "oxidecast_rows_waiting",
            "Rows about streams and viewers that wait for the database",
            value=self.writer.waiting,
        )

    # -- IEventListener

    def stream_started(self, stream: Any) -> None:
        if not stream.info.owner_id:
            return  # It has no account, so nobody could ask for its history.
        on_air = self._on_air[stream.id] = OnAir(stream, new_id(), self._server_id)
        self.writer.broadcast(on_air.broadcast())

    def stream_stopped(self, stream: Any, reason: str) -> None:
        on_air = self._on_air.pop(stream.id, None)
        if on_air is not None:
            self._measure(on_air)
            self.writer.broadcast(on_air.broadcast(reason))

    def viewer_joined(self, stream: Any, viewer: Any) -> None:
        on_air = self._on_air.get(stream.id)
        if on_air is not None and on_air.joined(viewer.address):
            self.writer.broadcast(on_air.broadcast())

    def viewer_left(self, stream: Any, viewer: Any) -> None:
        on_air = self._on_air.get(stream.id)
        if on_air is None:
            return
        if not on_air.may_write_viewer():
            self.flooded += 1
            return
        self.writer.viewer(viewer.id, partial(self._session, stream.id, on_air.id, viewer))

    def recording_closed(self, stream: Any, path: str) -> None: ...

    # -- at every interval

    def look(self) -> None:
        """Measure what is live, and note how far it is."""
        for on_air in self._on_air.values():
            self._measure(on_air)
            self.writer.broadcast(on_air.broadcast())

    async def close_abandoned(self) -> None:
        """End the broadcasts of this server's earlier runs, and of servers that are gone for long."""
        silence = max(LEAST_SILENCE, SILENT_INTERVALS * self._settings.interval)
        silent_since = utc(self._clock) - timedelta(seconds=silence)
        try:
            count = await self._broadcasts.close_abandoned(self._server_id, self._began, silent_since)
        except DatabaseError as error:
            self.log.debug("whether servers crashed is looked at later: {error}", error=error)
            return
        if count:
            self.log.info("closed {count} broadcasts of servers that crashed", count=count)

    def _session(self, stream_id: str, broadcast_id: str, viewer: Viewer) -> ViewerSession:
        return ViewerSession(
            id=viewer.public_id,
            stream_id=stream_id,
            session_id=broadcast_id,
            user_id=viewer.user_id,
            connection_type=viewer.output,
            rendition=viewer.rendition,
            address=kept(viewer.address, self._settings.addresses),
            started_at=datetime.fromtimestamp(viewer.joined, UTC),
            ended_at=datetime.fromtimestamp(viewer.left, UTC),
            bytes_sent=viewer.bytes_sent,
            startup_time=viewer.startup_time,
            figures=dict(viewer.figures),
        )

    def _measure(self, on_air: OnAir) -> None:
        for row in on_air.measurements():
            self.writer.measurement(row)


def server_id(data_directory: Any) -> str:
    """The id of the server that has this data directory, the same at every start. Raises SettingsError."""
    found = write_private_once(data_directory / "server-id", f"{new_id()}\n").strip()
    return found if is_id(found) else str(uuid5(NAMESPACE_OID, found))
