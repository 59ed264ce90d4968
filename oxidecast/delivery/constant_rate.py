"""A flow of an exact bit rate, as headends and modulators want it.

The one idea: datagram n leaves at start + n x size / rate, whether there is something to send or not; what the
queue cannot fill, null packets do. The PCR in a datagram is the time of its own place in that plan, so that the
clock agrees with the count of bits as well as with the wall (H.222.0, 2.4.2.2).
"""

import math
from collections.abc import Callable, Sequence

from oxidecast.delivery.pacing import (
    CLOCK_INTERVAL,
    DATAGRAM,
    SLOW,
    TABLES_INTERVAL,
    TICK,
    DatagramSink,
    Flow,
    TransportStream,
)
from oxidecast.delivery.send_clock import SendClock
from oxidecast.formats.mpegts import PACKET_SIZE
from oxidecast.media import LocalProtocolError

MAX_DELAY = 0.65
"""Seconds from publish to wire that a packet is admitted for; the rest up to 700 ms is the tick's and ours for
being late. The writer's `lead` must be longer, and is at most a second (H.222.0, 2.4.2.6)."""
SKIP = 0.5
"""Seconds behind its plan at which a flow gives the missed time up: it cannot be caught up before frames are due."""
BURST = 7
"""Datagrams in one call: enough to share its cost, and a switch's smallest buffer holds them."""
_OVERHEAD = (4 / TABLES_INTERVAL + 1 / (CLOCK_INTERVAL - SLOW)) * PACKET_SIZE * 8
"""Bits per second of tables and clock at most: 120 kbit/s."""
MIN_RATE = 2 * _OVERHEAD
_TS_GROWTH = PACKET_SIZE / (PACKET_SIZE - 4)
_TS_MORE = 2 * PACKET_SIZE
"""What a frame grows by in transport packets: headers, and stuffing in the last one."""


class ConstantRate(Flow):
    """`rate` is in bits per second of transport stream; `burst` is how many datagrams may leave back to back.

    With `burst` 1 the kernel is given them one by one; those of one tick still follow on each other closely.
    """

    def __init__(
        self,
        name: str,
        stream: TransportStream,
        clock: SendClock,
        sinks: Sequence[DatagramSink],
        seconds: Callable[[], float],
        size: int = DATAGRAM,
        *,
        rate: int,
        burst: int = BURST,
    ) -> None:
        super().__init__(name, stream, clock, sinks, seconds, size)
        if rate < MIN_RATE:
            raise LocalProtocolError(f"a constant rate of {rate} bit/s leaves no room for media")
        if burst < 1:
            raise LocalProtocolError("a burst is at least one datagram")
        self.rate = rate
        self.burst = burst
        self.nulls = 0
        """Bytes of null packets sent."""
        self.interval = SLOW if SLOW * rate <= burst * size * 8 else TICK
        self._burst_size = burst * size
        self._spacing = size * 8 / rate
        self._start = 0.0
        self._next = 0
        """The number of the datagram that is next in the plan."""
        self._most = 2 * math.ceil(self.interval / self._spacing)
        self._room = int(MAX_DELAY * (rate - _OVERHEAD) / 8)

    def admits(self, size: int) -> bool:
        return self._queue.size + size * _TS_GROWTH + _TS_MORE <= self._room or self._overrun(
            f"the source brings more than the constant rate of {self.rate} bit/s carries"
        )

    def put(self, data: bytes) -> None:
        self._started = True
        self._queue.put(data)

    def serve(self, now: float) -> None:
        planned = self._planned(now)
        if not self._started:
            return
        if not self._next:
            self._start = planned
        start, spacing, first = self._start, self._spacing, self._next
        wanted = math.ceil((self.at - start) / spacing) - first
        if wanted * spacing > SKIP:
            missed = wanted - self._most
            self.skipped += missed * spacing
            first += missed
            wanted = self._most
        count = min(wanted, self._most)
        if count <= 0:
            return
        leaves = start + first * spacing
        parts: list[bytes] = []
        used = 0
        if leaves + count * spacing > self._head_by:
            parts = self._head(leaves, leaves + count * spacing)
            used = sum(map(len, parts))
        count = max(count, -(-used // self.size))
        self._next = first + count
        total = count * self.size
        media = min(total - used, self._queue.size)
        self._queue.take(media, parts)
        self.nulls += total - used - media
        self._send(parts, used + media, total, leaves)
