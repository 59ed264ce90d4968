"""One picture that a publisher sends in several sizes at once (simulcast, RFC 8853).

The one idea: the largest size that flows is the stream's source, and those that are smaller than the largest are
renditions beside it. Which is which follows from the pictures, for publishers list their sizes in any order; a browser
sends the large ones only while its network has room, so the source goes to a smaller one when it falls silent, and
back when a larger one has been there for a while.
"""

from typing import Final

from oxidecast.formats.rtp import RTPPacket, element
from oxidecast.formats.sdp_answer import Received
from oxidecast.ingest.whip.negotiation import REPAIRED_RID, RID
from oxidecast.interfaces import ILayer, IPublication
from oxidecast.media import TICKS, Track

SILENT: Final = 1 * TICKS
"""Ticks without a picture, while others have some, after which a size does not flow any more."""
PATIENCE: Final = 3 * TICKS // 2
"""Ticks at the beginning in which a larger size may still come: browsers begin with the smallest. Less than between two
keyframes, so that the first one after it is a beginning."""
STEADY: Final = 2 * TICKS
"""Ticks that a larger size has to flow before the source goes to it: each change is one for all viewers."""


class Size:
    """One of the sizes, as the target of its medium."""

    def __init__(self, simulcast: "Simulcast", layer: ILayer) -> None:
        self.layer = layer
        self.known: Track | None = None
        self.since = 0
        """When it began to flow, in ticks."""
        self.last: int | None = None
        """Its latest picture."""
        self._simulcast = simulcast

    @property
    def area(self) -> int:
        return self.known.width * self.known.height if self.known is not None else 0

    def flows(self, now: int) -> bool:
        return self.last is not None and now - self.last <= SILENT

    def track(self, track: Track) -> None:
        self.known = track
        self.layer.track(track)
        self._simulcast.changed(self, track)

    def packet(
        self, track_id: int, dts: int, pts: int, keyframe: bool, payload: bytes, samples: int = 0
    ) -> None:
        if not self.flows(dts):
            self.since = dts
        self.last = dts
        self._simulcast.packet(self, track_id, dts, pts, keyframe, payload)


class Sound:
    """The target of the sound: it does not begin before pictures that come."""

    def __init__(self, simulcast: "Simulcast", publication: IPublication) -> None:
        self._simulcast = simulcast
        self._publication = publication

    def track(self, track: Track) -> None:
        self._publication.track(track)

    def packet(
        self, track_id: int, dts: int, pts: int, keyframe: bool, payload: bytes, samples: int = 0
    ) -> None:
        if not self._simulcast.waits:
            self._publication.packet(track_id, dts, pts, keyframe, payload, samples)


class Simulcast:
    """Where the pictures of several sizes go. `targets` are in the order of the offer; that of the sound is `sound`."""

    def __init__(self, publication: IPublication, count: int) -> None:
        self.targets = [Size(self, publication.layer(f"layer.{place}")) for place in range(1, count + 1)]
        self.sound = Sound(self, publication)
        self._publication = publication
        self._source: Size | None = None
        self._began: int | None = None

    @property
    def waits(self) -> bool:
        """Whether there are pictures, but none that the source begins with."""
        return self._began is not None and self._source is None

    def changed(self, size: Size, track: Track) -> None:
        """The pictures of a size are others now."""
        if size is self._source:
            self._publication.track(track)

    def packet(self, size: Size, track_id: int, dts: int, pts: int, keyframe: bool, payload: bytes) -> None:
        """The next picture of a size."""
        if self._began is None:
            self._began = dts
        if keyframe and size is not self._source and size.known is not None and self._is_better(size, dts):
            self._source = size
            self._publication.track(size.known)
        if size is self._source:
            self._publication.packet(track_id, dts, pts, keyframe, payload)
        if size.area < max(other.area for other in self.targets):
            size.layer.packet(dts, pts, keyframe, payload)
        else:
            size.layer.close("it is the source")

    def _is_better(self, size: Size, now: int) -> bool:
        """Whether the source goes to this size, which has a keyframe."""
        source = self._source
        if source is not None and source.flows(now):
            return size.area > source.area and now - size.since >= STEADY
        # The largest that flows. The first of all waits for those that have not come yet.
        if size.area < max(other.area for other in self.targets if other.flows(now)):
            return False
        complete = all(other.flows(now) for other in self.targets)
        return source is not None or complete or now - (self._began or 0) >= PATIENCE


class Layers:
    """Of which medium a packet is: of the one that it names (RFC 8852), or that its source was named for before."""

    def __init__(self, received: Received) -> None:
        self._payload_type = received.codec.payload_type
        numbers = {name: number for number, name in received.extensions}
        self._rid, self._repaired = numbers.get(RID, 0), numbers.get(REPAIRED_RID, 0)
        self._places = {rid.encode(): place for place, rid in enumerate(received.layers)}
        self._sources: dict[tuple[bool, int], int] = {}
        """The latest SSRC of each, by whether it sends again, and its place."""

    def place(self, packet: RTPPacket) -> int | None:
        """Its place among the layers of the offer; None for one that is not known."""
        again = packet.payload_type != self._payload_type
        rid = element(packet.extension, self._repaired if again else self._rid)
        if rid:
            place = self._places.get(rid)
            if place is not None:
                self._sources[again, place] = packet.ssrc
            return place
        return next(
            (place for (kind, place), ssrc in self._sources.items() if kind is again and ssrc == packet.ssrc),
            None,
        )
