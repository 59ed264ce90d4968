"""A further quality of a stream that its publisher itself sends, beside the one that feeds the source.

The one idea: it lives in the source's time. What comes is held until the source has come as far, and gets the time of
the source's picture that it is another size of. So it is as a rendition of the ladder is to outputs: its keyframes are
where the source's are, and it comes no earlier.
"""

from collections import deque
from typing import TYPE_CHECKING

import msgspec
from zope.interface import implementer

from oxidecast.interfaces import ILayer
from oxidecast.media import TICKS, Packet, Track

if TYPE_CHECKING:
    from oxidecast.streams.rendition import Rendition
    from oxidecast.streams.stream import Stream

SAME = TICKS // 100
"""Two sizes of one picture are told of with times that differ by less: clocks in milliseconds, and the network before
the publisher's reports have come. Half of the time between two pictures, at 50 a second."""

HOLD = TICKS // 2
"""Ticks of media that wait for the source; what has waited so long goes out by its own time."""
MOST_HELD = 128
"""Packets that do."""

KNOWN = 16
"""Pictures of the source whose times are known: those that a layer may be behind."""

SILENT = 5 * TICKS
"""Ticks of the source without anything of a layer, after which it is no rendition any more: who watches it comes back
for another. Browsers pause the large ones while their network is narrow."""

LONGEST_PICTURE = 5 * TICKS
"""Above, time between pictures is a gap."""


class _Held(msgspec.Struct, frozen=True, gc=False):
    """A picture in the publisher's own time."""

    track: Track
    dts: int
    pts: int
    keyframe: bool
    payload: bytes


@implementer(ILayer)
class Layer:
    """See `ILayer`."""

    def __init__(self, stream: "Stream", name: str) -> None:
        self.name = name
        self.rendition: Rendition | None = None
        self._stream = stream
        self._track: Track | None = None
        self._held: deque[_Held] = deque()
        self._times: deque[tuple[int, int]] = deque(maxlen=KNOWN)
        """Of the source's latest pictures: in the publisher's time, and in the stream's."""
        self._seen = 0
        """When the latest picture came, in the publisher's time."""
        self._last: int | None = None
        self._duration = TICKS // 30
        self._over = False

    # -- what the ingest calls

    def track(self, track: Track) -> None:
        self._track = track

    def packet(self, dts: int, pts: int, keyframe: bool, payload: bytes) -> None:
        if self._track is None or not self._times or self._over:
            return
        self._seen = pts
        self._held.append(_Held(self._track, dts, pts, keyframe, payload))
        self._release()

    def close(self, reason: str) -> None:
        self._held.clear()
        rendition, self.rendition = self.rendition, None
        # A stream that has ended ends its renditions itself.
        there = rendition is not None and self._stream.renditions.get(self.name) is rendition
        if there and self._stream.state != "ended":
            self._stream.remove_rendition(self.name, reason)

    # -- what the publication calls

    def end(self, reason: str) -> None:
        """Nothing of it will come again."""
        self._over = True
        self.close(reason)

    def follow(self, raw: int, pts: int) -> None:
        """The source has a picture more: its time as the publisher has it, and as it went out."""
        self._times.append((raw, pts))
        self._release()
        if self.rendition is not None and raw - self._seen > SILENT:
            self.close("its publisher does not send it any more")

    def sound(self, packet: Packet) -> None:
        """The source's sound is the layer's, too."""
        if self.rendition is not None and packet.track in self.rendition.tracks:
            self.rendition.push(packet)

    # -- inside

    def _release(self) -> None:
        held, newest = self._held, self._times[-1][0]
        while held and (
            held[0].pts <= newest + SAME or len(held) > MOST_HELD or held[-1].dts - held[0].dts > HOLD
        ):
            self._push(held.popleft())

    def _push(self, one: _Held) -> None:
        raw, pts = min(self._times, key=lambda known: abs(known[0] - one.pts))
        if abs(raw - one.pts) > SAME:
            pts += one.pts - raw
        dts = pts - (one.pts - one.dts)
        if self._last is not None:
            dts = max(dts, self._last + 1)
        tracks = (one.track, *(track for track in self._stream.source.tracks if not track.is_video))
        if self.rendition is None or self.rendition.tracks != tracks:
            if not one.keyframe:
                return
            if self.rendition is None:
                self.rendition = self._stream.add_rendition(self.name, tracks)
            else:
                self.rendition.restart(tracks, "its tracks changed")
        if self._last is not None and dts - self._last < LONGEST_PICTURE:
            self._duration = dts - self._last
        self._last = dts
        self.rendition.push(Packet(one.track, dts, max(pts, dts), self._duration, one.keyframe, one.payload))
