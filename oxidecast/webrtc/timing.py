"""True times of what comes by RTP: each stream's timestamps to common ticks of 90 kHz that never wrap.

The one idea: a stream's timestamps are right about distances, and sender reports (RFC 3550 6.4.1) about where
the streams stand to each other. Before both have reported, arrival stands in. What reports correct afterwards is
slewed, so that time never runs backwards; only an offset beyond `MAX_SLEWED` ahead is jumped over.
"""

from typing import Final

from oxidecast.media.packet import TICKS

SLEW: Final = 0.02
"""Of the time that passes, how much a correction may take: 2 % is not seen or heard, and 200 ms are made up in ten
seconds."""
MAX_SLEWED: Final = TICKS
"""Ticks that are slewed. What is farther ahead is jumped to at once, a gap; what is behind must be slewed."""
MAX_OFFSET: Final = 10 * TICKS
"""Ticks between what reports and arrival say, beyond which the reports are wrong and are not followed."""

_HALF, _WHOLE = 1 << 31, 1 << 32


class _Stream:
    __slots__ = ("at", "base", "correction", "first", "offset", "rate", "unwrapped")

    def __init__(self, rate: int, timestamp: int, base: int) -> None:
        self.rate = rate
        self.first = self.unwrapped = timestamp
        self.base = base
        """Ticks at `first`, as arrival had it."""
        self.correction = 0.0
        """Ticks added so far."""
        self.offset = 0.0
        """Ticks that should be added, by reports."""
        self.at = timestamp
        """The highest timestamp, up to which corrections were slewed."""

    def unwrap(self, timestamp: int) -> int:
        return self.unwrapped + ((timestamp - self.unwrapped + _HALF) % _WHOLE) - _HALF

    def raw(self, unwrapped: int) -> float:
        return self.base + (unwrapped - self.first) * TICKS / self.rate


class MediaClock:
    """The common time of a publisher's streams, named by any number (their SSRC)."""

    __slots__ = ("_reports", "_streams", "_zero")

    def __init__(self) -> None:
        self._zero: float | None = None
        self._streams: dict[int, _Stream] = {}
        self._reports: dict[int, float] = {}
        """By stream: its ticks, as arrival had them, less the sender's time in ticks."""

    def ticks(self, stream: int, rate: int, timestamp: int, now: float) -> int:
        """Presentation time of a packet, in arrival order; `now` in seconds matters for a stream's first only.

        It does not run backwards where timestamps do not (B-frames do)."""
        if self._zero is None:
            self._zero = now
        known = self._streams.get(stream)
        if known is None:
            known = self._streams[stream] = _Stream(rate, timestamp, round((now - self._zero) * TICKS))
        known.unwrapped = unwrapped = known.unwrap(timestamp)
        if unwrapped > known.at:
            passed = (unwrapped - known.at) * TICKS / known.rate
            missing = known.offset - known.correction
            if missing > MAX_SLEWED:
                known.correction = known.offset
            else:
                step = passed * SLEW
                known.correction += max(-step, min(missing, step))
            known.at = unwrapped
        return round(known.raw(unwrapped) + known.correction)

    def sender_report(self, stream: int, ntp: int, timestamp: int) -> None:
        """A report: the stream's `timestamp` is at the 64-bit `ntp`. One of a stream without packets is passed over."""
        known = self._streams.get(stream)
        if known is None:
            return
        # Whole ticks of a clock that starts in 1900 keep their precision in a float.
        self._reports[stream] = known.raw(known.unwrap(timestamp)) - ntp * TICKS / _WHOLE
        if len(self._reports) < 2:
            return
        # The stream that came earliest, by its reports, sets the pace; the others are moved forward to it, never back:
        # what was held up on its way is no earlier than it was sent.
        latest = max(self._reports.values())
        if latest - min(self._reports.values()) > MAX_OFFSET:
            return
        for name, difference in self._reports.items():
            self._streams[name].offset = latest - difference

    def forget(self, stream: int) -> None:
        """The stream has ended."""
        self._streams.pop(stream, None)
        self._reports.pop(stream, None)
