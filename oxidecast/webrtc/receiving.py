"""One RTP stream that comes in: packets in order, what to ask for again, and when to ask for a keyframe.

The one idea: a packet waits only for those before it that may still come. A hole is asked for at once and then once
a round trip; after `RETRIES` or `PATIENCE` it is given up, and what stands behind it goes on, with a keyframe wanted.
Time is an argument, in seconds of a clock that only rises.
"""

from typing import Final

import msgspec

from oxidecast.formats.rtp import RTPPacket, nearest
from oxidecast.media.errors import RemoteProtocolError

RETRIES: Final = 5
"""Requests for one packet: with one in ten of both ways lost, one in 3000 is not answered after five."""
PATIENCE: Final = 0.5
"""Seconds that a hole may hold up the stream: below what low latency promises, above two slow round trips."""
REORDERING: Final = 0.01
"""Seconds before a hole counts as lost: packets that overtake each other on the way come within milliseconds."""
FIRST_RTT: Final = 0.1
"""Seconds assumed for a round trip before one was measured."""
LEAST_WAIT: Final = 0.02
"""Seconds between two requests for one packet, however short the round trip."""
KEYFRAME_WAIT: Final = 0.5
"""Seconds between two requests for a keyframe: encoders take that long to make and send a large one."""
MAX_HELD: Final = 1_024
"""Packets that wait behind a hole: `PATIENCE` at 24 Mbit/s. Beyond it the hole is given up."""
MAX_MISSING: Final = 256
"""Packets that are asked for at one time. A longer hole is an outage, and is given up at once."""
MAX_JUMP: Final = 3_000
"""A sequence number farther ahead is another stream under the same name (RFC 3550 A.1, MAX_DROPOUT)."""


class _Hole(msgspec.Struct, gc=False):
    since: float
    due: float
    asked: int = 0


def original(packet: RTPPacket, ssrc: int, payload_type: int) -> RTPPacket | None:
    """The packet that a retransmission brings again (RFC 4588 4); None for a probe, which brings none."""
    if not packet.payload:
        return None
    if len(packet.payload) < 2:
        raise RemoteProtocolError("RTX packet has 1 byte, fewer than the sequence number of its original")
    return RTPPacket(
        payload_type,
        int.from_bytes(packet.payload[:2], "big"),
        packet.timestamp,
        ssrc,
        packet.payload[2:],
        packet.marker,
        packet.csrc,
        packet.extension,
    )


class ReceiveBuffer:
    """The packets of one stream. `receive` and `poll` give what is due, as pairs of an unwrapped sequence number and
    its packet, in rising order: what a `Depacketizer` takes."""

    __slots__ = (
        "_asked_keyframe",
        "_held",
        "_highest",
        "_missing",
        "_next",
        "_patience",
        "_want",
        "given_up",
        "late",
        "rtt",
    )

    def __init__(self, patience: float = PATIENCE) -> None:
        """`patience` is shorter where nothing that was lost comes again."""
        self._patience = patience
        self._next: int | None = None
        """The number that may go out next."""
        self._highest = 0
        self._held: dict[int, RTPPacket] = {}
        self._missing: dict[int, _Hole] = {}
        """Holes between `_next` and `_highest`, in rising order."""
        self._want = False
        self._asked_keyframe = float("-inf")
        self.rtt = FIRST_RTT
        """Seconds, as last measured by RTCP or ICE; whoever measures sets it."""
        self.given_up = 0
        """Packets that never came in time."""
        self.late = 0
        """Packets that came after they were given up, or twice."""

    def receive(self, packet: RTPPacket, now: float) -> list[tuple[int, RTPPacket]]:
        """Take a packet, as it came or out of a retransmission; returns those that are due now."""
        if self._next is None:
            self._next = packet.sequence + 0x10000  # so that one that comes late is not negative
            self._highest = self._next - 1
        sequence = nearest(packet.sequence, self._highest)
        if sequence < self._next - MAX_JUMP or sequence > self._highest + MAX_JUMP:
            return self._restart(packet, sequence)
        if sequence < self._next or sequence in self._held:
            self.late += 1
            return []
        self._missing.pop(sequence, None)
        self._held[sequence] = packet
        if sequence > self._highest:
            holes = range(self._highest + 1, sequence)
            self._highest = sequence
            for hole in holes:
                self._missing[hole] = _Hole(now, now + REORDERING)
        return self.poll(now)

    def poll(self, now: float) -> list[tuple[int, RTPPacket]]:
        """Give up holes whose time is over; returns the packets that are due. Call it when `next_call` says."""
        if self._next is None:
            return []
        if len(self._held) > MAX_HELD or len(self._missing) > MAX_MISSING:
            self._give_up(list(self._missing))
        else:
            self._give_up(
                [
                    number
                    for number, hole in self._missing.items()
                    if now >= hole.since + self._patience or (hole.asked >= RETRIES and now >= hole.due)
                ]
            )
        out = []
        while self._next <= self._highest and self._next not in self._missing:
            packet = self._held.pop(self._next, None)
            if packet is not None:
                out.append((self._next, packet))
            self._next += 1
        return out

    def nacks(self, now: float) -> list[int]:
        """Sequence numbers (16 bits) to ask for now; each is asked for again after a round trip."""
        due = []
        for number, hole in self._missing.items():
            if hole.due <= now and hole.asked < RETRIES:
                due.append(number & 0xFFFF)
                hole.asked += 1
                hole.due = now + max(self.rtt * 1.25, LEAST_WAIT)
        return due

    def want_keyframe(self) -> None:
        """Decoding cannot go on: the depacketizer lost a frame, or a viewer needs a beginning."""
        self._want = True

    def keyframe_came(self) -> None:
        """A keyframe came out of the depacketizer whole."""
        self._want = False

    def keyframe_due(self, now: float) -> bool:
        """Whether to send a PLI now. Counts as sent, and is true again after `KEYFRAME_WAIT` while none came."""
        if not self._want or now < self._asked_keyframe + KEYFRAME_WAIT:
            return False
        self._asked_keyframe = now
        return True

    def next_call(self) -> float | None:
        """When `poll`, `nacks` and `keyframe_due` next have something to do; None when nothing is missing."""
        times = [min(hole.due, hole.since + self._patience) for hole in self._missing.values()]
        if self._want:
            times.append(self._asked_keyframe + KEYFRAME_WAIT)
        return min(times, default=None)

    def _give_up(self, numbers: list[int]) -> None:
        for number in numbers:
            del self._missing[number]
        if numbers:
            self.given_up += len(numbers)
            self._want = True

    def _restart(self, packet: RTPPacket, sequence: int) -> list[tuple[int, RTPPacket]]:
        """Another numbering begins. Out it goes with a gap, so that the depacketizer sees a loss."""
        assert self._next is not None
        out = sorted(self._held.items())
        self.given_up += len(self._missing)
        self._held, self._missing = {}, {}
        base = self._highest + 2
        # The least number above all before that says the same 16 bits.
        self._highest = base + ((packet.sequence - base) & 0xFFFF)
        self._next = self._highest + 1
        self._want = True
        return [*out, (self._highest, packet)]
