"""One stream's viewers by WebRTC, and where their pictures and sound come from.

The one idea: pictures and sound may come from different renditions. What a browser cannot take as the publisher sends
it (B-frames, AAC, a codec that it does not offer) is *wanted* of the hub for as long as the viewer is there; a stream
that needs no repair is passed through as it is.
"""

import random
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from zope.interface import implementer

from oxidecast.formats.sdp_offer import Offer
from oxidecast.interfaces import IFollowsStream, IOutputStream, IRendition, IServices, IStream, IWant
from oxidecast.media import Codec, Track
from oxidecast.outputs.webrtc import negotiation
from oxidecast.outputs.webrtc.feed import Feed
from oxidecast.outputs.webrtc.negotiation import Agreed
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
    """WebRTC cannot show this stream to who offers that: the sentence says why and what to do, the `code` is one of
    the API's errors."""

    def __init__(self, sentence: str, code: str = "not_carried") -> None:
        super().__init__(sentence)
        self.code = code


class NotNow(NotCarried):
    """It can, but not at the moment."""


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
        figures = [viewer.figures for viewer in connected]
        return {
            "viewers": len(connected),
            "connecting": len(self.viewers) - len(connected),
            "feeds": sorted(self._feeds),
            "bytes_sent": sum(v.counted.bytes_sent for v in connected if v.counted is not None),
            "nacks": sum(one.nacks for one in figures),
            "resent": sum(one.resent for one in figures),
            "keyframes_wanted": sum(one.keyframes_wanted for one in figures),
            "dropped": sum(one.dropped for one in figures),
            "worst_loss": max((one.loss for one in figures), default=0.0),
            "worst_round_trip": max((one.round_trip for one in figures), default=0.0),
            "first_picture": max((v.started_after or 0.0 for v in connected), default=0.0),
        }

    # -- viewers

    async def pictures(self, wanted: str, offer: Offer) -> Source:
        """Where the pictures of a viewer with this offer come from, who wants this rendition (empty: the best that
        there is). Raises NotCarried."""
        if _track(self.stream.renditions[SOURCE], video=True) is None:
            return Source(None)
        codec = negotiation.repaired(offer)
        profile = wanted if codec is not None and wanted in self.stream.planned else ""
        fault = None
        if not profile:
            feed = self.feed(self._sent(wanted))
            fault = _fault(feed, offer)
            if fault is None:
                return Source(feed)
            self._let_go(feed)
            profile = next(iter(self.stream.planned), "")
            if codec is not None and not profile and self.stream.withheld:
                # It has a profile, so other advice is of no use.
                raise NotNow(
                    f"What browsers could show of this stream is not to be had now: {self.stream.withheld}."
                )
            if codec is None or not profile:
                raise fault
        assert codec is not None
        want = self.stream.want(RenditionSpec(profile, low_latency=True, codec=codec))
        try:
            rendition = await want.rendition(PICTURE_WITHIN)
        except BaseException:
            want.release()
            raise
        found = _track(rendition, video=True) if rendition is not None else None
        if rendition is None or found is None:
            want.release()
            why = self.stream.withheld or "it did not start in time"
            raise NotNow(f"The quality {profile} is not to be had now: {why}.")
        if not negotiation.takes(offer, found):
            want.release()
            raise fault or NotCarried(
                f"The quality {profile} is nothing that was offered to be shown.", "no_codec"
            )
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
            feed = Feed(rendition, self._zero, self._changed, self._ended)
            self._feeds[rendition.name] = feed
            feed.start(self)
        return feed

    # -- inside

    def _sent(self, wanted: str) -> IRendition:
        """The rendition that is wanted, of those that the publisher itself sends."""
        found = self.stream.renditions.get(wanted)
        sent = found is not None and found.listed and wanted not in self.stream.planned
        return found if found is not None and sent else self.stream.renditions[SOURCE]

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
        for viewer in [viewer for viewer in self.viewers if viewer.watches is feed]:
            sent = viewer.agreed.video
            if feed.has_b_frames or (
                track is not None and sent is not None and not negotiation.goes_on(sent.codec, track)
            ):
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
        if viewer.counted is not None and viewer.counts:
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


def _fault(feed: Feed, offer: Offer) -> NotCarried | None:
    """Why the pictures of a feed cannot be sent as they are to who made this offer."""
    track = feed.track(True)
    if track is not None and not negotiation.takes(offer, track):
        name = negotiation.NAMES[track.codec]
        return NotCarried(
            f"The pictures of this stream are {name} ({track.codec_string}), which the offer does not have: "
            "give the stream a transcoding profile, of which it is made into H.264 or VP8 for who offers one of them.",
            "no_codec",
        )
    if feed.has_b_frames:
        return NotCarried(
            "The pictures of this stream have B-frames, which browsers cannot show by WebRTC: switch them off "
            "in the encoder, or give the stream a transcoding profile."
        )
    return None


def _track(rendition: IRendition, video: bool) -> Track | None:
    return next((track for track in rendition.tracks if track.is_video is video), None)
