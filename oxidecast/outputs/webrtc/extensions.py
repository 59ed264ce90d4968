"""What packets of pictures say besides (RFC 8285 4.2): when they left (abs-send-time), and how long they are to be held
(playout-delay).

The one idea: it is one for all packets of a frame, so that it costs a viewer next to nothing (0.002 % of a core), and
the receiver does the estimating. Numbers that go on from packet to packet (transport-wide congestion control) cost
0.03 % of a core a viewer, for 17 answers a second in place of 4, and leave the estimating to us; they would tell of
trouble a third of a second sooner.
"""

from collections.abc import Iterable
from typing import Final

SEND_TIME: Final = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"
"""When a packet left. Without it a receiver compares arrivals with the frames' own times, which a burst has not."""

PLAYOUT_DELAY: Final = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay"
"""The least and the most time that a frame is held. A receiver that does not send knows no round trip, so it does not
wait for what is sent again."""

TAKEN: Final = (SEND_TIME, PLAYOUT_DELAY)

SIZE: Final = 12
"""Bytes in each packet, at most."""

SHORT: Final = 14
"""The highest number of an extension whose header has one byte."""

_LONGEST: Final = 0xFFF


class Extensions:
    """Those of one viewer, by the numbers in its offer."""

    __slots__ = ("_delay", "_send_time")

    def __init__(self, agreed: Iterable[tuple[int, str]]) -> None:
        numbers = {name: number for number, name in agreed}
        self._send_time = numbers.get(SEND_TIME, 0)
        self._delay = numbers.get(PLAYOUT_DELAY, 0)

    def at(self, now: float, delay: float | None) -> bytes:
        """The whole header extension at this second, empty where there is nothing to say. `delay` is the least that a
        frame is to be held, in seconds; None says nothing of it."""
        body = b""
        if self._send_time:
            # 24 bits of seconds, 18 of them behind the point.
            element = (self._send_time << 4 | 2) << 24 | int(now * 262_144) & 0xFFFFFF
            body = element.to_bytes(4, "big")
        if self._delay and delay is not None:
            # Two times 12 bits of hundredths of a second.
            least = min(round(delay * 100), _LONGEST)
            body += ((self._delay << 4 | 2) << 24 | least << 12 | _LONGEST).to_bytes(4, "big")
        return (0xBEDE << 16 | len(body) // 4).to_bytes(4, "big") + body if body else b""
