"""Frames of sound on their way to a group: which share a PES packet, and when it leaves.

The one idea: sound is small, and everything about it is overhead. So frames share packets as long as nobody notices;
and at a constant rate a packet leaves as late as a receiver's small buffers ask for, not as soon as there is room.
"""

from collections.abc import Iterator, Sequence

from oxidecast.formats.mpegts import BUNDLED, continues
from oxidecast.media import TICKS, Codec, Packet, Track

SPAN = TICKS * 65 // 1000
"""Frames share a PES packet of up to 65 ms (three frames at 48 kHz): it spares a tenth of a small stream, and the first
of them waits 43 ms."""

MOST_BYTES = 500
"""Of sound in one PES packet at a constant rate: three transport packets in a row are what a receiver's first buffer
takes (512 bytes, from which 2 Mbit/s leave meanwhile; H.222.0, 2.4.2)."""

BUFFER = {Codec.AAC: 3584, Codec.MP3: 3584, Codec.AC3: 5696, Codec.OPUS: 3584}
"""Bytes that a receiver holds at least until they are due (BSn of H.222.0, 2.4.2; of AC-3 ETSI TS 101 154)."""
BUFFER_WIDE = 8976
"""The same for AAC of more than two channels."""
USED = 0.8
"""The part of it that is used: the rest is for frames that are larger than those before."""

LATEST = TICKS // 10
"""Sound leaves at least so many ticks before it is due, however much of it there is."""


class Bundles:
    """The frames of a group's sound. `small` keeps PES packets to what small receivers take."""

    def __init__(self, small: bool) -> None:
        self._small = small
        self._open: dict[int, list[Packet]] = {}
        self._rate: dict[int, float] = {}
        """Bytes a tick of each track, at their most."""

    def push(self, frame: Packet) -> Iterator[Sequence[Packet]]:
        """Take a frame; the bundles that are complete now."""
        held = self._open.pop(frame.track.id, [])
        if held and not continues(held, frame, SPAN):
            yield held
            held = []
        held.append(frame)
        with_another = frame.dts + 2 * frame.duration - held[0].dts
        size = sum(len(one.payload) for one in held) + len(frame.payload)
        if frame.track.codec in BUNDLED and with_another <= SPAN and not (self._small and size > MOST_BYTES):
            self._open[frame.track.id] = held
        else:
            yield held

    def before(self, dts: int) -> Iterator[Sequence[Packet]]:
        """The bundles that have waited too long when pictures are at `dts`: the sound has paused."""
        for id, held in list(self._open.items()):
            if dts - held[0].dts > SPAN:
                yield self._open.pop(id)

    def flush(self) -> Iterator[Sequence[Packet]]:
        """All bundles, as they are."""
        while self._open:
            yield self._open.popitem()[1]

    def ahead(self, frames: Sequence[Packet], size: int) -> int:
        """How many ticks before it is due a PES packet of `size` bytes may leave at the earliest."""
        first, last = frames[0], frames[-1]
        rate = size / max(1, last.dts + last.duration - first.dts)
        # It falls slowly: one loud second says more than the silence after it.
        rate = self._rate[first.track.id] = max(rate, 0.99 * self._rate.get(first.track.id, 0.0))
        return max(LATEST, int((USED * _room(first.track) - size) / rate))


def _room(track: Track) -> int:
    if track.codec is Codec.AAC and track.channels > 2:
        return BUFFER_WIDE
    return BUFFER.get(track.codec, BUFFER[Codec.AAC])
