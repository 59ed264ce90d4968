"""What a child is at work on: the source's packets that are not all made into pictures yet.

The one idea: whole groups of pictures, the first of which holds the last picture that was made. A child that takes over
decodes from there, and codes from the picture after it on, so that nobody misses anything. Pure.
"""

from oxidecast.media import TICKS, Packet

LONGEST = 8 * TICKS
"""Ticks. A stream that was away for longer goes on with what is new: catching up would take its viewers too long."""


class Backlog:
    """Give it the source's packets, sound and pictures, from any point on."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._groups: list[list[tuple[Packet, int]]] = []
        """Each begins with a keyframe of pictures."""
        self._bytes = 0

    @property
    def packets(self) -> list[tuple[Packet, int]]:
        """With their samples, in the order in which they came."""
        return [one for group in self._groups for one in group]

    @property
    def until(self) -> int:
        """The last picture's time."""
        return max((packet.pts for packet, _ in self.packets if packet.track.is_video), default=-1)

    def push(self, packet: Packet, samples: int, made: int | None) -> None:
        """One more. Pictures have been made up to `made`, if any was."""
        if packet.keyframe and packet.track.is_video:
            self._groups.append([])
        elif not self._groups:
            return
        self._groups[-1].append((packet, samples))
        self._bytes += len(packet.payload)
        if packet.keyframe and packet.track.is_video:
            while len(self._groups) > 1 and made is not None and self._groups[1][0][0].pts <= made:
                self._forget()
        if self._bytes > self._max_bytes or packet.dts - self._groups[0][0][0].dts > LONGEST:
            self.shorten()
            if self._bytes > self._max_bytes:
                self.clear()

    def shorten(self) -> None:
        """To the last group."""
        while len(self._groups) > 1:
            self._forget()

    def clear(self) -> None:
        self._groups.clear()
        self._bytes = 0

    def _forget(self) -> None:
        self._bytes -= sum(len(packet.payload) for packet, _ in self._groups.pop(0))
