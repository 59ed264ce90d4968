"""A flow of an exact bit rate, as headends and modulators want it.

The one idea: datagram n leaves at start + n x size / rate, whether there is something to send or not; what the
queue cannot fill, null packets do. The PCR in a datagram is the time of its own place in that plan, so that the
clock agrees with the count of bits as well as with the wall (H.222.0, 2.4.2.2).
"""

import math
from collections import deque
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
SOUND_LEAK = 2_000_000
"""Bits a second at which a receiver's first, smallest buffer for sound empties (H.222.0, 2.4.2.4: Rx of audio): a
slower flow cannot fill it."""
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
        if size * 8 / rate > CLOCK_INTERVAL:
            raise LocalProtocolError(
                f"at a constant rate of {rate} bit/s datagrams of {size} bytes leave too seldom for the clock in them"
            )
        if burst < 1:
            raise LocalProtocolError("a burst is at least one datagram")
        self.rate = rate
        self.burst = burst
        self.nulls = 0
        """Bytes of null packets sent."""
        self.interval = SLOW if SLOW * rate <= burst * size * 8 else TICK
        self._burst_size = burst * size
        self._spacing = size * 8 / rate
        self._one_by_one = self._spacing > TICK
        """Whether each datagram has a time of its own, and not one that it shares with others of a tick."""
        self._start = 0.0
        self._next = 0
        """The number of the datagram that is next in the plan."""
        self._most = 2 * math.ceil(self.interval / self._spacing)
        self._room = int(MAX_DELAY * (rate - _OVERHEAD) / 8)
        self._sound: deque[tuple[float, bytes]] = deque()
        """What has a time to leave at, in that order."""
        self._sound_size = 0

    @property
    def backlog(self) -> int:
        return self._queue.size + self._sound_size

    def admits(self, size: int) -> bool:
        return self.backlog + size * _TS_GROWTH + _TS_MORE <= self._room or self._overrun(
            f"the source brings more than the constant rate of {self.rate} bit/s carries"
        )

    def put(self, data: bytes) -> None:
        self._started = True
        self._queue.put(data)

    def put_at(self, data: bytes, at: float) -> None:
        self._started = True
        self._sound.append((at, data))
        self._sound_size += len(data)

    def switch(self, tables: Callable[[], None]) -> None:
        # What waits for its time belongs to the old tables as well.
        while self._sound:
            self._queue.put(self._sound.popleft()[1])
        self._sound_size = 0
        super().switch(tables)

    def serve(self, now: float) -> None:
        planned = self._planned(now)
        if not self._started:
            return
        if not self._next:
            self._start = planned
        start, spacing, first = self._start, self._spacing, self._next
        if self._one_by_one:
            self.at = start + first * spacing
            until = now + TICK / 2
        else:
            until = self.at
        wanted = math.ceil((until - start) / spacing) - first
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
        used += self._take_sound(leaves, parts)
        count = max(count, -(-used // self.size))
        self._next = first + count
        if self._one_by_one:
            self.at = start + self._next * spacing
        total = count * self.size
        media = self._take(total - used, parts)
        self.nulls += total - used - media
        self._send(parts, used + media, total, leaves)

    def _take_sound(self, at: float, parts: list[bytes]) -> int:
        """Move what is due to `parts`; how many bytes it was. One PES packet a call, where more in a row would be more
        than a receiver's first buffer takes."""
        size = 0
        while self._sound and self._sound[0][0] <= at:
            data = self._sound.popleft()[1]
            parts.append(data)
            size += len(data)
            if self.rate > SOUND_LEAK:
                break
        self._sound_size -= size
        return size
