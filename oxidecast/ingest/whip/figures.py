"""How the media of publishers by WHIP comes: of each, of all together, and for Prometheus."""

from collections.abc import Collection, Iterator, Mapping
from typing import Final

import msgspec
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

SMOOTHING: Final = 8
"""Of bitrates and round trips: each measurement moves them by so much of the difference (RFC 6298 2.3)."""

COUNTED: Final[Mapping[str, str]] = {
    "packets": "Packets that publishers sent",
    "lost": "Of these packets, those that did not come at once",
    "given_up": "Packets that did not come in time even when they were asked for",
    "nacks": "Packets that publishers were asked for, each time counted",
    "keyframes_wanted": "Keyframes that publishers were asked for",
    "faults": "Packets and frames of publishers that could not be read",
}
"""The figures that only rise, and what they are over all publishers."""

NOW: Final[Mapping[str, tuple[str, str]]] = {
    "bitrate": ("bitrate_bps", "What a publisher sends, bits a second"),
    "loss": ("loss_ratio", "Of what a publisher sent lately, how much did not come at once"),
    "jitter": ("jitter_seconds", "Of a publisher's pictures, or its sound where there are none"),
    "round_trip": ("round_trip_seconds", "To a publisher and back; 0 where it does not say"),
}
"""Those that are told of each stream."""


class Figures(msgspec.Struct):
    """Of one publisher."""

    bitrate: float = 0.0
    """Bits a second, lately."""
    packets: int = 0
    """That it sent, as their numbers say."""
    lost: int = 0
    loss: float = 0.0
    """Of the packets since the last look: 0 to 1."""
    worst_loss: float = 0.0
    given_up: int = 0
    jitter: float = 0.0
    """Seconds."""
    round_trip: float = 0.0
    """Seconds; 0 until it is known."""
    nacks: int = 0
    keyframes_wanted: int = 0
    faults: int = 0
    measured: tuple[float, int] | None = None
    """When the bitrate was looked at last, and the bytes until then."""

    def passed(self, expected: int, came: int) -> None:
        """So many packets of all media were expected since the last look, and so many came."""
        lost = max(expected - came, 0)  # Those that overtook each other come to more than were expected.
        self.packets += expected
        self.lost += lost
        self.loss = lost / expected if expected else 0.0
        self.worst_loss = max(self.worst_loss, self.loss)

    def measure(self, now: float, received: int) -> None:
        """So many bytes have come until now."""
        if self.measured is not None and now > self.measured[0]:
            rate = (received - self.measured[1]) * 8 / (now - self.measured[0])
            self.bitrate += (rate - self.bitrate) / (SMOOTHING if self.bitrate else 1)
        self.measured = now, received

    def trip(self, seconds: float) -> None:
        """The way to the publisher and back was measured."""
        self.round_trip += (seconds - self.round_trip) / (SMOOTHING if self.round_trip else 1)

    def told(self) -> dict[str, float]:
        """All of them, by their names."""
        figures = msgspec.structs.asdict(self)
        del figures["measured"]
        return {name: round(value, 4) for name, value in figures.items()}


class Sums:
    """Over all publishers who left, and with those who are there."""

    def __init__(self) -> None:
        self.sessions = 0
        self._values = dict.fromkeys(COUNTED, 0)

    def add(self, figures: Figures) -> None:
        """One has left."""
        self.sessions += 1
        for name in COUNTED:
            self._values[name] += getattr(figures, name)

    def totals(self, there: Collection[Figures]) -> dict[str, float]:
        return {
            "publishers": len(there),
            "sessions": self.sessions + len(there),
            "bitrate": round(sum(one.bitrate for one in there)),
            "worst_loss": round(max((one.loss for one in there), default=0.0), 4),
            "worst_round_trip": round(max((one.round_trip for one in there), default=0.0), 4),
            **self._counted(there),
        }

    def collect(self, there: Collection[Figures], streams: Mapping[str, Figures]) -> Iterator[Metric]:
        """Of the publishers who are there, and of those whose stream may be a label."""
        yield GaugeMetricFamily("oxidecast_whip_publishers", "Publishers now", value=len(there))
        for name, value in self._counted(there).items():
            yield CounterMetricFamily(f"oxidecast_whip_{name}", COUNTED[name], value=value)
        for field, (name, text) in NOW.items():
            gauge = GaugeMetricFamily(f"oxidecast_whip_{name}", text, labels=["stream"])
            for stream, figures in streams.items():
                gauge.add_metric([stream], getattr(figures, field))
            yield gauge

    def _counted(self, there: Collection[Figures]) -> dict[str, int]:
        return {
            name: value + sum(getattr(one, name) for one in there) for name, value in self._values.items()
        }
