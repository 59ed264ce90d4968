"""The qualities of a stream that WebRTC can carry, and how a viewer gets from one to another.

The one idea: a viewer keeps what it has until the other one is there and it has gone over; only then is the old one let
go. Both are wanted of the hub meanwhile.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from oxidecast.interfaces import IStream
from oxidecast.media import Codec, Track
from oxidecast.outputs.webrtc.adapting import Quality
from oxidecast.outputs.webrtc.negotiation import REPAIRED
from oxidecast.outputs.webrtc.sources import SOURCE, Source, track_of
from oxidecast.streams.wanting import RenditionSpec

if TYPE_CHECKING:
    from oxidecast.outputs.webrtc.feed import Feed
    from oxidecast.outputs.webrtc.viewer import Viewer

WITHIN = 5.0
"""Seconds in which a rendition without B-frames must be there: a child that makes it starts in one or two."""

LESS = 0.8
"""Of the source's bitrate: a quality above is none beside it."""


def qualities(
    stream: IStream, source: int | None, codec: Codec | None, carried: Callable[[Track], bool]
) -> list[Quality]:
    """Best first, of what a viewer can be sent who agreed to `codec`: what the publisher sends and `carried` says yes
    to, and what is made of it. `source` is the source's bitrate (0 while it is not known) where that can be sent as it
    is."""
    found = []
    for rendition in stream.renditions.values():
        track = track_of(rendition, video=True)
        layer = rendition.listed and rendition.name not in (SOURCE, *stream.planned)
        if layer and rendition.bitrate and track is not None and carried(track):
            found.append(Quality(rendition.name, rendition.bitrate))
    for name, planned in stream.planned.items() if codec in REPAIRED else ():
        assert codec is not None
        spec = RenditionSpec(name, low_latency=True, codec=codec)
        running = stream.renditions.get(spec.name)
        bitrate = running.bitrate if running is not None and running.bitrate else planned.average
        if not source or planned.average <= source * LESS:
            found.append(Quality(spec.name, bitrate, spec))
    found.sort(key=lambda quality: quality.bitrate, reverse=True)
    return found if source is None else [Quality(SOURCE, source), *found]


class Moving:
    """One viewer on its way to another quality. `feed` gives the feed of a rendition; `arrived` is called with where
    the pictures come from once they do, `failed` when they never will."""

    log = Logger()

    def __init__(
        self,
        stream: IStream,
        viewer: "Viewer",
        quality: Quality,
        carried: Callable[[Track], bool],
        feed: Callable[[Any], "Feed"],
        arrived: Callable[[Source], None],
        failed: Callable[[Source], None],
    ) -> None:
        self.source = Source(None, stream.want(quality.spec) if quality.spec is not None else None)
        self._stream = stream
        self._viewer = viewer
        self._carried = carried
        self._feed = feed
        self._arrived = arrived
        self._failed = failed
        self._quality = quality
        self._over = False
        self._asking: Deferred[None] | None = None

    def start(self) -> None:
        """It may have arrived, or failed, when this is done."""
        asking = self._asking = Deferred.fromCoroutine(self._ask())
        asking.addErrback(self._fault)

    def stop(self) -> None:
        """It is not to go there any more. The source is the caller's to let go of."""
        self._over = True
        self._viewer.pictures.stay()
        if self._asking is not None:
            self._asking.cancel()

    def fail(self) -> None:
        """What it goes to is not to be had."""
        if not self._over:
            self._over = True
            self._viewer.pictures.stay()
            self._failed(self.source)

    async def _ask(self) -> None:
        if self.source.want is None:
            rendition = self._stream.renditions.get(self._quality.name)
        else:
            rendition = await self.source.want.rendition(WITHIN)
        if self._over:
            return
        track = track_of(rendition, video=True) if rendition is not None else None
        if rendition is None or track is None or not self._carried(track):
            self.fail()
            return
        self.source.feed = self._feed(rendition)
        self._viewer.pictures.go_over(self.source.feed, self._done)

    def _done(self) -> None:
        self._over = True
        self._arrived(self.source)

    def _fault(self, failure: Any) -> None:
        if not failure.check(CancelledError):
            self.log.failure("a viewer could not be moved to another quality", failure=failure)
            self.fail()
