"""One stream's viewers by WebRTC, and where their pictures and sound come from.

The one idea: pictures and sound may come from different renditions. What a browser cannot take as the publisher sends
it (B-frames, AAC) is *wanted* of the hub for as long as the viewer is there; a stream that needs no repair is passed
through as it is.
"""

import random
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from zope.interface import implementer

from oxidecast.interfaces import IFollowsStream, IOutputStream, IRendition, IServices, IStream, IWant
from oxidecast.media import Codec, Track
from oxidecast.outputs.webrtc.feed import Feed
from oxidecast.outputs.webrtc.negotiation import Agreed
from oxidecast.outputs.webrtc.quality import summed
from oxidecast.outputs.webrtc.viewer import Viewer
from oxidecast.streams.wanting import RenditionSpec

PICTURE_WITHIN = 5.0
"""Seconds in which a rendition without B-frames must be there, before its viewer is answered."""

SOUND_WITHIN = 30.0
"""The same for Opus, which the viewer does not wait for: it comes when it is there."""

SOUND_AGAIN = 1.0
"""Seconds until sound that ended is asked for anew."""

SOURCE = "source"


def address(name: str) -> Mapping[str, str]:
    """Where the stream of this public name is watched."""
    return {"webrtc": f"/api/v1/webrtc/{name}/whep"}


class NotCarried(Exception):
    """WebRTC cannot show this stream; the sentence says why and what to do."""


class Source:
    """A viewer's pictures or sound: the feed that they come from, and the want that keeps it."""

    def __init__(self, feed: Feed | None, want: IWant | None = None) -> None:
        self.feed = feed
        self.want = want

    def release(self) -> None:
        if self.want is not None:
            self.want.release()


@implementer(IOutputStream, IFollowsStream)
class WebRTCStream:
    """See the module."""

    log = Logger()

    def __init__(self, stream: IStream, services: IServices) -> None:
        self.stream = stream
        self.viewers: dict[Viewer, tuple[Source, Source]] = {}
        self.is_open = True
        self._services = services
        self._feeds: dict[str, Feed] = {}
        self._zero = (random.getrandbits(31), random.getrandbits(31))
        self._was_private = bool(stream.info.is_private)
        self._asking: set[Deferred[None]] = set()

    # -- IOutputStream

    def rendition_added(self, rendition: IRendition) -> None:
        """It is subscribed to when a viewer needs it."""

    def rendition_removed(self, name: str) -> None:
        """Its feed was told."""

    def closed(self, reason: str) -> None:
        self.is_open = False
        self._end_all(reason)
        for asking in list(self._asking):
            asking.cancel()

    def info_changed(self) -> None:
        private = bool(self.stream.info.is_private)
        if private and not self._was_private:
            self._end_all("the stream is private now")  # Whoever has a token comes back with it.
        self._was_private = private

    def urls(self, rendition: str | None) -> Mapping[str, str]:
        url = address(self.stream.name)["webrtc"]
        return {"webrtc": f"{url}?rendition={rendition}" if rendition not in (None, SOURCE) else url}

    def stats(self) -> Mapping[str, Any]:
        connected = [viewer for viewer in self.viewers if viewer.counted is not None]
        return {
            "viewers": len(connected),
            "connecting": len(self.viewers) - len(connected),
            "feeds": sorted(self._feeds),
            "bytes_sent": sum(v.counted.bytes_sent for v in connected if v.counted is not None),
            **summed(viewer.figures for viewer in connected),
        }

    # -- viewers

    async def pictures(self, wanted: str) -> Source:
        """Where the pictures of a viewer come from, who wants this rendition (empty: the best that there is). Raises
        NotCarried."""
        source = self.stream.renditions[SOURCE]
        track = _track(source, video=True)
        if track is None:
            return Source(None)
        profile = wanted if wanted in self.stream.planned else ""
        reason = ""
        if not profile:
            if track.codec is not Codec.H264:
                reason = f"WebRTC cannot carry the pictures of this stream ({track.codec_string})."
            else:
                feed = self.feed(source)
                if not feed.has_b_frames:
                    return Source(feed)
                self._let_go(feed)
                reason = (
                    "The pictures of this stream have B-frames, which browsers cannot show by WebRTC: switch them off "
                    "in the encoder, or give the stream a transcoding profile."
                )
            profile = next(iter(self.stream.planned), "")
        if not profile:
            raise NotCarried(reason)
        want = self.stream.want(RenditionSpec(profile, low_latency=True))
        try:
            rendition = await want.rendition(PICTURE_WITHIN)
        except BaseException:
            want.release()
            raise
        found = _track(rendition, video=True) if rendition is not None else None
        if rendition is None or found is None or found.codec is not Codec.H264:
            want.release()
            raise NotCarried(reason or f"The quality {profile} is not to be had at the moment.")
        return Source(self.feed(rendition), want)

    def sound(self) -> Source:
        """Where the sound of a viewer comes from; a source without feed and want has none."""
        source = self.stream.renditions[SOURCE]
        track = _track(source, video=False)
        if track is None:
            return Source(None)
        if track.codec is Codec.OPUS:
            return Source(self.feed(source))
        return Source(None, self.stream.want(RenditionSpec()))

    def viewer(self, agreed: Agreed, pictures: Source, sound: Source) -> Viewer:
        """A viewer of these, whose peer is still to be opened."""
        viewer = Viewer(agreed, self._services.reactor, self.stream.utc, self._closed)
        viewer.watches = pictures.feed
        viewer.listens = sound.feed
        self.viewers[viewer] = (pictures, sound)
        if sound.want is not None:
            self._ask_for_sound(viewer, sound)
        return viewer

    def let_go(self, *sources: Source) -> None:
        """Nobody came to use them."""
        for source in sources:
            source.release()
            if source.feed is not None:
                self._let_go(source.feed)

    def feed(self, rendition: IRendition) -> Feed:
        """The feed of this rendition, begun if there is none."""
        feed = self._feeds.get(rendition.name)
        if feed is None or feed.rendition is not rendition:
            feed = Feed(rendition, self._services.reactor.seconds, self._zero, self._changed, self._ended)
            self._feeds[rendition.name] = feed
            feed.start(self)
        return feed

    # -- inside

    def _ask_for_sound(self, viewer: Viewer, sound: Source) -> None:
        asking = Deferred.fromCoroutine(self._attach_sound(viewer, sound))
        self._asking.add(asking)

        def done(result: Any) -> None:
            self._asking.discard(asking)
            if result is not None and not result.check(CancelledError):
                self.log.failure("no sound for a viewer", failure=result)

        asking.addBoth(done)

    async def _attach_sound(self, viewer: Viewer, sound: Source) -> None:
        assert sound.want is not None
        rendition = await sound.want.rendition(SOUND_WITHIN)
        if rendition is not None and viewer in self.viewers and self.is_open:
            sound.feed = self.feed(rendition)
            viewer.listen(sound.feed)

    def _changed(self, feed: Feed) -> None:
        """A feed begins anew, or shows that it cannot be carried."""
        track = feed.track(True)
        gone = track is not None and track.codec is not Codec.H264 and bool(feed.watching)
        for viewer in [viewer for viewer in self.viewers if viewer.watches is feed]:
            if gone or feed.has_b_frames:
                # It comes back, and is told what can be done, or given another rendition.
                viewer.end("the pictures cannot be carried any more")
            else:
                viewer.wait()

    def _ended(self, feed: Feed, reason: str) -> None:
        if self._feeds.get(feed.name) is feed:
            del self._feeds[feed.name]
        for viewer, (_, sound) in list(self.viewers.items()):
            if viewer.watches is feed:
                viewer.end(reason)
            elif viewer.listens is feed:
                viewer.listen(None)
                sound.feed = None
                if sound.want is not None and self.is_open:
                    self._services.reactor.callLater(SOUND_AGAIN, self._again, viewer, sound)

    def _again(self, viewer: Viewer, sound: Source) -> None:
        if viewer in self.viewers and self.is_open:
            self._ask_for_sound(viewer, sound)

    def _closed(self, viewer: Viewer, reason: str) -> None:
        """A viewer is gone."""
        sources = self.viewers.pop(viewer, ())
        if viewer.counted is not None:
            viewer.counted.figures = viewer.figures.told()
            if viewer.counts:
                viewer.counted.leave()
        self.let_go(*sources)

    def _let_go(self, feed: Feed) -> None:
        used = any(feed in (pictures.feed, sound.feed) for pictures, sound in self.viewers.values())
        if not used and self._feeds.get(feed.name) is feed:
            del self._feeds[feed.name]
            feed.stop()

    def _end_all(self, reason: str) -> None:
        for viewer in list(self.viewers):
            viewer.end(reason)


def _track(rendition: IRendition, video: bool) -> Track | None:
    return next((track for track in rendition.tracks if track.is_video is video), None)
