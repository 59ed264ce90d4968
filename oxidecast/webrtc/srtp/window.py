"""Which packets of one sender have come already (RFC 3711 3.3.1 and 3.3.2)."""

from oxidecast.media.errors import RemoteProtocolError

WINDOW = 1_024
"""Packets behind the newest one that may still come: a second of 10 Mbit/s, the most that a retransmission
takes. RFC 3711 3.3.2 asks for at least 64."""

_MASK = (1 << WINDOW) - 1


class ReplayWindow:
    """The newest index, and a bit for each of the `WINDOW` before it. Nothing moves before `accept`, which is
    for packets that proved authentic."""

    __slots__ = ("_newest", "_seen")

    def __init__(self) -> None:
        self._newest = -1
        self._seen = 0

    def estimate(self, sequence: int) -> int:
        """The 48-bit index of a 16-bit sequence number: the one that is nearest to the newest. The roll-over
        counter of a stream's first packet is zero, so senders start in the lower half (RFC 3711 3.3.1)."""
        newest = self._newest
        if newest < 0:
            return sequence
        distance = (sequence - newest) & 0xFFFF
        return newest + distance - (0x10000 if distance >= 0x8000 else 0)

    def check(self, index: int) -> None:
        """Raises RemoteProtocolError when the index came before, or may have."""
        behind = self._newest - index
        if behind < 0:
            return
        if index < 0 or behind >= WINDOW:
            raise RemoteProtocolError(
                f"SRTP index is {behind} behind the newest: too old to be told from a replay"
            )
        if self._seen >> behind & 1:
            raise RemoteProtocolError("SRTP index came before: a replay")

    def accept(self, index: int) -> None:
        """Note that an authentic packet had this index."""
        ahead = index - self._newest
        if ahead > 0:
            self._seen = (self._seen << ahead & _MASK | 1) if ahead < WINDOW else 1
            self._newest = index
        else:
            self._seen |= 1 << -ahead
