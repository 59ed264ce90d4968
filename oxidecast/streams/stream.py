"""A named live stream: who publishes it, its renditions, its outputs, and who watches.

Its life: `starting` until the first publication has tracks and a keyframe, `live`, `waiting` when the publisher has
gone and may come back, `ended`. The stream, not the publisher, is what viewers are tied to: publishers come back
(a discontinuity) or take over from each other without anybody else being asked.
"""

from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from zope.interface import implementer

from oxidecast.interfaces import IMakesKeyframes, IPublisher, IRendition, IStream, PublishRequest, Refused
from oxidecast.media import TICKS, Track
from oxidecast.media.timestamps import Rebaser
from oxidecast.streams.info import StreamInfo
from oxidecast.streams.outputs import OutputSlot
from oxidecast.streams.publication import Publication
from oxidecast.streams.rendition import Rendition
from oxidecast.streams.timeline import Timeline
from oxidecast.streams.viewer import Viewer
from oxidecast.streams.wanting import OPUS, Planned, RenditionSpec, Want, profile_of

if TYPE_CHECKING:
    from oxidecast.streams.hub import Hub

TAKEOVERS = 3
TAKEOVER_WINDOW = 60.0
"""At most so many takeovers in so many seconds: an encoder that reconnects needs one, two encoders that fight with one
key would otherwise cut the picture every two seconds for ever."""

SILENCE = 2.0
"""Seconds without a packet after which an incumbent counts as gone, whatever its connection looks like."""

SOURCE = "source"


@implementer(IStream)
class Stream:
    """See `IStream`."""

    log = Logger()

    def __init__(self, info: StreamInfo, hub: "Hub") -> None:
        self.info = info
        self.id = info.id
        self.name = info.name
        self.state = "starting"
        self.started_at = 0.0
        """UTC seconds of the first keyframe."""
        self.publication: Publication | None = None
        """The one that feeds the stream."""
        self.renditions: dict[str, Rendition] = {}
        self.outputs: list[OutputSlot] = []
        self.viewers: dict[str, Viewer] = {}
        self.max_viewers = 0
        self.reconnects = 0
        """How often its publisher came back, or another took over."""
        self.notices: dict[str, str] = {}
        self.wanted: dict[RenditionSpec, int] = {}
        """What is wanted of whoever makes renditions, and how often."""
        self.planned: dict[str, Planned] = {}
        """The ladder, whether it runs now or not; `plan` changes it."""
        self.withheld = ""
        """Why nothing of the ladder is to be had now, where that is so."""
        self.left_out: dict[str, str] = {}
        """What its owner chose of the ladder that is not made, and why."""
        self._awaited: dict[str, list[Deferred[IRendition | None]]] = {}
        self.rebaser = Rebaser()
        self.last_audio: dict[int, int] = {}
        """The dts of the last packet of each audio track, over all publishers."""
        self.layers: dict[str, int] = {}
        """Renditions that the publisher itself sends, or one before it did: the dts of the last packet of each."""
        self.timeline = Timeline(0.0)
        self._hub = hub
        self._newcomer: Publication | None = None
        self._takeovers: deque[float] = deque(maxlen=TAKEOVERS)
        self._grace: IDelayedCall | None = None

    @property
    def source(self) -> Rendition:
        """What the publisher sends, as it sends it."""
        return self.renditions[SOURCE]

    @property
    def viewer_count(self) -> int:
        return len(self.viewers)

    def seconds(self) -> float:
        return self._hub.seconds()

    def utc(self, ticks: int) -> float:
        return self.timeline.utc(ticks)

    def viewer(self, output: str, address: str) -> Viewer:
        viewer = Viewer(output, address, self.seconds(), self._viewer_left)
        self.viewers[viewer.id] = viewer
        self.max_viewers = max(self.max_viewers, len(self.viewers))
        self._hub.tell("viewer_joined", self, viewer)
        return viewer

    def _viewer_left(self, viewer: Viewer, at: float | None) -> None:
        if self.viewers.pop(viewer.id, None) is not None:
            viewer.left = self.seconds() if at is None else max(viewer.joined, at)
            self._hub.tell("viewer_left", self, viewer)

    def notice(self, key: str, sentence: str | None) -> None:
        if sentence is None:
            self.notices.pop(key, None)
        elif self.notices.get(key) != sentence:
            self.notices[key] = sentence
            self.log.warn("{stream}: {sentence}", stream=self.name, sentence=sentence)
            self._hub.noticed(self, key, sentence)

    # -- publishers

    def publish(
        self, request: PublishRequest, publisher: IPublisher, key_id: str | None = None
    ) -> Publication:
        """Let a publisher with a good key come in, and remember which it was. It feeds the stream from its first
        keyframe on. Raises Refused."""
        incumbent = self.publication
        if incumbent is not None:
            now = self.seconds()
            recent = sum(1 for then in self._takeovers if now - then < TAKEOVER_WINDOW)
            if recent >= TAKEOVERS and now - incumbent.last_packet_at < SILENCE:
                raise Refused(
                    "stream_busy",
                    "Another encoder is publishing with this key, and the two have replaced each other too often: "
                    "stop one of them.",
                )
        if self._newcomer is not None:
            self._newcomer.dismiss("replaced", "Another connection with the same key has come.")
        self._newcomer = Publication(self, request, publisher, key_id)
        return self._newcomer

    def begin(self, publication: Publication, lasted: int) -> None:
        """A publication has its tracks and a keyframe: from now on it feeds the stream.

        `lasted` is how many ticks of media it held back until now.
        """
        if self._newcomer is publication:
            self._newcomer = None
        incumbent, self.publication = self.publication, publication
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None
        now = self.seconds()
        if self.state == "starting":
            # The first packet lands at 1 s, which leaves room for a track that begins a little before it.
            self.started_at = now - lasted / TICKS
            self.timeline = Timeline(self.started_at - 1)
            self.rebaser.start(TICKS)
            self._start(publication)
            return
        self.reconnects += 1
        self.rebaser.start(max(self.rebaser.end, self.timeline.ticks(now) - lasted))
        if incumbent is not None:
            self._takeovers.append(now)
            self.log.info("{stream}: taken over by {address}", stream=self.name, address=publication.address)
            incumbent.dismiss("taken_over", "Another connection with the same key has taken over.")
        else:
            self.log.info(
                "{stream}: the publisher is back from {address}",
                stream=self.name,
                address=publication.address,
            )
        self.state = "live"
        for name in self.layers.keys() - publication.layers:
            self.remove_layer(name, "its publisher does not send it any more")
        self.source.restart(
            publication.tracks, "taken over" if incumbent is not None else "the publisher came back"
        )

    def cut(self, key_id: str, code: str, sentence: str) -> None:
        """Disconnect who publishes by this key. The stream then waits for another, as when a publisher leaves."""
        for publication in (self._newcomer, self.publication):
            if publication is not None and publication.key_id == key_id:
                publication.dismiss(code, sentence)
                self.publication_closed(publication, "cut")

    # -- renditions

    def add_rendition(self, name: str, tracks: tuple[Track, ...], listed: bool = True) -> Rendition:
        """One more quality, which its maker feeds by `push`. Outputs are told, unless it is not `listed`: then it is
        for those who want it."""
        if name in self.renditions:
            raise ValueError(f"{self.name} has a rendition {name} already")
        rendition = self._rendition(name, tracks)
        rendition.listed = listed
        if listed:
            for slot in self.outputs:
                slot.rendition_added(rendition)
        for waiting in self._awaited.pop(name, []):
            waiting.callback(rendition)
        return rendition

    def remove_rendition(self, name: str, reason: str) -> None:
        """Its maker stops: readers are told that it ended, then outputs that it is gone."""
        rendition = self.renditions.pop(name)
        rendition.end(reason)
        if rendition.listed:
            for slot in self.outputs:
                slot.rendition_removed(name)

    def remove_layer(self, name: str, reason: str) -> None:
        self.layers.pop(name, None)
        self.remove_rendition(name, reason)

    def listed(self) -> list[Rendition]:
        """The renditions that are for everybody and run now: the source, then in the ladder's order."""
        order = {name: place for place, name in enumerate((SOURCE, *self.planned))}
        listed = [one for one in self.renditions.values() if one.listed]
        return sorted(listed, key=lambda one: order.get(one.name, len(order)))

    def plan(self, planned: dict[str, Planned], withheld: str = "") -> None:
        """The ladder is this from now on. Where it is empty because nothing can be made now, `withheld` says why.
        Nobody is kept waiting for what is not in it any more."""
        if (planned, withheld) == (self.planned, self.withheld):
            return
        gone = self.planned.keys() - planned.keys()
        self.planned, self.withheld = planned, withheld
        for name in [one for one in self._awaited if profile_of(one) in gone or self._is_withheld(one)]:
            for waiting in self._awaited.pop(name):
                waiting.callback(None)
        for slot in self.outputs:
            slot.info_changed()

    def why_not(self, name: str) -> str:
        if self.state == "ended":
            return "the stream has ended"
        if name in self.planned:
            return ""
        chosen = name in self.info.transcoding_profiles
        return self.left_out.get(name) or (chosen and self.withheld) or "the stream has no such quality"

    def _is_withheld(self, name: str) -> bool:
        """Sound alone is made whatever else is."""
        return bool(self.withheld) and name != OPUS

    def want(self, spec: RenditionSpec) -> Want:
        self.wanted[spec] = self.wanted.get(spec, 0) + 1
        if self.wanted[spec] == 1:
            self._hub.changed(self)
        return Want(spec, self.when, self._release)

    def _release(self, spec: RenditionSpec) -> None:
        self.wanted[spec] -= 1
        if not self.wanted[spec]:
            del self.wanted[spec]
            if self.state != "ended":
                self._hub.changed(self)

    def when(self, name: str, within: float) -> "Deferred[IRendition | None]":
        """The rendition as soon as it is there, or None when it is not within so many seconds, or cannot be made."""
        rendition = self.renditions.get(name)
        if rendition is not None or self.state == "ended" or self._is_withheld(name):
            return succeed(rendition)
        waiting: Deferred[IRendition | None] = Deferred()
        self._awaited.setdefault(name, []).append(waiting)
        late = self._hub.call_later(within, lambda: waiting.callback(None))

        def stop(outcome: Any) -> Any:
            """Also when whoever waits went away, and cancelled it."""
            if late.active():
                late.cancel()
            still = self._awaited.get(name, [])
            if waiting in still:
                still.remove(waiting)
            return outcome

        return waiting.addBoth(stop)

    def _rendition(self, name: str, tracks: tuple[Track, ...]) -> Rendition:
        self.renditions[name] = Rendition(
            name,
            tracks,
            self._hub.settings,
            seconds=self.seconds,
            on_fault=self._subscriber_fault,
            on_slow=self._subscriber_slow,
        )
        return self.renditions[name]

    def ask_publisher(self) -> bool:
        """For a keyframe; False where that is in vain."""
        publisher = self.publication.publisher if self.publication is not None else None
        return publisher is not None and IMakesKeyframes.providedBy(publisher) and bool(publisher.keyframe())

    def is_described_by(self, info: StreamInfo) -> bool:
        """Whether there is nothing in `info` that a live stream follows and does not know."""
        return self.info == msgspec.structs.replace(info, name=self.name)

    def change_info(self, info: StreamInfo) -> None:
        """The owner changed something of a live stream; its id and name stay as they are until it ends."""
        self.info = msgspec.structs.replace(info, name=self.name)
        for slot in self.outputs:
            slot.info_changed()
        self._hub.changed(self)

    def _start(self, publication: Publication) -> None:
        self.state = "live"
        source = self._rendition(SOURCE, publication.tracks)
        source.on_keyframe_wanted = self.ask_publisher
        self.log.info(
            "{stream} is live: {tracks} by {protocol} from {address}",
            stream=self.name,
            tracks=", ".join(track.codec_string for track in publication.tracks),
            protocol=publication.protocol,
            address=publication.address,
        )
        for running in self._hub.outputs():
            slot = OutputSlot(running, self, self.renditions)
            self.outputs.append(slot)
            slot.rendition_added(source)
        self._hub.tell("stream_started", self)

    def publication_closed(self, publication: Publication, reason: str) -> None:
        """The publisher left by itself."""
        if publication is self._newcomer:
            self._newcomer = None
        elif publication is self.publication:
            self.publication = None
            if self.state == "live":
                self.state = "waiting"
                grace = self._hub.settings.publisher_grace
                self.log.info(
                    "{stream}: the publisher left ({reason}); waiting {grace} s for it",
                    stream=self.name,
                    reason=reason,
                    grace=grace,
                )
                self._grace = self._hub.call_later(grace, self._grace_over)
        if self.state == "starting" and self._newcomer is None:
            self._hub.forget(self)

    def _grace_over(self) -> None:
        self._grace = None
        self.end("the publisher did not come back")

    def end(self, reason: str, code: str = "ended", sentence: str = "The stream was ended.") -> None:
        """End the stream for everybody, a publisher included."""
        if self.state == "ended":
            return
        started = self.state != "starting"
        self.state = "ended"
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None
        for publication in (self._newcomer, self.publication):
            if publication is not None:
                publication.dismiss(code, sentence)
        self._newcomer = self.publication = None
        for rendition in list(self.renditions.values()):
            rendition.end(reason)
        for slot in self.outputs:
            slot.closed(reason)
        for viewer in list(self.viewers.values()):
            viewer.leave()
        awaited, self._awaited = self._awaited, {}
        for waiting in (one for several in awaited.values() for one in several):
            waiting.callback(None)
        self._hub.forget(self)
        if started:
            self.log.info("{stream} ended: {reason}", stream=self.name, reason=reason)
            self._hub.tell("stream_stopped", self, reason)

    # -- faults of those who read

    def _slot_of(self, owner: Any) -> OutputSlot | None:
        return next((slot for slot in self.outputs if owner is not None and slot.output is owner), None)

    def _subscriber_fault(self, owner: Any, error: BaseException) -> None:
        slot = self._slot_of(owner)
        if slot is not None:
            slot.running.fault(error)
            slot.fail(error)
        else:
            self.log.error("a subscriber of {stream} raised {error!r}", stream=self.name, error=error)

    def _subscriber_slow(self, owner: Any, seconds: float) -> None:
        slot = self._slot_of(owner)
        if slot is not None:
            slot.running.slow(seconds)
        else:
            self.log.warn(
                "a subscriber of {stream} kept the reactor for {ms:.0f} ms",
                stream=self.name,
                ms=seconds * 1000,
            )
