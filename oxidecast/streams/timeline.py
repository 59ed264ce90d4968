"""The one map between media time and UTC that a stream owns.

Media time starts at 0 with the stream and runs in ticks of 1/90000 s. The map is linear for the stream's whole life: a
publisher that comes back after a gap is placed where the wall clock says, so PROGRAM-DATE-TIME, RTCP and recordings
never disagree about when a picture was live.
"""

from dataclasses import dataclass

from oxidecast.media import TICKS


@dataclass(frozen=True, slots=True)
class Timeline:
    """`epoch` is the UTC time, in seconds since 1970, of media time 0."""

    epoch: float

    def utc(self, ticks: int) -> float:
        """Seconds since 1970."""
        return self.epoch + ticks / TICKS

    def ticks(self, utc: float) -> int:
        """Media time."""
        return round((utc - self.epoch) * TICKS)
