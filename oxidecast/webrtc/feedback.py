"""Transport-wide feedback of one peer: when its packets came, told in good time, so that it finds its bitrate.

The one idea: numbers of 16 bits become ones that never wrap, and what was collected is cut into packets that can say
it: at most `MAX_FEEDBACK` numbers, and less than `MAX_STEP` between two arrivals.
"""

from typing import Final

from oxidecast.formats.rtp import nearest
from oxidecast.webrtc.reception import MAX_FEEDBACK, transport_feedback

MAX_STEP: Final = 8.0
"""Seconds between two arrivals in one packet: deltas have 16 bits of 250 us."""
MAX_PENDING: Final = 4_096
"""Packets between two feedbacks: 480 Mbit/s. What is beyond is told as lost, and the peer sends less."""


class TransportFeedback:
    """Give it packets, and take what is to be sent ten times a second."""

    __slots__ = ("_arrivals", "_count", "_highest", "_next")

    def __init__(self) -> None:
        self._arrivals: dict[int, float] = {}
        self._highest: int | None = None
        self._next = 0
        """The first number that was not told of yet."""
        self._count = 0

    def packet(self, number: int, now: float) -> None:
        """A packet with this number (16 bits) came."""
        if self._highest is None:
            self._next = self._highest = number
        number = nearest(number, self._highest)
        if number >= self._next and len(self._arrivals) < MAX_PENDING:
            self._highest = max(self._highest, number)
            self._arrivals.setdefault(number, now)

    def take(self, sender: int, ssrc: int) -> list[bytes]:
        """RTCP packets that tell all that is not told yet."""
        made = []
        numbers = sorted(self._arrivals)
        while numbers:
            first = self._next if numbers[0] - self._next < MAX_FEEDBACK else numbers[0]
            told: dict[int, float] = {}
            before = self._arrivals[numbers[0]]
            for number in numbers:
                arrival = self._arrivals[number]
                if number - first >= MAX_FEEDBACK or abs(arrival - before) >= MAX_STEP:
                    break
                told[number] = before = arrival
            made.append(transport_feedback(sender, ssrc, self._count, first, told))
            self._count += 1
            numbers = numbers[len(told) :]
            self._next = max(told) + 1
        self._arrivals.clear()
        return made
