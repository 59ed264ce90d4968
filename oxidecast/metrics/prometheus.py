"""What Prometheus reads at `/metrics`.

The one idea: figures live where they arise; a scrape asks for them. Only what has no other home (HTTP requests) is
counted here.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from oxidecast.interfaces import IMeasured
from oxidecast.metrics.lateness import Lateness
from oxidecast.registry import Detached, Registry, kind_word
from oxidecast.streams.hub import Hub

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


OTHERS = "_others"
"""The label of the streams beyond `max_streams`, together; no stream can have this name. Their bytes are left out,
because a sum over changing streams would not only rise."""


class Metrics(Collector):
    """The server's own figures. Labels are bounded: routes and outputs are names from the code, streams at most
    `max_streams`."""

    def __init__(self, hub: Hub, plugins: Registry, max_streams: int, reactor: Lateness) -> None:
        self.max_streams = max_streams
        self.database_away = False
        """As the last look found it."""
        self.limited: Mapping[str, int] = {}
        """How often somebody was told to wait, by the class of what they did."""
        self.more: list[Callable[[], Iterable[Metric]]] = []
        """Who else has figures."""
        self._hub = hub
        self._plugins = plugins
        self._reactor = reactor
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def request(self, route: str, method: str, status: int) -> None:
        """Count an HTTP request; `route` and `method` are words from the code, never a client's."""
        self._requests[route, method, status] += 1

    @property
    def requests(self) -> int:
        """HTTP requests answered, since the start."""
        return self._requests.total()

    def render(self) -> bytes:
        """The text format, version 0.0.4."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        streams = [stream for stream in self._hub.streams.values() if stream.renditions]
        yield GaugeMetricFamily(
            "streaming_active_streams",
            "Streams that are live",
            value=sum(1 for stream in streams if stream.state == "live"),
        )
        yield GaugeMetricFamily(
            "streaming_total_viewers",
            "Viewers now, over all outputs",
            value=sum(s.viewer_count for s in streams),
        )
        requests = CounterMetricFamily(
            "streaming_http_requests_total", "HTTP requests answered", labels=["route", "method", "status"]
        )
        for (route, method, status), count in sorted(self._requests.items()):
            requests.add_metric([route, method, str(status)], count)
        yield requests
        yield GaugeMetricFamily(
            "oxidecast_database_up", "Whether the database answers", value=not self.database_away
        )
        limited = CounterMetricFamily(
            "oxidecast_rate_limited", "What was refused because it came too often", labels=["class"]
        )
        for kind, count in self.limited.items():
            limited.add_metric([kind], count)
        yield limited
        for figures in self.more:
            yield from figures()
        lateness = HistogramMetricFamily(
            "oxidecast_reactor_lateness_seconds", "How late the server's one loop calls what is due"
        )
        lateness.add_metric([], self._reactor.buckets(), self._reactor.total)
        yield lateness
        yield from self._streams()
        faults = CounterMetricFamily(
            "oxidecast_plugin_faults", "Exceptions that plugins raised", labels=["kind", "plugin"]
        )
        for running in self._plugins.running:
            faults.add_metric([kind_word(running.plugin), running.name], running.faults)
        yield faults
        yield from self._of_plugins([stream.name for stream in streams[: self.max_streams]])

    def _of_plugins(self, streams: Collection[str]) -> Iterator[Metric]:
        """What plugins have to say."""
        for running in list(self._plugins.running):
            if running.state == "running" and IMeasured.providedBy(running.instance):
                try:
                    yield from running.call(lambda: list(running.instance.metrics(streams)))  # noqa: B023
                except Detached:
                    continue

    def _streams(self) -> Iterator[Metric]:
        received = CounterMetricFamily("oxidecast_stream_received_bytes", "Media received", labels=["stream"])
        bitrate = GaugeMetricFamily(
            "oxidecast_stream_bitrate_bps", "Media received, bits a second", labels=["stream"]
        )
        viewers = GaugeMetricFamily("oxidecast_stream_viewers", "Viewers now", labels=["stream"])
        live = [stream for stream in self._hub.streams.values() if stream.renditions]
        for stream in live[: self.max_streams]:
            received.add_metric([stream.name], stream.source.bytes)
            bitrate.add_metric([stream.name], stream.source.bitrate)
            viewers.add_metric([stream.name], stream.viewer_count)
        others = live[self.max_streams :]
        if others:
            bitrate.add_metric([OTHERS], sum(stream.source.bitrate for stream in others))
            viewers.add_metric([OTHERS], sum(stream.viewer_count for stream in others))
        yield from (received, bitrate, viewers)
