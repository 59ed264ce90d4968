"""What Prometheus reads of multicast.

Sums over all groups only rise, so what a group had sent when it was closed is kept.
"""

from collections.abc import Collection, Iterable, Iterator

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from oxidecast.interfaces import IStream
from oxidecast.outputs.multicast.group import Group
from oxidecast.outputs.multicast.sinks import totals

LABELS = ["stream", "rendition"]


class Figures:
    """The sums, and the families that a scrape wants."""

    def __init__(self) -> None:
        self._packets = 0

    def keep(self, group: Group) -> None:
        """The group is closed: count what it sent."""
        self._packets += totals(group.sink.sockets)["packets"]

    def collect(self, groups: Iterable[tuple[IStream, Group]], streams: Collection[str]) -> Iterator[Metric]:
        """The sum over all groups, and the figures of those whose stream may be a label."""
        every = [(stream, group, totals(group.sink.sockets)) for stream, group in groups]
        # The name is older than Prometheus' rule that a counter's ends with _total, so it is no counter here.
        yield GaugeMetricFamily(
            "streaming_multicast_packets_sent",
            "Datagrams sent to multicast groups since the start",
            value=self._packets + sum(sums["packets"] for _, _, sums in every),
        )
        packets = CounterMetricFamily("oxidecast_multicast_packets", "Datagrams sent", labels=LABELS)
        octets = CounterMetricFamily(
            "oxidecast_multicast_bytes", "Payload of the datagrams sent", labels=LABELS
        )
        dropped = CounterMetricFamily(
            "oxidecast_multicast_dropped_packets", "Datagrams that could not be sent", labels=LABELS
        )
        errors = CounterMetricFamily(
            "oxidecast_multicast_send_errors",
            "Calls that failed, by the system's error",
            labels=[*LABELS, "error"],
        )
        bitrate = GaugeMetricFamily(
            "oxidecast_multicast_bitrate_bps", "Bits a second on the wire", labels=LABELS
        )
        overruns = CounterMetricFamily(
            "oxidecast_multicast_overruns", "Frames left out for want of room", labels=LABELS
        )
        lateness = HistogramMetricFamily(
            "oxidecast_multicast_lateness_seconds", "How late batches left", labels=LABELS
        )
        for stream, group, sums in every:
            if stream.name not in streams:
                continue
            labels = [stream.name, group.rendition]
            packets.add_metric(labels, sums["packets"])
            octets.add_metric(labels, sums["bytes"])
            dropped.add_metric(labels, sums["dropped"])
            bitrate.add_metric(labels, group.bitrate)
            for error, count in sorted(sums["errors"].items()):
                errors.add_metric([*labels, error], count)
            if group.flow is not None:
                overruns.add_metric(labels, group.flow.overruns)
                measured = group.flow.lateness
                lateness.add_metric(labels, measured.buckets(), measured.total)
        yield from (packets, octets, dropped, errors, bitrate, overruns, lateness)
