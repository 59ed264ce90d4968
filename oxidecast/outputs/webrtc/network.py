"""What one viewer's network carries, from what its receiver says. Pure: numbers and times in, `room` and `short` out.

The one idea: an estimate (REMB) is believed when it *falls*, for then the receiver saw a queue grow at what it gets.
That it is low says nothing: a receiver does not know of more than it was ever sent, and after a fall its estimate rises
by a few percent a second, or not at all. So the room is unknown until there is trouble, and after it until somebody has
tried for more. Trouble is also what is lost in bulk, where no queue is, and a way that became long.
"""

import math

FELL = 0.97
"""Of the estimate before: less is a fall. Receivers multiply by 0.85 (draft-ietf-rmcat-gcc 5.5)."""

ENOUGH = 0.8
"""Of what is sent: a room below is too small. A queue that was no more than a hiccup gives an estimate of 0.85."""

MUCH_LOST = 0.1
"""Of the packets: more is no noise of a radio link (draft-ietf-rmcat-gcc 6)."""

REPORTED = 300
"""Packets that are looked at together in reports: where one in twenty is lost, a tenth of so many never is."""

MANY_MISSED = 20
"""Packets, of at most `WINDOW`: fewer are no measure of loss. Where one in twenty is lost at random, this many are once
in days."""

WINDOW = 100
"""Packets in a row that are looked at together."""

MOST_LOST = 0.5
"""Taken for lost at most: a moment without any network says nothing of its room."""

SETTLING = 1.5
"""Seconds after a change in which reports still tell of what was sent before it."""

LEAST_ROOM = 50_000
"""Bits a second: whoever is there has as much, whatever is said. It is sound, and a keyframe now and then."""

NOISY = 5
QUIET = 60.0
"""Packets that are missed before it counts as what the way is like; and seconds without any, until it does not."""

PATIENCE = 0.1
MOST_PATIENCE = 0.5
"""Seconds, besides one and a half round trips, that a receiver is to hold frames on such a way: then what is sent again
comes in time. And at most."""

LONGER = 0.25
"""Seconds by which a round trip is longer than the shortest one when there is a queue on the way."""

QUEUED = 0.25
"""Seconds of the room that are taken to wait on the way already when trouble is heard of."""


class Network:
    """See the module. Times are seconds of any clock, rates bits a second."""

    __slots__ = (
        "_by_delay",
        "_by_loss",
        "_changed_at",
        "_highest",
        "_lost_before",
        "_missed",
        "_missed_at",
        "_misses",
        "_owed",
        "_owed_at",
        "_queued",
        "_sent_before",
        "_shortest",
        "_since",
        "estimated",
        "short",
        "troubled_at",
    )

    def __init__(self) -> None:
        self.short = False
        """Whether what is sent is more than what gets through."""
        self.troubled_at = -math.inf
        self._by_delay = self._by_loss = math.inf
        self.estimated = 0
        """Bits a second, as the receiver said last."""
        self._lost_before = self._sent_before = 0
        self._queued = 0.0
        self._changed_at = -math.inf
        self._shortest = math.inf
        self._missed = self._misses = 0
        self._missed_at = -math.inf
        self._since = self._highest = -1
        self._owed = 0.0
        self._owed_at = 0.0

    @property
    def room(self) -> float:
        """Infinite while nothing speaks for less."""
        return max(min(self._by_delay, self._by_loss), LEAST_ROOM)

    # -- what the receiver says; the answers are whether it is trouble

    def estimate(self, bitrate: int, now: float) -> bool:
        """REMB."""
        before, self.estimated = self.estimated, bitrate
        if bitrate < before * FELL:
            self._by_delay = bitrate
            return self._trouble(now)
        if self._by_delay < math.inf:
            self._by_delay = bitrate
        return False

    def report(self, lost: int, sent: int, trip: float, rate: float, now: float) -> bool:
        """A report block: packets lost in all, of those `sent` until now, and a round trip that was measured anew (else
        0), when `rate` was sent. Browsers report with all that they say, so a block alone may be of a few packets."""
        queued = 0.0
        if trip > 0:
            self._shortest = min(self._shortest, trip)
            queued, self._queued = min(self._queued, trip - self._shortest), trip - self._shortest
        if not rate or now - self._changed_at < SETTLING:
            self._lost_before, self._sent_before = lost, sent
            return False
        if queued > LONGER:
            self._by_delay = min(self._by_delay, rate * ENOUGH * ENOUGH)
            return self._trouble(now)
        if sent - self._sent_before < REPORTED:
            return False
        part = (lost - self._lost_before) / (sent - self._sent_before)
        self._lost_before, self._sent_before = lost, sent
        return part > MUCH_LOST and self._lost(part, rate, now)

    def missed(self, number: int, rate: float, now: float) -> bool:
        """The packet with this number, which never wraps, is missed. A receiver says so again and again."""
        if number <= self._highest:
            return False
        self._highest = number
        self._misses = self._misses + 1 if now - self._missed_at <= QUIET else 1
        self._missed_at = now
        if not rate:
            return False
        if number - self._since >= WINDOW:
            self._missed, self._since = 0, number
        self._missed += 1
        return self._missed >= MANY_MISSED and self._lost(
            self._missed / (number - self._since + 1), rate, now
        )

    # -- what is made of it

    def is_noisy(self, now: float) -> bool:
        """Whether packets get lost again and again."""
        return self._misses >= NOISY and now - self._missed_at <= QUIET

    def patience(self, trip: float, now: float) -> float | None:
        """How long the receiver is to hold frames; None where there was never a reason to say so."""
        if self.is_noisy(now):
            return min(1.5 * trip + PATIENCE, MOST_PATIENCE)
        return 0.0 if self._misses >= NOISY else None

    def settle(self, rate: float) -> None:
        """`rate` is what is sent, 0 where that is not known."""
        short = self.room < rate * ENOUGH
        if not self.short:
            self._owed = 0.0
        self.short = short

    def changed(self, rate: float, now: float) -> None:
        """Something else is sent from now on, of this `rate`."""
        self._changed_at, self._queued = now, 0.0
        self.short = False
        self.settle(rate)

    def queued(self, now: float) -> None:
        """What is on its way is more than what was counted."""
        if self.short:
            self._owed, self._owed_at = max(self._behind(now), QUEUED * self.room), now

    def sent(self, size: int, now: float) -> float:
        """So many bytes were sent although it is short; how many seconds the network needs for what waits there."""
        self._owed, self._owed_at = self._behind(now) + size * 8, now
        return self._owed / self.room

    def behind(self, now: float) -> float:
        """The same, of what was sent before."""
        return self._behind(now) / self.room if self.short else 0.0

    def forget(self) -> None:
        """What was known of the room is worth nothing any more: more than that got through, or is to be tried."""
        self._by_delay = self._by_loss = math.inf
        self.short = False

    # -- inside

    def _lost(self, part: float, rate: float, now: float) -> bool:
        # Of what is sent, and not of what was thought before: or one loss after the other would leave nothing.
        self._by_loss = rate * (1 - min(part, MOST_LOST))
        self._missed, self._since = 0, self._highest + 1
        return self._trouble(now)

    def _behind(self, now: float) -> float:
        return max(0.0, self._owed - self.room * (now - self._owed_at))

    def _trouble(self, now: float) -> bool:
        self.troubled_at = now
        return True
