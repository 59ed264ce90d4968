"""How one viewer is served: what it said of its way, and what was done about it.

The one idea: while media flows something is only counted; who asks (the API, the row of the viewer's session) gets
all of it as one mapping of words to numbers.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from oxidecast.formats.rtcp import Report, round_trip
from oxidecast.media import TICKS

SMOOTHING: Final = 8
"""Of round trips and bitrates: each measurement moves them by so much of the difference (RFC 6298 2.3)."""

COUNTED: Final[Mapping[str, str]] = {
    "packets": "Packets of pictures, as far as viewers told of them",
    "lost": "Of these packets, those that did not come at once",
    "nacks": "Packets that viewers missed, each time that they said so",
    "resent": "Packets sent again",
    "keyframes_wanted": "Keyframes that viewers asked for",
    "replays": "Groups of pictures sent again to who asked for a keyframe",
    "switches": "Viewers that went to another rendition",
    "skips": "Times that a viewer fell behind, and was sent nothing until a keyframe",
    "dropped": "Sends that failed",
    "stalls": "Times at which the connection of a viewer by TCP took no more",
}
"""The figures that only rise, and what they are over all viewers."""


class Figures(msgspec.Struct):
    """Of one viewer."""

    bitrate: float = 0.0
    """Bits a second that were sent to it lately."""
    packets: int = 0
    """Of pictures, sent until its last report."""
    lost: int = 0
    """Of these, how many did not come at once, as it said."""
    loss: float = 0.0
    """Of its last report: 0 to 1."""
    worst_loss: float = 0.0
    jitter: float = 0.0
    """Seconds."""
    round_trip: float = 0.0
    """Seconds; 0 until it is known."""
    worst_round_trip: float = 0.0
    estimate: int = 0
    """What it thinks that its network carries, in bits a second; 0 until it says so."""
    nacks: int = 0
    """Packets that it missed, each time that it said so."""
    resent: int = 0
    keyframes_wanted: int = 0
    """PLI and FIR."""
    replays: int = 0
    """Groups of pictures that were sent again for these."""
    switches: int = 0
    """How often it went to another rendition."""
    skips: int = 0
    """Times that it fell behind, and was sent nothing until a keyframe."""
    dropped: int = 0
    """Sends that failed here."""
    stalls: int = 0
    """How often its connection took no more: by TCP only."""
    first_picture: float = 0.0
    """Seconds from its offer to the first picture that was sent; 0 before."""
    measured: tuple[float, int] | None = None
    """When the bitrate was looked at last, and the bytes until then."""

    def heard(self, report: Report, packets: int, utc: float) -> float:
        """A report about the pictures came, of which so many packets were sent. The answer is the round trip that it
        tells of, in seconds; 0 where it does not."""
        self.packets = packets
        self.lost = max(report.lost, self.lost)  # Duplicates make it fall.
        self.loss = report.fraction
        self.worst_loss = max(self.worst_loss, report.fraction)
        self.jitter = report.jitter / TICKS
        trip = round_trip(report, utc)
        if trip is not None:
            self.worst_round_trip = max(self.worst_round_trip, trip)
            self.round_trip += (trip - self.round_trip) / (SMOOTHING if self.round_trip else 1)
        return trip or 0.0

    def measure(self, now: float, sent: int) -> None:
        """So many bytes were sent until now; called every second or so."""
        if self.measured is not None and now > self.measured[0]:
            rate = (sent - self.measured[1]) * 8 / (now - self.measured[0])
            self.bitrate += (rate - self.bitrate) / (SMOOTHING if self.bitrate else 1)
        self.measured = now, sent

    def told(self) -> dict[str, float]:
        """All of them, by their names."""
        figures = msgspec.structs.asdict(self)
        del figures["measured"]
        return {name: round(value, 4) for name, value in figures.items()}


def summed(viewers: Iterable[Figures]) -> dict[str, float]:
    """Of several viewers together: sums, and the worst of what has no sum."""
    viewers = list(viewers)
    together: dict[str, float] = {name: sum(getattr(one, name) for one in viewers) for name in COUNTED}
    return {
        "bitrate": round(sum(one.bitrate for one in viewers)),
        **together,
        "loss": round(together["lost"] / together["packets"], 4) if together["packets"] else 0.0,
        "worst_loss": max((one.loss for one in viewers), default=0.0),
        "worst_round_trip": round(max((one.round_trip for one in viewers), default=0.0), 4),
        "first_picture": round(max((one.first_picture for one in viewers), default=0.0), 4),
    }
