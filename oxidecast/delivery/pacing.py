"""When datagrams leave: one tick for all groups of the process, and what a flow of one group is.

The one idea: a timer costs as much as a send, so there is one, and flows say when they want to be called next.
A flow that sends little is called at every second tick, and where there are many, some at the even and some at the
odd ones, so that a hundred groups do not burst together; each call sends one batch.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from oxidecast.delivery.send_clock import SendClock
from oxidecast.formats.mpegts import NULL_PACKET, PACKET_SIZE
from oxidecast.media import LocalProtocolError
from oxidecast.metrics.lateness import Lateness

TICK = 0.005
"""Seconds: the reactor's timers are good for one or two milliseconds."""
SLOW = 2 * TICK
"""The interval of a flow that would fill fewer than `FAST` datagrams in it."""
FAST = 8

_TOGETHER = 32
"""Flows that are served at the same tick: what they send keeps the wire busy for a millisecond or two."""

DATAGRAM = 7 * PACKET_SIZE
"""1316 bytes: as many transport packets as Ethernet's 1500 hold."""

_LARGEST = 1 << 30
"""A burst without bound: the socket cuts it into what the kernel takes."""

CLOCK_INTERVAL = 0.035
"""Seconds that a PCR may be behind the last one. DVB allows 40 ms (ETSI TS 101 154, 4.1.5); the rest is for us
being late."""
TABLES_INTERVAL = 0.1
"""Seconds between the tables: how long a receiver that joins waits for them."""


LOG_INTERVAL = 60.0
"""Seconds between two log lines of one flow."""


class TransportStream(Protocol):
    """What a flow makes itself at the moment of sending. A `TSWriter` with a clock of its own is one."""

    def tables(self) -> bytes:
        """Transport packets of PAT, PMT and so on."""

    def clock(self, pcr: int) -> bytes:
        """One transport packet with that PCR (27 MHz)."""


class DatagramSink(Protocol):
    """Where datagrams go: a `MulticastSocket`, or what wraps them for one."""

    def send(self, data: bytes, size: int) -> None:
        """Send `data` as datagrams of `size` bytes each."""


class PacketQueue:
    """Bytes in order, cut anywhere."""

    __slots__ = ("_parts", "_start", "size")

    def __init__(self) -> None:
        self._parts: deque[bytes] = deque()
        self._start = 0
        self.size = 0

    def put(self, data: bytes) -> None:
        self._parts.append(data)
        self.size += len(data)

    def take(self, size: int, into: list[bytes]) -> None:
        """Move `size` bytes, which must be there, to the end of `into`."""
        self.size -= size
        parts, start = self._parts, self._start
        while size:
            data = parts[0]
            end = start + size
            if end < len(data):
                into.append(data[start:end])
                self._start = end
                return
            into.append(data[start:] if start else data)
            size = end - len(data)
            parts.popleft()
            self._start = start = 0


class Flow(ABC):
    """What leaves for one group. `put` it transport packets; the pacer calls `serve` when `at` has come.

    Nothing leaves before the first `put`; from then on tables and clock do, whether there are packets or not, so
    that receivers stay tuned while a publisher is away. `name` is for log lines.
    """

    log = Logger()

    def __init__(
        self,
        name: str,
        stream: TransportStream,
        clock: SendClock,
        sinks: Sequence[DatagramSink],
        seconds: Callable[[], float],
        size: int = DATAGRAM,
    ) -> None:
        if size < PACKET_SIZE or size % PACKET_SIZE:
            raise LocalProtocolError(f"a datagram of {size} bytes does not hold whole transport packets")
        self.name = name
        self.size = size
        self.at = 0.0
        """When it wants to be served; the pacer sets the first."""
        self.interval = SLOW
        self.lateness = Lateness()
        """Of each batch against the moment that was planned for it."""
        self.overruns = 0
        """Frames that were not admitted."""
        self.skipped = 0.0
        """Seconds of the plan that were given up because the process stood still."""
        self._stream = stream
        self._clock = clock
        self._sinks = sinks
        self._seconds = seconds
        self._burst_size = _LARGEST
        self._queue = PacketQueue()
        self._started = False
        self._log_at = float("-inf")
        self._clock_at = self._tables_at = self._head_by = float("-inf")
        self._switch: Callable[[], None] | None = None
        self._before_switch = 0
        """Bytes of the queue that leave before it is time for `_switch`."""

    @property
    def backlog(self) -> int:
        """Bytes that wait."""
        return self._queue.size

    @abstractmethod
    def admits(self, size: int) -> bool:
        """Whether a frame of `size` bytes, put now, leaves in time. Ask before it is written, since continuity
        counters allow no loss behind the writer: after a no, go on with the next keyframe that is admitted."""

    @abstractmethod
    def put(self, data: bytes) -> None:
        """Whole transport packets, to leave as the plan says."""

    def put_at(self, data: bytes, at: float) -> None:
        """Whole transport packets that should leave at the reactor's second `at`, where the plan knows such a thing;
        else as `put`."""
        self.put(data)

    @abstractmethod
    def serve(self, now: float) -> None:
        """Send what is due. `now` is at or after `at`."""

    def switch(self, tables: Callable[[], None]) -> None:
        """Call `tables` when all that was put until now has left: what is put from now on needs other tables, which
        then leave at once, before it."""
        if self._switch is None:
            self._switch, self._before_switch = tables, self._queue.size
            if not self._before_switch:
                self._switched()

    def _take(self, size: int, parts: list[bytes]) -> int:
        """Move at most `size` bytes of the queue to `parts`; how many it were."""
        size = min(size, self._queue.size)
        if self._switch is not None:
            size = min(size, self._before_switch)
            self._before_switch -= size
        self._queue.take(size, parts)
        if self._switch is not None and not self._before_switch:
            self._switched()
        return size

    def _switched(self) -> None:
        tables, self._switch = self._switch, None
        if tables is not None:
            tables()
            self._tables_at = self._head_by = float("-inf")

    def _overrun(self, reason: str) -> Literal[False]:
        self.overruns += 1
        now = self._seconds()
        if now >= self._log_at:
            self._log_at = now + LOG_INTERVAL
            self.log.warn("{name}: frames are left out: {reason}", name=self.name, reason=reason)
        return False

    def _planned(self, now: float) -> float:
        """The moment that this call was planned for; plans the next one on the same grid."""
        planned = self.at
        self.at = following = planned + self.interval
        if following <= now:
            self.at += (now - following) // self.interval * self.interval + self.interval
        return planned

    def _head(self, at: float, following: float) -> list[bytes]:
        """Clock and tables as far as they are due before the next batch, whose time is `following`. The clock is
        the first packet of its datagram, so that its time is the datagram's."""
        head = []
        if following - self._clock_at > CLOCK_INTERVAL:
            self._clock_at = at
            head.append(self._stream.clock(self._clock.pcr(at)))
        if following - self._tables_at > TABLES_INTERVAL:
            self._tables_at = at
            head.append(self._stream.tables())
        self._head_by = min(self._clock_at + CLOCK_INTERVAL, self._tables_at + TABLES_INTERVAL)
        return head

    def _send(self, parts: list[bytes], size: int, total: int, planned: float) -> None:
        """Send `parts`, which hold `size` bytes, filled with null packets up to `total`, which is whole datagrams."""
        if size < total:
            parts.append(NULL_PACKET * ((total - size) // PACKET_SIZE))
        data = b"".join(parts)
        self.lateness.add(max(0.0, self._seconds() - planned))
        burst = self._burst_size
        for sink in self._sinks:
            if total <= burst:
                sink.send(data, self.size)
            else:
                for start in range(0, total, burst):
                    sink.send(data[start : start + burst], self.size)

    def stats(self) -> Mapping[str, Any]:
        """Figures for the API: JSON values."""
        return {
            "backlog": self.backlog,
            "overruns": self.overruns,
            "skipped": round(self.skipped, 3),
            "lateness": self.lateness.stats(),
        }


class Pacer:
    """The tick. Runs while there are flows, and passes over ticks at which none wants to be served."""

    log = Logger()

    def __init__(self, reactor: IReactorTime) -> None:
        self.seconds = reactor.seconds
        self._reactor = reactor
        self._flows: list[Flow] = []
        self._call: IDelayedCall | None = None
        self._grid = 0.0

    def add(self, flow: Flow) -> None:
        """Serve the flow from the next tick on."""
        now = self.seconds()
        if self._call is None:
            self._grid = now
            self._call = self._reactor.callLater(TICK, self._tick)
        next_tick = self._grid + ((now - self._grid) // TICK + 1) * TICK
        turn = round((next_tick - self._grid) / TICK) % 2
        flow.at = next_tick + TICK * (turn != len(self._flows) // _TOGETHER % 2)
        self._flows = [*self._flows, flow]
        if self._call.getTime() > flow.at:
            self._call.reset(flow.at - now)

    def remove(self, flow: Flow) -> None:
        """Send nothing more of it. May be called more than once."""
        self._flows = [other for other in self._flows if other is not flow]
        if not self._flows and self._call is not None:
            self._call.cancel()
            self._call = None

    def _tick(self) -> None:
        now = self.seconds()
        self._call = None
        soon = now + TICK / 2
        following = now + SLOW
        for flow in self._flows:
            if flow.at <= soon:
                try:
                    flow.serve(now)
                except Exception:
                    self.log.failure("{name}: sending failed and is given up", name=flow.name)
                    self.remove(flow)
                    continue
            if flow.at < following:
                following = flow.at
        if self._flows:
            self._call = self._reactor.callLater(max(0.0, following - self.seconds()), self._tick)
