"""The clock that a live stream has on the wire: real time, told as media time in the 27 MHz of a PCR.

The one idea: frames reach us late by whatever the network did to them, never early, so the earliest of the last
few seconds shows how the publisher's clock truly runs. Ours follows it by a rate that a receiver's clock can
follow (H.222.0 2.4.2.1 allows 30 ppm; crystals in computers need more), and jumps only when following would
take too long.
"""

import math

PCR = 27_000_000
"""Ticks of the clock in a second (H.222.0, 2.4.2.1)."""
_TICK = 300
"""Of those in one tick of media time (90 kHz)."""

WINDOW = 5.0
"""Seconds over which the earliest frame counts: longer than a stall of the publisher's network usually is."""
SILENCE = 1.0
"""Seconds without a frame that are a stall: what comes then may catch up, and is judged by what follows."""
PATIENCE = 2.0
"""Seconds after a stall in which a publisher is to catch up."""
_SETTLE = 30.0
"""Seconds in which a deviation is made good."""
MAX_RATE = 100e-6
"""How much faster or slower than real time the clock may run: the sum of two ordinary crystals' errors."""
JUMP = 0.2
"""Seconds of deviation at which following would take half an hour: the clock is set anew instead. Below the lead
that frames have before they are due, so that until then they come in time."""


class SendClock:
    """Says what media time it is on the wire. Unset until the first frame is heard."""

    __slots__ = ("_at", "_earliest", "_heard_at", "_media", "_speed", "_window_end", "set")

    def __init__(self) -> None:
        self.set = False
        self._at = 0.0
        self._heard_at = 0.0
        self._media = 0
        self._speed = float(PCR)
        self._window_end = 0.0
        self._earliest = math.inf

    @property
    def rate(self) -> float:
        """How much faster than real time it runs; within `MAX_RATE` of 0."""
        return self._speed / PCR - 1

    def pcr(self, at: float) -> int:
        """The clock at the second `at` of the reactor, not wrapped."""
        return self._media + round((at - self._at) * self._speed)

    def time(self, pcr: int) -> float:
        """The second of the reactor at which it is so late."""
        return self._at + (pcr - self._media) / self._speed

    def heard(self, dts: int, now: float) -> bool:
        """A frame of that time (90 kHz) is there. True when the clock jumped for it, which the wire must be told
        as a discontinuity; the first setting is no jump."""
        media = dts * _TICK
        if not self.set:
            self._heard_at = now
            self._anchor(media, now)
            self.set = True
            return False
        if now - self._heard_at > SILENCE:
            self._window_end, self._earliest = now + PATIENCE, math.inf
        self._heard_at = now
        late = (self.pcr(now) - media) / PCR
        if late < -JUMP:
            self._anchor(media, now)
            return True
        if late < self._earliest:
            self._earliest = late
        if now < self._window_end:
            return False
        earliest = self._earliest
        if earliest > JUMP:
            self._anchor(media, now)
            return True
        self._media, self._at = self.pcr(now), now
        self._speed = PCR * (1 - max(-MAX_RATE, min(MAX_RATE, earliest / _SETTLE)))
        self._window_end, self._earliest = now + WINDOW, math.inf
        return False

    def _anchor(self, media: int, now: float) -> None:
        self._media, self._at = media, now
        self._window_end, self._earliest = now + WINDOW, math.inf
