"""Which quality a viewer watches: down as soon as its network is in trouble, up after more was tried.

The one idea: nothing that a receiver says proves that there is room for more than it gets. So after a quiet while more
is sent, a little more each time: packets that the viewer has already, again (RTX). When that makes no trouble, the
viewer goes up. When it does it stops at once, and the next try is later.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from twisted.internet.interfaces import IDelayedCall

from oxidecast.outputs.webrtc.network import ENOUGH, Network
from oxidecast.streams.wanting import RenditionSpec

HOLD = 5.0
"""Seconds without trouble, before more is tried."""

MAX_HOLD = 20.0
"""It doubles with each try in vain, up to this: a network that is well again is used within half a minute."""

STEADY = 30.0
"""Seconds after which a success is one, and the next trouble is another matter."""

MARGIN = 1.1
"""Of a quality's bitrate, to be tried for it: encoders wander."""

MORE = 1.25
"""A step: times what was sent before it."""

STEP_TIME = 0.4
"""Seconds of a step: a receiver sees the queue of a step before much is lost of the next."""

TICK = 0.05
"""Seconds between two bursts of what is tried: 50 KB of 8 Mbit/s."""

VERDICT = 1.0
"""Seconds after the last step until all that a receiver has to say of it was said: it reports once a second."""


class Quality(msgspec.Struct, frozen=True):
    """A rendition that the viewer could be sent."""

    name: str
    bitrate: int
    """Bits a second, the sound included."""
    spec: RenditionSpec | None = None
    """How it is wanted of the hub; None for what is there anyway."""


class Adapting:
    """Of one viewer. `pad` sends about so many bytes again, and answers how many it sent. Without an `offer` it has one
    quality for good."""

    __slots__ = (
        "_call",
        "_clock",
        "_hold",
        "_last",
        "_move",
        "_network",
        "_pad",
        "_qualities",
        "_rate",
        "_step_at",
        "_target",
        "_tried_at",
        "current",
        "going",
    )

    def __init__(
        self,
        network: Network,
        clock: Any,
        pad: Callable[[int], int],
    ) -> None:
        self.current = ""
        """The name of what it is sent."""
        self.going = ""
        """The name of what it will be sent."""
        self._network = network
        self._clock = clock
        self._qualities: Callable[[], Sequence[Quality]] = tuple
        self._move: Callable[[Quality], None] = _nowhere
        self._pad = pad
        self._hold = HOLD
        self._tried_at = -MAX_HOLD
        self._call: IDelayedCall | None = None
        self._target: Quality | None = None
        self._rate = self._step_at = self._last = 0.0

    def offer(
        self, current: str, qualities: Callable[[], Sequence[Quality]], move: Callable[[Quality], None]
    ) -> None:
        """It may change: `qualities` says what there is, best first; `move` begins to go over to one of them."""
        self.current, self._qualities, self._move = current, qualities, move

    def rate_of(self, measured: float) -> float:
        """Bits a second of what it is sent, of which was `measured` so much, or 0 when it is too new for that."""
        if measured:
            return measured
        qualities = self._qualities()
        at = _place(qualities, self.current)
        return qualities[at].bitrate if at is not None else 0.0

    # -- what happens

    def troubled(self) -> None:
        """The network is in trouble."""
        now = self._clock.seconds()
        if self._stop_trying() or now - self._tried_at < HOLD:
            self._hold = min(2 * self._hold, MAX_HOLD)
            self._tried_at = -MAX_HOLD
        qualities = self._qualities()
        at = _place(qualities, self.going or self.current)
        room = self._network.room
        if at is None or room >= qualities[at].bitrate * ENOUGH:
            return
        lower = next((one for one in qualities[at + 1 :] if one.bitrate <= room), qualities[-1])
        if lower is not qualities[at]:
            self._go(lower)

    def look(self) -> None:
        """Called every second or so."""
        now = self._clock.seconds()
        if self._call is not None or self.going:
            return
        if now - self._network.troubled_at < self._hold:
            return
        qualities = self._qualities()
        at = _place(qualities, self.current)
        if self._network.short:
            # Nothing lower is there: it is sent all again, and either gets it now, or says so.
            self._network.forget()
            self._tried_at = now
        elif at:
            self._try(qualities[at], qualities[at - 1], now)
        elif now - self._network.troubled_at > STEADY:
            self._hold = HOLD

    def arrived(self, name: str) -> None:
        """It is sent another quality from now on."""
        self.current, self.going = name, ""
        self._network.changed(self.rate_of(0.0), self._clock.seconds())

    def failed(self) -> None:
        """What it was to be sent is not to be had."""
        self.going = ""
        self._tried_at = -MAX_HOLD

    def stop(self) -> None:
        """The viewer is gone."""
        self._stop_trying()

    # -- inside

    def _go(self, quality: Quality) -> None:
        self.going = quality.name
        self._move(quality)

    def _try(self, now_sent: Quality, better: Quality, now: float) -> None:
        self._target = better
        self._rate, self._last, self._step_at = now_sent.bitrate * MORE, now, now + STEP_TIME
        if self._network.estimated >= better.bitrate * MARGIN:
            self._succeed()
        else:
            self._call = self._clock.callLater(TICK, self._send_more, now_sent.bitrate)

    def _send_more(self, sent: int) -> None:
        self._call = None
        now, target = self._clock.seconds(), self._target
        if target is None:
            return
        most = target.bitrate * MARGIN
        more = int((min(self._rate, most) - sent) * (now - self._last) / 8)
        self._last = now
        if more > 0 and not self._pad(more):
            self._succeed()  # There is no way to try it but to do it.
            return
        if now < self._step_at:
            self._call = self._clock.callLater(TICK, self._send_more, sent)
        elif self._rate < most:
            self._rate, self._step_at = self._rate * MORE, now + STEP_TIME
            self._call = self._clock.callLater(TICK, self._send_more, sent)
        else:
            self._call = self._clock.callLater(VERDICT, self._succeed)

    def _succeed(self) -> None:
        self._call = None
        target, self._target = self._target, None
        if target is not None:
            self._network.forget()
            self._tried_at = self._clock.seconds()
            self._go(target)

    def _stop_trying(self) -> bool:
        """Whether something was being tried."""
        call, self._call, self._target = self._call, None, None
        if call is not None:
            call.cancel()
        return call is not None


def _nowhere(quality: Quality) -> None:
    """Nothing was offered."""


def _place(qualities: Sequence[Quality], name: str) -> int | None:
    return next((at for at, one in enumerate(qualities) if one.name == name), None)
