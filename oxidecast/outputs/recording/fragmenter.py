"""From packets to the pieces of a file: where a fragment ends, and what time it is in the file.

The one idea: a fragment is complete in itself, so a file that is cut off behind any of them plays. They are a few
seconds long: that much is lost when the server dies, and a shorter one would only make the file's index longer.

Sans-IO: packets in, bytes out. The file's time begins with its first packet.
"""

from typing import NamedTuple

from oxidecast.formats import fmp4
from oxidecast.media import TICKS, Packet, Track

SHORTEST = 2 * TICKS
"""A keyframe ends the fragment that is at least so long."""

LONGEST = 6 * TICKS
"""Without a keyframe it is ended here: an encoder may send one a minute, and a server that dies should not lose one."""

LARGEST = 8_388_608
"""Bytes after which it is ended: what one recording holds in memory."""

PAUSE = TICKS
"""How far sound may run ahead before the pictures count as paused, and do not end the fragment any more."""


class Fragment(NamedTuple):
    """Bytes for the file, and where in the file's time they lie, in ticks."""

    data: bytes
    start: int
    end: int
    keyframe: bool


class Fragmenter:
    """One file. `tracks` are those that are recorded, video first."""

    def __init__(self, tracks: tuple[Track, ...]) -> None:
        self.tracks = tracks
        self.lead = next((track for track in tracks if track.is_video), tracks[0])
        self.origin: int | None = None
        """The stream's time at which the file's begins, once the first fragment has ended."""
        self._packets: list[Packet] = []
        self._size = 0
        self._start = 0
        self._number = 0

    @property
    def started(self) -> bool:
        return bool(self._packets) or self.origin is not None

    def age(self, dts: int) -> int:
        """Ticks that the file will hold when it ends at `dts`."""
        if self.origin is not None:
            return dts - self.origin
        return dts - self._packets[0].dts if self._packets else 0

    def push(self, packet: Packet) -> Fragment | None:
        """Take a packet; the answer is the fragment before it, when this packet begins a new one."""
        done = None
        leads = packet.track.id == self.lead.id
        if not self.started and not (leads and packet.keyframe):
            return None  # Sound before the first picture has nothing to belong to.
        if self.origin is not None and packet.dts < self.origin:
            return None
        if self._packets:
            age = packet.dts - self._start
            if (
                leads
                and age > 0
                and ((packet.keyframe and age >= SHORTEST) or age >= LONGEST or self._size >= LARGEST)
            ):
                done = self.flush(packet.dts)
            elif age >= LONGEST + PAUSE or self._size >= 2 * LARGEST:
                done = self.flush(None)
        if not self._packets:
            self._start = packet.dts
        self._packets.append(packet)
        self._size += len(packet.payload)
        return done

    def flush(self, following: int | None) -> Fragment | None:
        """The fragment that is open. `following` is the dts at which the lead track goes on, where it does."""
        packets, self._packets, self._size = self._packets, [], 0
        if not packets:
            return None
        if self.origin is None:
            self.origin = min(packet.dts for packet in packets)
        samples: dict[Track, list[Packet]] = {}
        for packet in packets:
            samples.setdefault(packet.track, []).append(packet)
        ends = {self.lead: following} if following is not None and self.lead in samples else None
        self._number += 1
        data = fmp4.fragment(self._number, samples, following=ends, origin=self.origin)
        end = max(of_track[-1].dts + of_track[-1].duration for of_track in samples.values())
        first = samples.get(self.lead, packets)[0]
        keyframe = first.track == self.lead and first.keyframe
        return Fragment(data, self._start - self.origin, end - self.origin, keyframe)
