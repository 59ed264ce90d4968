"""Frames out of RTP packets, whatever the codec: what belongs together, and what was lost.

Packets come in order of sequence, with gaps where some were lost (a jitter buffer sees to it). A frame ends at
the marker or where the timestamp changes (RFC 6184 5.1, RFC 7798 4.1, AV1 RTP 4.2); it comes out whole or not
at all, and the frame after a loss says so.
"""

from abc import ABC, abstractmethod

import msgspec

from oxidecast.media.errors import LocalProtocolError, RemoteProtocolError

MAX_FRAME = 8 << 20
"""Bytes. A keyframe of 4K at 100 Mbit/s has 2 MB; this is what a peer can make us keep."""


class CodedFrame(msgspec.Struct, frozen=True, gc=False):
    """A frame that came whole."""

    timestamp: int
    """As sent: 32 bits, 90 kHz."""
    payload: bytes
    """As a `Packet` has it."""
    keyframe: bool
    after_loss: bool
    """True when something before it was lost: unless it is a keyframe, what it refers to may be missing."""


class Depacketizer(ABC):
    """One stream's packets back to frames."""

    __slots__ = ("_broken", "_lost", "_next", "_open", "_size", "_timestamp", "lost")

    def __init__(self) -> None:
        self._next: int | None = None
        self._timestamp = 0
        self._size = 0
        self._open = False
        """A frame has begun and its end has not come."""
        self._broken = False
        """The frame that is open will not come whole."""
        self._lost = False
        """Something was lost since the last frame that came out."""
        self.lost = 0
        """Frames of which something came, but not all."""

    def receive(self, sequence: int, timestamp: int, marker: bool, payload: bytes) -> list[CodedFrame]:
        """Take a packet; returns the frames that it completes, at most two.

        `sequence` is unwrapped: it rises by one from packet to packet, and where it rises by more, some were
        lost. Raises RemoteProtocolError on a payload that the codec's format forbids.
        """
        first = self._next is None
        gap = self._next is not None and sequence != self._next
        if self._next is not None and sequence < self._next:
            raise LocalProtocolError(f"RTP packet {sequence} comes after {self._next - 1}")
        if not payload:
            # A probe for bandwidth is no part of a frame; a gap before it shows at the next packet.
            if not gap and not first:
                self._next = sequence + 1
            return []
        self._next = sequence + 1
        done: list[CodedFrame] = []
        if self._open and timestamp != self._timestamp:
            # No marker: either its packet was lost, or the sender sets none.
            self._broken = self._broken or gap
            done += self._finish()
        if not self._open:
            self._open = True
            self._timestamp = timestamp
            self._broken = (gap or first) and not self._begins_frame(payload)
            self._lost = self._lost or gap
        elif gap:
            self._broken = self._lost = True
        self._size += len(payload)
        if self._size > MAX_FRAME:
            raise RemoteProtocolError(f"frame in RTP has more than {MAX_FRAME} bytes")
        self._take(payload)
        if marker:
            done += self._finish()
        return done

    def _finish(self) -> list[CodedFrame]:
        taken, broken = self._taken(), self._broken
        self._size, self._open, self._broken = 0, False, False
        if broken:
            self.lost += 1
            self._lost = True
            return []
        if taken is None:
            return []
        frame = CodedFrame(self._timestamp, *taken, self._lost)
        self._lost = False
        return [frame]

    @abstractmethod
    def _begins_frame(self, payload: bytes) -> bool:
        """Whether a payload can only be the first of its frame."""

    @abstractmethod
    def _take(self, payload: bytes) -> None:
        """Keep what is in a payload; sets `_broken` where a part is missing."""

    @abstractmethod
    def _taken(self) -> tuple[bytes, bool] | None:
        """The frame and whether it is a keyframe, or None where there is no picture in it; forgets it, and
        sets `_broken` where its end is missing."""
