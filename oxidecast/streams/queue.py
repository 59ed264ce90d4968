"""A bounded queue between a rendition and a consumer that may be slow.

The one idea: a slow consumer loses whole groups of pictures, never half of one, and never memory: when the queue is
full everything in it is dropped, and it opens again at the next keyframe.
"""

from collections import deque
from collections.abc import Callable

from zope.interface import implementer

from oxidecast.interfaces import IRendition, ISubscriber
from oxidecast.media import Packet


@implementer(ISubscriber)
class PacketQueue:
    """Subscribe it to a rendition; take packets out with `take` whenever the consumer is ready.

    `on_ready()` is called when something can be taken and nothing could before. After a loss, and after the rendition
    restarted, `fresh` is True until packets are taken: the consumer's decoder starts anew, from `rendition.tracks`.
    """

    def __init__(self, rendition: IRendition, max_bytes: int, on_ready: Callable[[], None]) -> None:
        self.dropped = 0
        """Packets lost so far."""
        self.fresh = True
        self.over = ""
        """Why no packet follows, once that is so."""
        self._rendition = rendition
        self._max_bytes = max_bytes
        self._on_ready = on_ready
        self._packets: deque[Packet] = deque()
        self._bytes = 0
        self._awaiting_keyframe = False

    def packet(self, packet: Packet) -> None:
        size = len(packet.payload)
        if self._bytes + size > self._max_bytes:
            self.dropped += len(self._packets)
            self._empty()
            self._awaiting_keyframe = True
        if self._awaiting_keyframe:
            if size > self._max_bytes or not self._starts(packet):
                self.dropped += 1
                return
            self._awaiting_keyframe = False
        self._packets.append(packet)
        self._bytes += size
        if len(self._packets) == 1:
            self._on_ready()

    def restarted(self, reason: str) -> None:
        self.dropped += len(self._packets)
        self._empty()

    def ended(self, reason: str) -> None:
        self.over = reason
        self._on_ready()

    def take(self) -> list[Packet]:
        """Everything that waits, oldest first."""
        packets = list(self._packets)
        self._packets.clear()
        self._bytes = 0
        if packets:
            self.fresh = False
        return packets

    def _starts(self, packet: Packet) -> bool:
        """Whether a decoder can begin with it."""
        if packet.track.is_video:
            return packet.keyframe
        return not any(track.is_video for track in self._rendition.tracks)

    def _empty(self) -> None:
        self._packets.clear()
        self._bytes = 0
        self.fresh = True
