"""Recording as an output plugin: streams whose owners want it are written to files, as they come, in threads."""

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from oxidecast.database import DatabaseError
from oxidecast.database.recordings import Recordings
from oxidecast.delivery.stored import Store
from oxidecast.interfaces import IMeasured, IOutput, IRecorder, IReloadable, IServices, IStream
from oxidecast.outputs.recording.file import INDEX_ROOM
from oxidecast.outputs.recording.recorder import StreamRecorder
from oxidecast.outputs.recording.repair import Repair
from oxidecast.outputs.recording.room import Room
from oxidecast.outputs.recording.rows import RETRY, Rows
from oxidecast.outputs.recording.settings import RecordingSettings
from oxidecast.streams.info import StreamInfo

THREADS = 4
"""Files that are written at once: a disk gains nothing from more, and one that hangs must not hold all."""


class Figures:
    """What Prometheus reads."""

    def __init__(self) -> None:
        self.active = self.failed = self.bytes = 0

    def wrote(self, size: int) -> None:
        self.bytes += size


@implementer(IOutput, IMeasured, IReloadable, IRecorder)
class RecordingOutput(Service):
    """The plugin while it runs."""

    log = Logger()

    def __init__(self, settings: RecordingSettings, services: IServices) -> None:
        self.settings = settings
        self.services = services
        storage = services.storage
        self.store = Store(storage.recordings(services.data_directory))
        self.room = Room(self.store, storage.max_storage_size, services.reactor.seconds)
        self.figures = Figures()
        recordings = Recordings(services.database, services.reactor)
        self.rows = Rows(recordings, services.reactor)
        self._repair = Repair(self.store, recordings, self.in_thread, INDEX_ROOM, self._now)
        self._repairing: Deferred[None] | None = None
        self._streams: set[StreamRecorder] = set()
        self._pool = ThreadPool(0, THREADS, "recordings")

    def seconds(self) -> float:
        return float(self.services.reactor.seconds())

    def in_thread(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        """Call it where it may wait for the disk."""
        return deferToThreadPool(self.services.reactor, self._pool, function, *args)

    # -- Service

    def startService(self) -> None:
        super().startService()
        self._pool.start()
        self._repairing = Deferred.fromCoroutine(self._put_in_order())
        self._repairing.addErrback(self._not_in_order)

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        """Every stream has ended: wait for its files, then for their rows."""
        if self._repairing is not None:
            self._repairing.cancel()
        for recorder in list(self._streams):
            recorder.closed("the server is shutting down")
        await DeferredList([part.closed for recorder in self._streams for part in recorder.parts.values()])
        await self.rows.stop()
        if self._pool.started and not self._pool.joined:
            # Its threads are joined, which the reactor must not wait for.
            reactor = self.services.reactor
            await deferToThreadPool(reactor, reactor.getThreadPool(), self._pool.stop)

    async def _put_in_order(self) -> None:
        """What an earlier run left behind, as soon as the database answers."""
        said = False
        while True:
            try:
                await self._repair.run()
            except DatabaseError as error:
                if not said:
                    self.log.warn("recordings left behind wait for the database: {error}", error=error)
                said = True
                waiting: Deferred[None] = Deferred()
                waiting.addTimeout(RETRY, self.services.reactor, onTimeoutCancel=lambda result, after: None)
                await waiting
            else:
                return

    def _not_in_order(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self.log.failure("recordings that were left behind", failure=failure)

    # -- IOutput

    def open(self, stream: IStream) -> StreamRecorder:
        recorder = StreamRecorder(self, stream)
        self._streams.add(recorder)
        return recorder

    def urls(self, info: StreamInfo) -> Mapping[str, str]:
        return {}

    def routes(self) -> Mapping[str, Any]:
        return {}  # The API's own /recordings serves the files, by their rows.

    def look(self, recorder: StreamRecorder) -> None:
        """One of its files was closed."""
        if recorder.over:
            self._streams.discard(recorder)

    # -- IRecorder

    async def stop_recording(self, recording_id: str) -> bool:
        for recorder in self._streams:
            if recording_id in recorder.parts:
                await recorder.stop(recording_id)
                return True
        return False

    # -- IReloadable, IMeasured

    def reload(self, settings: RecordingSettings) -> None:
        self.settings = settings

    def metrics(self, streams: Collection[str]) -> Iterable[Any]:
        figures = self.figures
        yield GaugeMetricFamily(
            "oxidecast_recordings_active", "Recordings being written", value=figures.active
        )
        yield CounterMetricFamily(
            "oxidecast_recordings_failed", "Recordings that failed", value=figures.failed
        )
        yield CounterMetricFamily(
            "oxidecast_recording_bytes", "Bytes written to recordings", value=figures.bytes
        )

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds(), UTC)
