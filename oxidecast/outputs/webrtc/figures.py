"""What Prometheus reads of WebRTC. Sums only rise, so what a viewer had is kept when it leaves."""

from collections.abc import Collection, Iterable, Iterator
from math import ceil

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from oxidecast.metrics.lateness import Lateness
from oxidecast.outputs.webrtc.quality import COUNTED, summed
from oxidecast.outputs.webrtc.stream import WebRTCStream
from oxidecast.outputs.webrtc.viewer import Viewer
from oxidecast.webrtc.port import WebRTCPort

FIRST_PICTURE = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 1.5, 2.0, 5.0)
"""Seconds, as the goals are: 0.3 for most, 1.5 for the first viewer of one that is made for it."""

QUANTILES = (0.5, 0.95, 1.0)
"""Of the viewers of now, who are in the order of how bad it is."""


class Sums:
    """Over all viewers who left."""

    def __init__(self) -> None:
        self.values = dict.fromkeys(COUNTED, 0)
        self.first_pictures = Lateness(FIRST_PICTURE)
        self.sessions = 0
        self.connected = 0

    def add(self, viewer: Viewer) -> None:
        self.sessions += 1
        self.connected += bool(viewer.profile)
        for name in COUNTED:
            self.values[name] += getattr(viewer.figures, name)
        _add_first(self.first_pictures, viewer)


def collect(
    port: WebRTCPort, streams: Iterable[WebRTCStream], sums: Sums, labels: Collection[str]
) -> Iterator[Metric]:
    """Of the port, and of the streams that may be labels."""
    streams = list(streams)
    viewers = [viewer for stream in streams for viewer in stream.viewers]
    yield GaugeMetricFamily("oxidecast_webrtc_sessions", "Sessions now", value=len(port))
    yield CounterMetricFamily(
        "oxidecast_webrtc_sessions_opened", "Sessions since the start", value=sums.sessions + len(viewers)
    )
    yield CounterMetricFamily(
        "oxidecast_webrtc_sessions_connected",
        "Sessions of which the handshake was done",
        value=sums.connected + sum(bool(viewer.profile) for viewer in viewers),
    )
    for name, value in _counted(sums, viewers).items():
        yield CounterMetricFamily(f"oxidecast_webrtc_{name}", COUNTED[name], value=value)
    yield from _ways(sums, viewers)
    yield CounterMetricFamily(
        "oxidecast_webrtc_failed_handshakes", "Handshakes that failed", value=port.failed_handshakes
    )
    yield CounterMetricFamily(
        "oxidecast_webrtc_expired", "Sessions of which nothing was heard any more", value=port.expired
    )
    yield CounterMetricFamily(
        "oxidecast_webrtc_refused", "Sessions that there was no room for", value=port.refused
    )
    yield GaugeMetricFamily(
        "oxidecast_webrtc_core_share",
        "Of a core, what the server's one loop uses: new viewers are refused before it is too much",
        value=port.capacity.load,
    )
    received = CounterMetricFamily(
        "oxidecast_webrtc_received_datagrams", "Datagrams that came", labels=["kind"]
    )
    for kind, count in sorted(port.datagrams.items()):
        received.add_metric([kind], count)
    yield received
    if port.number:
        yield CounterMetricFamily("oxidecast_webrtc_sent_bytes", "Datagrams sent", value=port.socket.bytes)
        yield CounterMetricFamily(
            "oxidecast_webrtc_send_calls", "System calls that sent something", value=port.socket.calls
        )
        yield CounterMetricFamily(
            "oxidecast_webrtc_lost_datagrams", "Datagrams that could not be sent", value=port.socket.dropped
        )
    watching = GaugeMetricFamily("oxidecast_webrtc_viewers", "Viewers now", labels=["stream"])
    bitrate = GaugeMetricFamily(
        "oxidecast_webrtc_bitrate_bps", "Sent to viewers lately, bits a second", labels=["stream"]
    )
    for stream in streams:
        if stream.stream.name not in labels or not stream.is_open:
            continue
        watching.add_metric([stream.stream.name], sum(v.counted is not None for v in stream.viewers))
        bitrate.add_metric([stream.stream.name], sum(v.figures.bitrate for v in stream.viewers))
    yield watching
    yield bitrate


def totals(streams: Iterable[WebRTCStream], sums: Sums) -> dict[str, float]:
    """Of all viewers: counts since the start, and how it is for those of now."""
    viewers = [viewer for stream in streams for viewer in stream.viewers]
    counted = _counted(sums, viewers)
    return {
        "sessions": sums.sessions + len(viewers),
        "connected": sums.connected + sum(bool(viewer.profile) for viewer in viewers),
        **summed(viewer.figures for viewer in viewers),
        **counted,
        "loss": round(counted["lost"] / counted["packets"], 4) if counted["packets"] else 0.0,
    }


def _counted(sums: Sums, viewers: Iterable[Viewer]) -> dict[str, int]:
    return {
        name: value + sum(getattr(viewer.figures, name) for viewer in viewers)
        for name, value in sums.values.items()
    }


def _ways(sums: Sums, viewers: list[Viewer]) -> Iterator[Metric]:
    """How far viewers are, how much they lose, and how soon they saw something."""
    for name, what, values in (
        ("round_trip_seconds", "Round trips of the viewers of now", [v.figures.round_trip for v in viewers]),
        (
            "loss_ratio",
            "Of what viewers of now were sent lately, how much was lost",
            [v.figures.loss for v in viewers],
        ),
    ):
        gauge = GaugeMetricFamily(f"oxidecast_webrtc_{name}", what, labels=["quantile"])
        values.sort()
        for quantile in QUANTILES if values else ():
            gauge.add_metric([str(quantile)], values[ceil(quantile * len(values)) - 1])
        yield gauge
    first = Lateness(FIRST_PICTURE)
    first.counts, first.total = list(sums.first_pictures.counts), sums.first_pictures.total
    for viewer in viewers:
        _add_first(first, viewer)
    histogram = HistogramMetricFamily(
        "oxidecast_webrtc_first_picture_seconds", "From a viewer's offer to its first picture"
    )
    histogram.add_metric([], first.buckets(), first.total)
    yield histogram


def _add_first(histogram: Lateness, viewer: Viewer) -> None:
    if viewer.figures.first_picture:
        histogram.add(viewer.figures.first_picture)
