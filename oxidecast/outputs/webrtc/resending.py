"""What one viewer was sent, to be sent again (RTX, RFC 4588): found by its numbers in the feeds' history, and bounded.

The one idea: nothing is kept for a viewer but the spans of its numbering.
"""

from collections import deque

from oxidecast.formats.rtp_runs import Payload
from oxidecast.outputs.webrtc.feed import LIMIT
from oxidecast.outputs.webrtc.network import Network
from oxidecast.outputs.webrtc.numbering import Span

SPANS = 32
"""Times that a viewer's numbering left the feed's, of which can be sent again: more than a minute of replays."""

MAX_RESENT = 500
"""Packets in a second, at most: 5 Mbit/s. Who loses more has no room for more."""

RESENT_PART = 0.2
"""Where the room is known to be too small, such a part of it at most: what is new is worth more."""


class Resending:
    """Of one viewer."""

    __slots__ = ("_count", "_second", "_spans", "least")

    def __init__(self) -> None:
        self.least = 0
        """The first of its numbers that is worth sending again."""
        self._spans: deque[Span] = deque(maxlen=SPANS)
        self._second = self._count = 0

    def begin(self, span: Span) -> None:
        """From now on its numbers follow this span."""
        self._spans.append(span)

    def may(self, own: int, network: Network, now: float) -> bool:
        """Whether the packet with this number is sent again because it was missed."""
        if int(now) != self._second:
            self._second, self._count = int(now), 0
        most: float = MAX_RESENT
        if network.short:
            most = min(most, network.room * RESENT_PART / (8 * LIMIT))
        if own < self.least or self._count >= most:
            return False
        self._count += 1
        return True

    def find(self, own: int) -> tuple[Payload, int] | None:
        """A packet that was sent, as the payload of a retransmission, and its time; None when it is not there any
        more."""
        span = next((span for span in reversed(self._spans) if span.own <= own), None)
        if span is None:
            return None
        place = span.place + own - span.own
        frame = span.feed.holding(place)
        if frame is None:
            return None
        flags, payload = frame.payload(place)
        return (flags, (own & 0xFFFF).to_bytes(2, "big") + payload), span.stamp(frame)
