"""One stream's viewers by WebRTC, and where their pictures and sound come from.

The one idea: pictures and sound may come from different renditions. What a browser cannot take as the publisher sends
it (B-frames, AAC, a codec that it does not offer) is *wanted* of the hub for as long as the viewer is there; a stream
that needs no repair is passed through as it is. Who asked for no quality by name goes from one to another as its
network does.
"""

import random
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from zope.interface import implementer

from oxidecast.formats.sdp_offer import Offer
from oxidecast.interfaces import IFollowsStream, IOutputStream, IRendition, IServices, IStream
from oxidecast.media import Codec, Track
from oxidecast.outputs.webrtc import negotiation
from oxidecast.outputs.webrtc.adapting import Quality
from oxidecast.outputs.webrtc.feed import Feed
from oxidecast.outputs.webrtc.negotiation import Agreed
from oxidecast.outputs.webrtc.qualities import WITHIN, Moving, qualities
from oxidecast.outputs.webrtc.quality import summed
from oxidecast.outputs.webrtc.sources import SOURCE, Source, track_of
from oxidecast.outputs.webrtc.viewer import Viewer
from oxidecast.streams.wanting import RenditionSpec

SOUND_WITHIN = 30.0
"""Seconds for Opus, which the viewer does not wait for: it comes when it is there."""

SOUND_AGAIN = 1.0
"""Seconds until sound that ended is asked for anew."""


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
        self._moving: dict[Viewer, Moving] = {}
        self._reordered = False
        """Whether the source's pictures were seen to have B-frames."""

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

    async def pictures(self, wanted: str, offer: Offer) -> Source:
        """Where the pictures of a viewer with this offer come from, who wants this rendition (empty: the best that
        there is). Raises NotCarried."""
        if track_of(self.stream.renditions[SOURCE], video=True) is None:
            return Source(None)
        codec = negotiation.repaired(offer)
        profile = wanted if codec is not None and wanted in self.stream.planned else ""
        fault = None
        if not profile:
            feed = self.feed(self._sent(wanted))
            fault = _fault(feed, offer)
            if feed.name == SOURCE:
                self._reordered = feed.has_b_frames
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
            rendition = await want.rendition(WITHIN)
        except BaseException:
            want.release()
            raise
        found = track_of(rendition, video=True) if rendition is not None else None
        if rendition is None or found is None:
            want.release()
            why = self.stream.why_not(profile) or "it did not start in time"
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
        track = track_of(source, video=False)
        if track is None:
            return Source(None)
        if track.codec is Codec.OPUS:
            return Source(self.feed(source))
        return Source(None, self.stream.want(RenditionSpec()))

    def viewer(self, agreed: Agreed, pictures: Source, sound: Source, pinned: bool = False) -> Viewer:
        """A viewer of these, whose peer is still to be opened. `pinned` keeps to its quality."""
        viewer = Viewer(agreed.kept(), self._services.reactor, self.stream.utc, self._closed)
        viewer.pictures.feed = pictures.feed
        viewer.listens = sound.feed
        self.viewers[viewer] = (pictures, sound)
        if pictures.feed is not None and not pinned:
            viewer.pictures.adapting.offer(
                pictures.feed.name,
                lambda: self._qualities(viewer),
                lambda quality: self._move(viewer, quality),
            )
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

    def _qualities(self, viewer: Viewer) -> list[Quality]:
        source, sent = self.stream.renditions[SOURCE], viewer.agreed.video
        if sent is None:
            return []
        track = track_of(source, video=True)
        carried = track is not None and _carries(viewer, track) and not self._reordered
        feed = self._feeds.get(SOURCE)
        rate = round(feed.bitrate) if feed is not None else source.bitrate
        codec = negotiation.codec_of(sent.codec)
        return qualities(self.stream, rate if carried else None, codec, lambda track: _carries(viewer, track))

    def _move(self, viewer: Viewer, quality: Quality) -> None:
        """Give a viewer another quality."""
        before = self._moving.pop(viewer, None)
        if before is not None:
            before.stop()
        pictures, _ = self.viewers[viewer]

        def arrived(source: Source) -> None:
            self._moving.pop(viewer, None)
            old = Source(pictures.feed, pictures.want)
            pictures.feed, pictures.want = source.feed, source.want
            self.let_go(old)
            viewer.switched(quality.name)

        def failed(source: Source) -> None:
            self._moving.pop(viewer, None)
            self.let_go(source)
            viewer.pictures.adapting.failed()

        self.log.debug(
            "{stream}: a viewer goes to {quality}, with room for {room} bits a second",
            stream=self.stream.name,
            quality=quality.name,
            room=viewer.pictures.network.room,
        )
        if viewer.pictures.feed is not None and viewer.pictures.feed.name == quality.name:
            viewer.pictures.adapting.arrived(quality.name)
        else:
            moving = Moving(
                self.stream,
                viewer,
                quality,
                lambda track: _carries(viewer, track),
                self.feed,
                arrived,
                failed,
            )
            self._moving[viewer] = moving
            moving.start()
        if before is not None:
            self.let_go(before.source)

    def _stop_moving(self, viewer: Viewer) -> None:
        moving = self._moving.pop(viewer, None)
        if moving is not None:
            moving.stop()
            self.let_go(moving.source)

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
        if feed.name == SOURCE:
            self._reordered = feed.has_b_frames
        track = feed.track(True)
        for viewer in list(self.viewers):
            goes_on = not feed.has_b_frames and (track is None or _carries(viewer, track))
            if viewer.pictures.feed is feed and not goes_on:
                # It comes back, and is told what can be done, or given another rendition.
                viewer.end("the pictures cannot be carried any more")
            elif (moving := self._moving.get(viewer)) and moving.source.feed is feed and not goes_on:
                moving.fail()
            else:
                viewer.pictures.anew(feed)

    def _ended(self, feed: Feed, reason: str) -> None:
        if self._feeds.get(feed.name) is feed:
            del self._feeds[feed.name]
        for moving in [one for one in self._moving.values() if one.source.feed is feed]:
            moving.fail()
        for viewer, (_, sound) in list(self.viewers.items()):
            if viewer.pictures.feed is feed:
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
        self._stop_moving(viewer)
        sources = self.viewers.pop(viewer, ())
        if viewer.counted is not None:
            viewer.counted.figures = viewer.figures.told()
            if viewer.counts:
                viewer.counted.leave()
        self.let_go(*sources)

    def _let_go(self, feed: Feed) -> None:
        used = any(feed in (pictures.feed, sound.feed) for pictures, sound in self.viewers.values())
        used = used or any(moving.source.feed is feed for moving in self._moving.values())
        if not used and self._feeds.get(feed.name) is feed:
            del self._feeds[feed.name]
            feed.stop()

    def _end_all(self, reason: str) -> None:
        for viewer in list(self.viewers):
            viewer.end(reason)


def _carries(viewer: Viewer, track: Track) -> bool:
    """Whether the viewer can be sent such pictures by what was agreed."""
    sent = viewer.agreed.video
    return sent is None or negotiation.goes_on(sent.codec, track)


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
