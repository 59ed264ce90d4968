"""What Prometheus reads of webhooks. Labels are the names of the settings, never addresses."""

from collections.abc import Iterator, Mapping, Sequence

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from oxidecast.webhooks.courier import Courier

RESULTS = ("delivered", "failed", "refused", "given_up")
OUTCOMES = ("allowed", "refused", "failed")


def collect(couriers: Sequence[Courier], decisions: Mapping[str, Mapping[str, int]]) -> Iterator[Metric]:
    """`decisions` are the counts of each outcome, by what was decided."""
    deliveries = CounterMetricFamily(
        "oxidecast_webhooks_deliveries",
        "Events by how their posts ended; failed posts are tried again",
        labels=["endpoint", "result"],
    )
    dropped = CounterMetricFamily(
        "oxidecast_webhooks_dropped", "Events dropped from a full queue", labels=["endpoint"]
    )
    queue = GaugeMetricFamily("oxidecast_webhooks_queue", "Events that wait", labels=["endpoint"])
    for courier in couriers:
        for result in RESULTS:
            deliveries.add_metric([courier.name, result], courier.counts[result])
        dropped.add_metric([courier.name], courier.counts["dropped"])
        queue.add_metric([courier.name], len(courier.queue))
    asked = CounterMetricFamily(
        "oxidecast_webhooks_decisions",
        "Questions by what was answered; on_failure decides about those that failed",
        labels=["action", "outcome"],
    )
    for action, counts in decisions.items():
        for outcome in OUTCOMES:
            asked.add_metric([action, outcome], counts.get(outcome, 0))
    yield from (deliveries, dropped, queue, asked)
