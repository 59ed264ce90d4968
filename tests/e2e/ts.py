"""What a receiver sees of a transport stream on the wire: continuity, clocks, random access, null packets.

The one idea: everything is read from the bytes and the kernel's time stamps alone, by a few lines that share nothing
with the writer.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise
from statistics import quantiles
from typing import Any, NamedTuple

PACKET = 188
NULL = 0x1FFF
CLOCK_HZ = 27_000_000
CLOCK_CYCLE = (1 << 33) * 300


class Clock(NamedTuple):
    """A PCR, and when its datagram arrived, in seconds."""

    at: float
    value: int
    broken: bool


class Stream:
    """Reads datagrams of whole transport packets, each with the second of its arrival."""

    def __init__(self, datagrams: Iterable[tuple[float, bytes]] = ()) -> None:
        self.faults: list[str] = []
        """Breaks of continuity, and packets that are none."""
        self.packets: Counter[int] = Counter()
        """By PID."""
        self.clocks: list[Clock] = []
        self.starts: list[tuple[float, int]] = []
        """When a frame began at which decoding can start, and its PID."""
        self.broken: Counter[int] = Counter()
        """Discontinuities told, by PID."""
        self.tables: dict[int, list[float]] = defaultdict(list)
        """When sections came, by PID below 0x20 and the PMT's."""
        self.waits: list[float] = []
        """Seconds by which frames of pictures were there before they were due: decoding time less the clock."""
        self.programmes: list[tuple[int, tuple[int, ...]]] = []
        """Version and stream types of each PMT."""
        self.order: list[tuple[str, Any]] = []
        """What came after what: `table` (as in `programmes`), `frame` (its PID), `broken` (a discontinuity's PID)."""
        self._sound: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
        self._position = 0
        self._counters: dict[int, int] = {}
        for at, data in datagrams:
            self.take(at, data)

    def take(self, at: float, data: bytes) -> None:
        if len(data) % PACKET:
            self.faults.append(f"a datagram of {len(data)} bytes")
        for start in range(0, len(data), PACKET):
            self._packet(at, data[start : start + PACKET])

    def _packet(self, at: float, packet: bytes) -> None:
        if packet[0] != 0x47 or packet[1] & 0x80:
            self.faults.append(f"no transport packet: {packet[:4].hex()}")
            return
        pid = (packet[1] & 0x1F) << 8 | packet[2]
        self.packets[pid] += 1
        self._position += 1
        if pid == NULL:
            return
        flags = packet[5] if packet[3] & 0x20 and packet[4] else 0
        if flags & 0x80:
            self.broken[pid] += 1
            self.order.append(("broken", pid))
        if flags & 0x40:
            self.starts.append((at, pid))
        if flags & 0x10:
            base = int.from_bytes(packet[6:12], "big")
            if not self.clocks:
                self._clock_at = self._position
            self.clocks.append(Clock(at, (base >> 15) * 300 + (base & 0x1FF), bool(flags & 0x80)))
        if pid < 0x20 or pid == 0x1000:
            self.tables[pid].append(at)
        if pid == 0x1000 and packet[1] & 0x40:
            self._programme(packet[5:])
        payload = packet[5 + packet[4] if packet[3] & 0x20 else 4 :]
        if 0x100 <= pid < 0x1000 and packet[1] & 0x40:
            self.order.append(("frame", pid))
            self._sound[pid].append((self._position, -1, self._due(payload)))
        if 0x100 <= pid < 0x1000:
            header = 9 + payload[8] if packet[1] & 0x40 else 0
            self._sound[pid].append((self._position, len(payload) - header, 0))
        if pid == 0x100 and packet[1] & 0x40 and self.clocks:
            self._frame(at, packet[5 + packet[4] if packet[3] & 0x20 else 4 :])
        counter, moves = packet[3] & 15, bool(packet[3] & 0x10)
        before = self._counters.get(pid)
        if before is not None and counter != (before + moves) & 15 and not flags & 0x80:
            self.faults.append(f"PID {pid:#x}: counter {counter} follows {before}")
        self._counters[pid] = counter

    def _frame(self, at: float, pes: bytes) -> None:
        """The first bytes of a frame: its time, against what the clock is at this moment."""
        last = self.clocks[-1]
        now = last.value / CLOCK_HZ + at - last.at
        self.waits.append(self._due(pes) / 90_000 - now)

    @staticmethod
    def _due(pes: bytes) -> int:
        """The decoding time of a PES packet, in ticks."""
        field = pes[14:19] if pes[7] >> 6 == 3 else pes[9:14]
        value = int.from_bytes(field, "big")
        return (value >> 33 & 7) << 30 | (value >> 17 & 0x7FFF) << 15 | value >> 1 & 0x7FFF

    def _programme(self, section: bytes) -> None:
        end, at = (
            3 + ((section[1] & 0x0F) << 8 | section[2]) - 4,
            12 + ((section[10] & 0x0F) << 8 | section[11]),
        )
        kinds = []
        while at < end:
            kinds.append(section[at])
            at += 5 + ((section[at + 3] & 0x0F) << 8 | section[at + 4])
        self.programmes.append((section[5] >> 1 & 31, tuple(kinds)))
        self.order.append(("table", self.programmes[-1]))

    def sound_buffers(self, pid: int, rate: int) -> tuple[float, float]:
        """The most bytes in the first and in the main buffer of a receiver for sound (H.222.0, 2.4.2), at a constant
        rate. A PES packet's frames are taken one by one, evenly until the next one's time."""
        clock, start = self.clocks[0], self._clock_at
        arrival = lambda position: clock.value / CLOCK_HZ + (position - start) * PACKET * 8 / rate  # noqa: E731
        first = most_first = 0.0
        before = arrival(0)
        leaves: list[tuple[float, int]] = []
        main = most_main = 0.0
        events: list[tuple[float, int]] = []
        units: list[list[Any]] = []
        for position, size, due in self._sound[pid]:
            now = arrival(position)
            if size < 0:
                units.append([due / 90_000, 0])
                continue
            drained = min(first, (now - before) * 2_000_000 / 8)
            first, before = first - drained + PACKET, now
            most_first = max(most_first, first)
            events.append((now + first * 8 / 2_000_000, size))
            units[-1][1] += size
        for unit, following in pairwise(units):
            frames = max(1, round((following[0] - unit[0]) * 48_000 / 1024))
            leaves += [(unit[0] + n * 1024 / 48_000, -(unit[1] // frames)) for n in range(frames)]
        for _, size in sorted([*events, *leaves]):
            main = max(0.0, main + size)
            most_main = max(most_main, main)
        return most_first, most_main

    def clock_intervals(self) -> list[float]:
        """Seconds from each PCR to the next, by the clock itself."""
        return [
            (later.value - earlier.value) % CLOCK_CYCLE / CLOCK_HZ
            for earlier, later in pairwise(self.clocks)
            if not later.broken
        ]

    def clock_jitter(self) -> list[float]:
        """How far each PCR's arrival is from where the whole stream's clock would have it, in seconds from the
        earliest. Over a minute the two clocks' drift shows too, so the best line is taken out."""
        first = self.clocks[0]
        points = [
            (clock.at - first.at, (clock.value - first.value) % CLOCK_CYCLE / CLOCK_HZ)
            for clock in self.clocks
        ]
        late = [at - value for at, value in points]
        mean_x = sum(value for _, value in points) / len(points)
        mean_y = sum(late) / len(late)
        spread = sum((value - mean_x) ** 2 for _, value in points) or 1.0
        slope = sum((v - mean_x) * (y - mean_y) for (_, v), y in zip(points, late, strict=True)) / spread
        flat = [y - slope * (v - mean_x) for (_, v), y in zip(points, late, strict=True)]
        return [value - min(flat) for value in flat]


def p99(values: list[float]) -> float:
    """The value that 99 of 100 are below."""
    return quantiles(values, n=100)[98]
