"""`/stats` and `/streams/{stream}/stats`: what the server is doing now, and what one stream does and did."""

import os
import resource
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

import oxidecast
from oxidecast.accounts.roles import Permission
from oxidecast.interfaces import IIngest, IOutput, ITotals
from oxidecast.registry import Detached, Registry, Running
from oxidecast.streams.hub import Hub
from oxidecast.streams.rendition import Rendition
from oxidecast.streams.stream import Stream
from oxidecast.transcoding.figures import BackendStats, LadderStats
from oxidecast.transcoding.service import Transcoding
from oxidecast.web.access import StreamAccess
from oxidecast.web.api import Call, Route
from oxidecast.web.fields import Time
from oxidecast.web.history import History, HistoryStats
from oxidecast.web.stream_views import PublisherView, SlotView, publisher_view, slot_view

STATM = Path("/proc/self/statm")
DESCRIPTORS = Path("/proc/self/fd")


class ProcessStats(msgspec.Struct, frozen=True, kw_only=True):
    """The server's process. What this system does not say is null."""

    cpu_seconds: float
    resident_bytes: int | None
    open_files: int | None
    threads: int


class HTTPStats(msgspec.Struct, frozen=True, kw_only=True):
    """The HTTP port: connections now, requests since the start."""

    connections: int
    requests: int


class StreamCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Streams on the air: `waiting` are those whose publisher has gone and may come back."""

    live: int
    waiting: int
    publishers: int


class OutputStats(msgspec.Struct, frozen=True, kw_only=True):
    """One output over all streams; `faults` and `slow_calls` since the start, and what else it has to tell."""

    name: str
    state: str
    streams: int
    viewers: int
    faults: int
    slow_calls: int
    figures: dict[str, float]


class IngestStats(msgspec.Struct, frozen=True, kw_only=True):
    """One way in; `faults` and `slow_calls` since the start, and what else it has to tell."""

    name: str
    state: str
    faults: int
    slow_calls: int
    figures: dict[str, float]


class TranscodingStats(msgspec.Struct, frozen=True, kw_only=True):
    """Streams that are transcoded, and what was found of each family of encoders."""

    active: int
    backends: list[BackendStats]


class ServerStats(msgspec.Struct, frozen=True, kw_only=True):
    """The whole server; `bitrate` in bits a second, over what all publishers send."""

    version: str
    started_at: Time
    uptime: float
    streams: StreamCounts
    viewers: int
    viewers_by_output: dict[str, int]
    bitrate: int
    ingests: list[IngestStats]
    outputs: list[OutputStats]
    transcoding: TranscodingStats
    http: HTTPStats
    process: ProcessStats


class RenditionStats(msgspec.Struct, frozen=True, kw_only=True):
    """One quality; counts are since the stream's start, `bitrate` is bits a second now."""

    name: str
    bitrate: int
    packets: int
    keyframes: int
    bytes: int


class StreamStats(msgspec.Struct, frozen=True, kw_only=True):
    """One stream as it is now, with `uptime` in seconds, and as it was; `max_viewers` were the most ever."""

    is_live: bool
    state: str
    started_at: Time | None
    uptime: float
    viewers: int
    max_viewers: int
    viewers_by_output: dict[str, int]
    publisher: PublisherView | None
    renditions: list[RenditionStats]
    transcoding: LadderStats | None
    outputs: list[SlotView]
    history: HistoryStats


class StatsRoutes:
    """The handlers. `http()` gives the figures of the HTTP port."""

    def __init__(
        self,
        hub: Hub,
        registry: Registry,
        access: StreamAccess,
        history: History,
        http: Callable[[], HTTPStats],
        transcoding: Transcoding,
    ) -> None:
        self._hub = hub
        self._registry = registry
        self._access = access
        self._history = history
        self._http = http
        self._transcoding = transcoding
        self._started_at = hub.seconds()

    def routes(self) -> Sequence[Route]:
        return (
            Route("GET", "/stats", self.server, needs=Permission.READ_STATISTICS, answer=ServerStats),
            Route(
                "GET",
                "/streams/{stream}/stats",
                self.stream,
                login=True,
                answer=StreamStats,
                refusals=(403,),
            ),
        )

    async def server(self, call: Call) -> ServerStats:
        """The whole server: streams, viewers, outputs, the HTTP port and the process."""
        live = [stream for stream in self._hub.streams.values() if stream.renditions]
        viewers = _by_output(live)
        return ServerStats(
            version=oxidecast.__version__,
            started_at=datetime.fromtimestamp(self._started_at, UTC),
            uptime=self._hub.seconds() - self._started_at,
            streams=StreamCounts(
                live=sum(stream.state == "live" for stream in live),
                waiting=sum(stream.state == "waiting" for stream in live),
                publishers=sum(stream.publication is not None for stream in live),
            ),
            viewers=viewers.total(),
            viewers_by_output=dict(viewers),
            bitrate=sum(stream.source.bitrate for stream in live),
            ingests=[
                IngestStats(
                    name=running.name,
                    state=running.state,
                    faults=running.faults,
                    slow_calls=running.slow_calls.total,
                    figures=_totals(running),
                )
                for running in self._registry.running
                if running.plugin.kind is IIngest
            ],
            outputs=[
                OutputStats(
                    name=running.name,
                    state=running.state,
                    streams=sum(
                        slot.running is running and slot.output is not None
                        for stream in live
                        for slot in stream.outputs
                    ),
                    viewers=viewers[running.name],
                    faults=running.faults,
                    slow_calls=running.slow_calls.total,
                    figures=_totals(running),
                )
                for running in self._registry.running
                if running.plugin.kind is IOutput
            ],
            transcoding=TranscodingStats(
                active=self._transcoding.active, backends=self._transcoding.backends()
            ),
            http=self._http(),
            process=_process(),
        )

    async def stream(self, call: Call) -> StreamStats:
        """One stream, as it is now and as it was."""
        info = await self._access.managed(call)
        history = await self._history.totals(info)
        stream = self._hub.streams.get(info.id)
        if stream is None or not stream.renditions:
            return _idle(info.max_viewers, history)
        publication = stream.publication
        return StreamStats(
            is_live=True,
            state=stream.state,
            started_at=datetime.fromtimestamp(stream.started_at, UTC),
            uptime=max(0.0, stream.seconds() - stream.started_at),
            viewers=stream.viewer_count,
            max_viewers=max(info.max_viewers, stream.max_viewers),
            viewers_by_output=dict(_by_output([stream])),
            publisher=publisher_view(publication) if publication is not None else None,
            renditions=[_rendition(rendition) for rendition in stream.renditions.values()],
            transcoding=self._transcoding.stats(stream.id),
            outputs=[slot_view(slot) for slot in stream.outputs],
            history=history,
        )


def _idle(max_viewers: int, history: HistoryStats) -> StreamStats:
    return StreamStats(
        is_live=False,
        state="idle",
        started_at=None,
        uptime=0.0,
        viewers=0,
        max_viewers=max_viewers,
        viewers_by_output={},
        publisher=None,
        renditions=[],
        transcoding=None,
        outputs=[],
        history=history,
    )


def _by_output(streams: Iterable[Stream]) -> Counter[str]:
    return Counter(viewer.output for stream in streams for viewer in stream.viewers.values())


def _totals(running: Running) -> dict[str, float]:
    if running.state != "running" or not ITotals.providedBy(running.instance):
        return {}
    try:
        return dict(running.call(running.instance.totals))
    except Detached:
        return {}


def _rendition(rendition: Rendition) -> RenditionStats:
    return RenditionStats(
        name=rendition.name,
        bitrate=rendition.bitrate,
        packets=rendition.packets,
        keyframes=rendition.keyframes,
        bytes=rendition.bytes,
    )


def _process() -> ProcessStats:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return ProcessStats(
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        resident_bytes=_resident(),
        open_files=_open_files(),
        threads=threading.active_count(),
    )


def _resident() -> int | None:
    """Linux: proc(5), the second field of statm, in pages."""
    try:
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def _open_files() -> int | None:
    try:
        return sum(1 for _ in os.scandir(DESCRIPTORS))
    except OSError:
        return None
