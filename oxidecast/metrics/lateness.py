"""How late things happen, counted in buckets that a Prometheus histogram can take as they are."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence

BOUNDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5)
"""Seconds; fine around the tick of 5 ms, where a healthy process lives, coarse where it is ill."""


class Lateness:
    """A histogram of seconds."""

    __slots__ = ("_bounds", "counts", "maximum", "total")

    def __init__(self, bounds: Sequence[float] = BOUNDS) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """Per bucket, not cumulative; the last one is beyond every bound."""
        self.total = 0.0
        self.maximum = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(self._bounds, seconds)] += 1
        self.total += seconds
        if seconds > self.maximum:
            self.maximum = seconds

    @property
    def count(self) -> int:
        return sum(self.counts)

    def quantile(self, part: float) -> float:
        """The bound that `part` (0 to 1) of all were within, in seconds; 0 when there were none."""
        below, wanted = 0, part * self.count
        for bound, count in zip(self._bounds, self.counts, strict=False):
            below += count
            if below >= wanted:
                return min(bound, self.maximum)
        return self.maximum

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative, by their bounds in words: as `HistogramMetricFamily` takes them."""
        buckets, below = [], 0
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self.counts, strict=True):
            below += count
            buckets.append((bound, float(below)))
        return buckets

    def stats(self) -> Mapping[str, float]:
        """For people, in milliseconds."""
        return {
            "p50_ms": round(self.quantile(0.5) * 1000, 2),
            "p99_ms": round(self.quantile(0.99) * 1000, 2),
            "max_ms": round(self.maximum * 1000, 2),
        }
