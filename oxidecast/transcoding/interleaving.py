"""One rendition's pictures and sound in the order of time: sound is coded sooner than pictures, and waits for them.

Whoever joins a rendition begins with its last group of pictures. Sound that had run ahead of the keyframe would be
missing from it, so it is held back until pictures of its time have come, or have not come for too long. Pure.
"""

from collections import deque
from collections.abc import Iterator

from oxidecast.formats.framed import FramedPacket
from oxidecast.media import TICKS

MOST_HELD = 2 * TICKS
"""Ticks of sound: more than an encoder's look-ahead takes. Beyond it pictures have stopped, and sound goes on alone."""


class Interleaver:
    """Give it packets as they come; it gives those whose turn it is."""

    def __init__(self, video: int, audio: int | None) -> None:
        """Numbers of the two feeds."""
        self._video = video
        self._audio = audio
        self._sound: deque[FramedPacket] = deque()
        self._reached: int | None = None
        """The last picture's dts."""

    def packet(self, packet: FramedPacket) -> Iterator[FramedPacket]:
        """All packets that can leave now, this one or others. Those of other feeds are passed over."""
        if packet.track_id == self._video:
            yield from self._release(packet.dts)
            self._reached = packet.dts
            yield packet
        elif packet.track_id == self._audio:
            self._sound.append(packet)
            reached = packet.dts - MOST_HELD
            yield from self._release(reached if self._reached is None else max(reached, self._reached))

    def flush(self) -> Iterator[FramedPacket]:
        """What is left, at a discontinuity or the end."""
        while self._sound:
            yield self._sound.popleft()
        self._reached = None

    def _release(self, until: int) -> Iterator[FramedPacket]:
        while self._sound and self._sound[0].dts <= until:
            yield self._sound.popleft()
