"""The running part of the transcoder: a ladder for each live stream that asks for one.

The one idea: a listener like any plugin's. It hears of streams that begin, change and end, and all it does to them is
done by what the hub offers everybody: `subscribe`, `add_rendition`, `notice`.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from typing import Any

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from zope.interface import implementer

from oxidecast.formats.framed_messages import Thumbnail
from oxidecast.interfaces import (
    IEventListener,
    IFollowsStreams,
    IMeasured,
    IReloadable,
    IStream,
    IThumbnails,
    ITranscoderBackend,
)
from oxidecast.registry import Detached, Registry
from oxidecast.settings.sections import TranscodingSettings
from oxidecast.streams.stream import Stream
from oxidecast.transcoding.backends.probing import tried
from oxidecast.transcoding.figures import BackendStats, LadderStats, stats_of
from oxidecast.transcoding.ladder import Ladder

PROBE_AFTER = 1.0
"""Seconds after the start before encoders are tried that nobody waits for: each try loads a driver."""


@implementer(IEventListener, IFollowsStreams, IReloadable, IMeasured)
class Transcoding(Service):
    """See the module; an `Owner` of ladders."""

    log = Logger()

    def __init__(self, reactor: Any, registry: Registry, settings: TranscodingSettings) -> None:
        self.reactor = reactor
        self.settings = settings
        self.ladders: dict[str, Ladder] = {}
        """By the stream's id."""
        self.found: dict[str, tuple[bool, str]] = {}
        """By the backend's name, whether it works, and what was found or why it does not."""
        self._registry = registry
        self._counts: Counter[str] = Counter()
        self._ending: set[Deferred[None]] = set()
        self._probing: Deferred[None] | None = None
        self._later: Any = None
        self._settling: Any = None
        """All are about to be told whether there is room."""

    # -- Service

    def startService(self) -> None:
        super().startService()
        hurry = self.settings.hardware_acceleration.enabled
        self._later = self.reactor.callLater(0 if hurry else PROBE_AFTER, self._begin_probing)

    def stopService(self) -> Deferred[Any]:
        super().stopService()
        for call in (self._later, self._settling):
            if call is not None and call.active():
                call.cancel()
        for ladder in list(self.ladders.values()):
            ladder.end()
        self.ladders.clear()
        waiting = list(self._ending)
        if self._probing is not None:
            # A try of its own process: cancelling kills it, and its end is waited for.
            self._probing.cancel()
            waiting.append(self._probing)
        return DeferredList(waiting, consumeErrors=True)

    # -- IEventListener

    def stream_started(self, stream: IStream) -> None:
        self.ladders[stream.id] = Ladder(self, stream)  # type: ignore[arg-type]
        self.ladders[stream.id].settle()

    def stream_stopped(self, stream: IStream, reason: str) -> None:
        ladder = self.ladders.pop(stream.id, None)
        if ladder is not None:
            ladder.end()

    def viewer_joined(self, stream: IStream, viewer: Any) -> None: ...

    def viewer_left(self, stream: IStream, viewer: Any) -> None: ...

    def recording_closed(self, stream: IStream, path: str) -> None: ...

    def stream_changed(self, stream: IStream) -> None:
        ladder = self.ladders.get(stream.id)
        if ladder is not None:
            ladder.settle()

    def reload(self, settings: TranscodingSettings) -> None:
        self.settings = settings
        self._settle_all()

    # -- Owner

    def backend(self) -> tuple[Any, str]:
        wanted = self.settings.hardware_acceleration
        if not wanted.enabled:
            return self.software(), ""
        chosen = self._of(lambda one: one.device == wanted.device)
        if chosen is None:
            return self.software(), f"there is no plugin for the device {wanted.device}"
        if chosen.name not in self.found:
            return None, ""
        works, what = self.found[chosen.name]
        return (chosen, "") if works else (self.software(), f"{chosen.name} is not possible: {what}")

    def software(self) -> Any:
        return self._of(lambda one: one.device is None)

    def may_run(self, ladder: Ladder) -> bool:
        return self.active < self.settings.max_concurrent

    def room_changed(self) -> None:
        # Not now: whoever began or stopped is in the middle of it.
        if self.running and self._settling is None:
            self._settling = self.reactor.callLater(0, self._settle_others)

    def stopped(self, ladder: Ladder, ended: Deferred[None]) -> None:
        self._ending.add(ended)

        def gone(result: Any) -> Any:
            self._ending.discard(ended)
            return result

        ended.addBoth(gone)

    def count(self, what: str) -> None:
        self._counts[what] += 1

    def thumbnails(self) -> tuple[float, int]:
        keepers = [one.instance for one in self._registry.of(IThumbnails)]
        every = min((float(one.interval) for one in keepers), default=0.0)
        return every, max((int(one.width) for one in keepers), default=640)

    def thumbnail(self, stream: Stream, thumbnail: Thumbnail, at: float) -> None:
        for running in self._registry.of(IThumbnails):
            with suppress(Detached):
                running.call(running.instance.add, stream, thumbnail.jpeg, at, thumbnail.tile)

    @property
    def active(self) -> int:
        """Ladders, those whose child is about to be started again included."""
        return sum(ladder.counts for ladder in self.ladders.values())

    # -- figures

    def stats(self, stream_id: str) -> LadderStats | None:
        """Of a live stream that has something to make."""
        ladder = self.ladders.get(stream_id)
        return stats_of(ladder) if ladder is not None else None

    def backends(self) -> list[BackendStats]:
        """What was found of each encoder."""
        return [
            BackendStats(
                name=running.name,
                state=_STATES[self.found.get(running.name, (None, ""))[0]],
                detail=self.found.get(running.name, (None, ""))[1],
            )
            for running in self._registry.of(ITranscoderBackend)
        ]

    def metrics(self, streams: Collection[str]) -> Iterable[Metric]:
        yield GaugeMetricFamily(
            "streaming_transcoding_jobs_active", "Streams that are transcoded", value=self.active
        )
        yield GaugeMetricFamily(
            "oxidecast_transcoding_waiting",
            "Streams that have their source only, because of max_concurrent",
            value=sum(ladder.full for ladder in self.ladders.values()),
        )
        for name, text in _COUNTS.items():
            yield CounterMetricFamily(f"oxidecast_transcoding_{name}", text, value=self._counts[name])
        shown = [ladder for ladder in self.ladders.values() if ladder.stream.name in streams]
        restarts = CounterMetricFamily(
            "oxidecast_transcoding_restarts", "Children that were started again", labels=["stream"]
        )
        memory = GaugeMetricFamily(
            "oxidecast_transcoding_memory_bytes", "Memory that the child holds", labels=["stream"]
        )
        cpu = GaugeMetricFamily(
            "oxidecast_transcoding_cpu_seconds", "CPU time of the child that runs now", labels=["stream"]
        )
        by_rendition = ["stream", "rendition"]
        each = {
            name: GaugeMetricFamily(f"oxidecast_transcoding_{name}", text, labels=by_rendition)
            for name, text in _BY_RENDITION.items()
        }
        for ladder in shown:
            stats = stats_of(ladder)
            if stats is None:
                continue
            name = ladder.stream.name
            restarts.add_metric([name], stats.restarts)
            memory.add_metric([name], stats.resident_bytes)
            cpu.add_metric([name], stats.cpu_seconds)
            for one in stats.renditions:
                labels = [name, one.name]
                each["pictures"].add_metric(labels, one.made)
                for of in ("frame_rate_in", "frame_rate_out", "dropped", "duplicated", "left_out", "queue"):
                    each[of].add_metric(labels, getattr(one, of))
                if one.speed is not None:
                    each["speed"].add_metric(labels, one.speed)
        yield from (restarts, memory, cpu, *each.values())

    # -- inside

    def _of(self, fits: Callable[[Any], bool]) -> Any:
        return next(
            (one.instance for one in self._registry.of(ITranscoderBackend) if fits(one.instance)), None
        )

    def _settle_others(self) -> None:
        """There is room now, or none any more. Who waits for it comes first."""
        self._settling = None
        for ladder in sorted(self.ladders.values(), key=lambda ladder: not ladder.waits):
            if not ladder.counts and ladder.full == self.may_run(ladder):
                ladder.settle()

    def _settle_all(self) -> None:
        for ladder in list(self.ladders.values()):
            ladder.settle()

    def _begin_probing(self) -> None:
        self._probing = Deferred.fromCoroutine(self._probe())
        self._probing.addErrback(lambda failure: None)

    async def _probe(self) -> None:
        """One after another: together they would keep a small machine from its streams. The one that is to be used
        comes first."""
        wanted = self.settings.hardware_acceleration
        backends = sorted(
            self._registry.of(ITranscoderBackend), key=lambda one: one.instance.device != wanted.device
        )
        for running in backends:
            self.found[running.name] = await tried(running.instance)
            works, what = self.found[running.name]
            if works:
                self.log.info("transcoding with {name}: {what}", name=running.name, what=what)
            else:
                asked = wanted.enabled and running.instance.device == wanted.device
                (self.log.warn if asked else self.log.info)(
                    "transcoding with {name} is not possible: {what}", name=running.name, what=what
                )
            self._settle_all()


_STATES = {None: "not tried yet", True: "works", False: "unavailable"}
_COUNTS = {
    "fallbacks": "Streams that went on in software because a device failed",
    "given_up": "Ladders that were given up, because their child died too often",
}
_BY_RENDITION = {
    "pictures": "Pictures coded by the child that runs now",
    "frame_rate_in": "Pictures a second of the stream that came, over the last ten seconds",
    "frame_rate_out": "Pictures a second of the stream that were coded, over the last ten seconds",
    "speed": "How many times faster than the stream its encoder could go, over the last ten seconds",
    "dropped": "Pictures that the child that runs now was too slow for",
    "duplicated": "Pictures that were made twice: none ever is, since no frame rate is raised",
    "left_out": "Pictures that the child that runs now left out for the frame rate's ceiling",
    "queue": "Pictures that wait for the encoder",
}
