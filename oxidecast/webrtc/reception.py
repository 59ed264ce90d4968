"""What a receiver says of a stream: report blocks (RFC 3550 6.4.1, A.3, A.8), and transport-wide feedback
(draft-holmer-rmcat-transport-wide-cc-extensions-01). Pure figures; whoever writes RTCP puts them into packets."""

from collections.abc import Mapping
from struct import Struct
from typing import Final

from oxidecast.formats.rtp import nearest
from oxidecast.media.errors import LocalProtocolError

MAX_FEEDBACK: Final = 512
"""Packets that one feedback tells of: 50 ms at 100 Mbit/s, in less than a datagram."""

_BLOCK = Struct(">IIIIII")
_FEEDBACK = Struct(">BBHIIHHI")
_TRANSPORT_FEEDBACK, _FORMAT = 205, 15
_TICK = 250e-6
"""Seconds of a receive delta (3.1.5)."""
_REFERENCE = 256
"""Receive deltas in a unit of the reference time, 64 ms."""
_VECTOR = 7
"""Two-bit symbols in a status vector chunk."""
_MOST_LOST, _LEAST_LOST = (1 << 23) - 1, -(1 << 23)


class Reception:
    """The figures of one stream. `rate` is that of its RTP clock."""

    __slots__ = (
        "_base",
        "_before",
        "_highest",
        "_jitter",
        "_rate",
        "_report",
        "_transit",
        "passed",
        "received",
    )

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._base: int | None = None
        self._highest = 0
        self._jitter = 0.0
        self._transit: float | None = None
        self._before = (0, 0)
        """Expected and received at the last report."""
        self._report: tuple[int, float] | None = None
        self.received = 0
        self.passed = (0, 0)
        """Expected and received between the last two reports."""

    def packet(self, sequence: int, timestamp: int, now: float) -> None:
        """Count a packet as it came (no retransmissions: RFC 4588 8.3); both numbers as on the wire."""
        if self._base is None:
            self._base = self._highest = sequence
        self._highest = max(self._highest, nearest(sequence, self._highest))
        self.received += 1
        transit = now * self._rate - timestamp
        if self._transit is not None:
            # Timestamps wrap, so only the difference of two is of use.
            moved = (transit - self._transit + (1 << 31)) % (1 << 32) - (1 << 31)
            self._jitter += (abs(moved) - self._jitter) / 16
        self._transit = transit

    def sender_report(self, ntp: int, now: float) -> None:
        """A sender report came, with this 64-bit NTP time."""
        self._report = ntp >> 16 & 0xFFFFFFFF, now

    @property
    def jitter(self) -> int:
        """In ticks of the stream's clock (A.8)."""
        return min(int(self._jitter), 0xFFFFFFFF)

    def block(self, ssrc: int, now: float) -> bytes:
        """The report block, 24 bytes. Its fraction is of what came since the last one was made."""
        expected = 0 if self._base is None else self._highest - self._base + 1
        lost = expected - self.received
        since, came = expected - self._before[0], self.received - self._before[1]
        self._before = expected, self.received
        self.passed = since, came
        fraction = min((since - came << 8) // since, 255) if since > came else 0
        last, delay = 0, 0
        if self._report is not None:
            last, delay = self._report[0], min(int((now - self._report[1]) * 65_536), 0xFFFFFFFF)
        lost = max(_LEAST_LOST, min(lost, _MOST_LOST))
        return _BLOCK.pack(
            ssrc, fraction << 24 | lost & 0xFFFFFF, self._highest & 0xFFFFFFFF, self.jitter, last, delay
        )


def transport_feedback(
    sender: int, ssrc: int, count: int, first: int, arrivals: Mapping[int, float]
) -> bytes:
    """One RTCP packet of transport-wide feedback, the `count`th (modulo 256).

    `arrivals` has the seconds at which packets came, by unwrapped transport-wide numbers from `first` on; what is
    missing up to the highest was lost. At most MAX_FEEDBACK numbers; a delta that does not fit 16 bits (8 s) is
    our own mistake: begin another packet there.
    """
    if not arrivals:
        raise LocalProtocolError("transport-wide feedback needs a packet that came")
    last = max(arrivals)
    if min(arrivals) < first or last - first >= MAX_FEEDBACK:
        raise LocalProtocolError(
            f"transport-wide feedback of {first} to {last} is too long, or begins too late"
        )
    reference = round(arrivals[min(arrivals)] / _TICK) // _REFERENCE
    at = reference * _REFERENCE
    symbols: list[int] = []
    deltas: list[bytes] = []
    for number in range(first, last + 1):
        arrival = arrivals.get(number)
        if arrival is None:
            symbols.append(0)
            continue
        delta, at = round(arrival / _TICK) - at, round(arrival / _TICK)
        if not -0x8000 <= delta <= 0x7FFF:
            raise LocalProtocolError(f"transport-wide feedback cannot say a delta of {delta * _TICK} s")
        small = 0 <= delta <= 0xFF
        symbols.append(1 if small else 2)
        deltas.append(delta.to_bytes(1 if small else 2, "big", signed=not small))
    body = b"".join((_chunks(symbols), *deltas))
    body += bytes(-len(body) % 4)
    return (
        _FEEDBACK.pack(
            0x80 | _FORMAT,
            _TRANSPORT_FEEDBACK,
            (_FEEDBACK.size + len(body)) // 4 - 1,
            sender,
            ssrc,
            first & 0xFFFF,
            last - first + 1,
            (reference & 0xFFFFFF) << 8 | count & 0xFF,
        )
        + body
    )


def _chunks(symbols: list[int]) -> bytes:
    """Runs where one is longer than a vector, else vectors of two-bit symbols (3.1.3, 3.1.4)."""
    made: list[int] = []
    at = 0
    while at < len(symbols):
        run = 1
        while at + run < len(symbols) and symbols[at + run] == symbols[at]:
            run += 1
        if run > _VECTOR:
            made.append(symbols[at] << 13 | run)
            at += run
            continue
        chunk = 0xC000
        for place, symbol in enumerate(symbols[at : at + _VECTOR]):
            chunk |= symbol << 2 * (_VECTOR - 1 - place)
        made.append(chunk)
        at += _VECTOR
    return b"".join(chunk.to_bytes(2, "big") for chunk in made)
