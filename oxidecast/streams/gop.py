"""The packets since the last keyframe, so that a new subscriber starts at once with a picture.

The one idea: the cache is only ever whole. When a group of pictures outgrows a bound it is given up, and new
subscribers wait for the next keyframe instead of getting half of one.
"""

from oxidecast.media import TICKS, Packet

AUDIO_ONLY_SECONDS = 1
"""How much an audio-only rendition keeps: every packet is a keyframe, so little gives a player its first buffer."""


class GOPCache:
    """Packets of all tracks from the last video keyframe on, in the order of arrival."""

    __slots__ = ("_bytes", "_has_video", "_max_bytes", "_max_ticks", "_packets", "_whole")

    def __init__(self, has_video: bool, max_bytes: int, max_seconds: float) -> None:
        self._has_video = has_video
        self._max_bytes = max_bytes
        self._max_ticks = round(max_seconds * TICKS)
        self._packets: list[Packet] = []
        self._bytes = 0
        self._whole = not has_video

    @property
    def whole(self) -> bool:
        """Whether a subscriber can start from here."""
        return self._whole

    def push(self, packet: Packet) -> None:
        if packet.keyframe and packet.track.is_video:
            self.clear()
            self._whole = True
        elif not self._whole:
            return
        packets = self._packets
        if not self._has_video and packets and packet.dts - packets[0].dts > AUDIO_ONLY_SECONDS * TICKS:
            del packets[: (len(packets) + 1) // 2]
            self._bytes = sum(len(kept.payload) for kept in packets)
        packets.append(packet)
        self._bytes += len(packet.payload)
        if self._bytes > self._max_bytes or packet.dts - packets[0].dts > self._max_ticks:
            self.clear()

    def clear(self) -> None:
        self._packets = []
        self._bytes = 0
        self._whole = not self._has_video

    def packets(self) -> list[Packet]:
        """A copy: the subscriber may outlive the group."""
        return list(self._packets)
