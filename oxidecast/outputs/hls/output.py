"""HLS as an output plugin: streams by name, and the answers to what players ask.

Addresses (below `/api/v1/hls/`): `{stream}/playlist.m3u8` is made for each viewer and names a session;
`{stream}/~{session}/{rendition}/…` are shared, immutable answers that the HTTP port sends without further work.
"""

from collections.abc import Callable, Mapping
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.web.resource import Resource
from zope.interface import implementer

from oxidecast.delivery.hot import HotAnswer, HotRequest, IHotResource
from oxidecast.delivery.playing import admitted, client_of, refusal
from oxidecast.formats import m3u8
from oxidecast.interfaces import (
    IFollowsStream,
    IOutput,
    IOutputStream,
    IReloadable,
    IRendition,
    IServices,
    IStream,
    IWant,
)
from oxidecast.outputs.hls.containers import carries
from oxidecast.outputs.hls.rendition import PLAYLIST_TYPE, SOURCE, HLSRendition
from oxidecast.outputs.hls.segmenter import Cuts
from oxidecast.outputs.hls.sessions import LEFT_AFTER, Sessions
from oxidecast.outputs.hls.settings import HlsSettings
from oxidecast.streams.info import StreamInfo
from oxidecast.streams.wanting import Planned, RenditionSpec

LINGER = 60.0
"""Seconds for which an ended stream's playlist (with EXT-X-ENDLIST) and segments can still be read: the slowest
viewer is a few target durations behind."""

FIRST_SEGMENT = 8.0
"""Seconds for which a request for the playlist of a stream that just started waits for its first segment: players give
up on an answer after 10 s, and on a 404 at once."""

SWEEP = 5.0
"""Seconds between two looks for viewers that have left, and for streams that ended long enough ago."""


def address(name: str) -> Mapping[str, str]:
    """Where the stream of this public name is watched."""
    return {"hls": f"/api/v1/hls/{name}/playlist.m3u8"}


@implementer(IOutputStream, IFollowsStream)
class HLSStream:
    """One stream's playlists."""

    def __init__(
        self,
        stream: IStream,
        settings: HlsSettings,
        services: IServices,
    ) -> None:
        self.stream = stream
        self.closed_at: float | None = None
        """UTC seconds of the stream's end, once it has ended."""
        self.renditions: dict[str, HLSRendition] = {}
        self.sessions = Sessions(stream, services.secret("hls session"), services.reactor.seconds)
        self._settings = settings
        self._reactor = services.reactor
        self._waiting: set[Deferred[None]] = set()
        self._cuts = Cuts()
        self._before: dict[str, HLSRendition] = {}
        """The last of each name that has gone."""
        self._wants: dict[str, tuple[IWant, list[float]]] = {}
        """What players ask for that is made on demand, and when one did last."""

    def rendition_added(self, rendition: IRendition) -> None:
        name = rendition.name
        self.renditions[name] = HLSRendition(
            self.stream,
            rendition,
            self._settings,
            self,
            self._source_moved if name == SOURCE else self._wake,
            self._cuts,
            self._before.pop(name, None),
        )

    def rendition_removed(self, name: str) -> None:
        gone = self._before[name] = self.renditions.pop(name)
        gone.close()
        gone.files.clear()

    def info_changed(self) -> None:
        # What somebody waits for may not come any more.
        self._wake()

    def closed(self, reason: str) -> None:
        for want, _ in self._wants.values():
            want.release()
        self._wants.clear()
        for rendition in self.renditions.values():
            rendition.close()
        self.sessions.close()
        self.closed_at = self._reactor.seconds()
        self._wake()

    def urls(self, rendition: str | None) -> Mapping[str, str]:
        urls = address(self.stream.name)
        if rendition is not None:
            urls = {kind: f"{url}?quality={rendition}" for kind, url in urls.items()}
        return urls

    def stats(self) -> Mapping[str, Any]:
        return {name: rendition.stats() for name, rendition in self.renditions.items()}

    @property
    def carries_nothing(self) -> bool:
        """Whether no segment can come, because HLS cannot carry any of the codecs. There may be older ones."""
        return not any(rendition.tracks for rendition in self.renditions.values())

    async def multivariant(self, viewer: str, quality: str = "", only_for: str = "") -> HotAnswer | None:
        """The playlist that a new viewer starts from; None when there is nothing to list even after a wait. `viewer` is
        the id of one that joined, or empty; `quality` is the one rendition that is asked for, if it is there;
        `only_for` is the address that alone may use it, or empty."""
        if not self.carries_nothing:
            await self._until(self._watchable)
        ready = {rendition.name: rendition for rendition in self._watchable()}
        if not ready:
            return None
        session = self.sessions.new(viewer, only_for)
        variants = {name: one.variant(_media(session, name)) for name, one in ready.items()}
        if self.closed_at is None:
            # Listed before they run, for a player reads this playlist once.
            for name, planned in self.stream.planned.items():
                if carries(self._settings.segment_type, planned.codec):
                    variants.setdefault(name, _variant(planned, _media(session, name)))
        if quality in variants:
            variants = {quality: variants[quality]}
        best_first = sorted(
            variants.values(), key=lambda one: (one.width * one.height, one.bandwidth), reverse=True
        )
        text = m3u8.multivariant(best_first)
        return HotAnswer(text.encode(), PLAYLIST_TYPE, cache_control=b"no-store", cors=True)

    async def media(self, name: str) -> HotAnswer | None:
        """The playlist of a rendition that has none yet; None when it has none even after a wait, or will have none."""
        self.asked(name)

        def playlist() -> HotAnswer | None:
            rendition = self.renditions.get(name)
            return rendition.playlist if rendition is not None else None

        await self._until(lambda: playlist() or name not in self.stream.planned)
        return playlist()

    def asked(self, name: str) -> None:
        """A player asked for this rendition's playlist: it is wanted, and made if it is made on demand."""
        now = self._reactor.seconds()
        known = self._wants.get(name)
        if known is not None:
            known[1][0] = now
        elif name in self.stream.planned and self.closed_at is None:
            self._wants[name] = self.stream.want(RenditionSpec(name)), [now]

    def sweep(self) -> None:
        """Let go of viewers, and of renditions, that nobody has asked for any more."""
        self.sessions.sweep()
        over = self._reactor.seconds() - LEFT_AFTER
        for name in [name for name, (_, last) in self._wants.items() if last[0] <= over]:
            self._wants.pop(name)[0].release()

    def _watchable(self) -> list[HLSRendition]:
        return [rendition for rendition in self.renditions.values() if rendition.watchable]

    async def _until(self, look: Callable[[], object]) -> None:
        """Wait until there is something to see, or as long as a player waits."""
        ends = self._reactor.seconds() + FIRST_SEGMENT
        while not look() and self.closed_at is None:
            left = ends - self._reactor.seconds()
            if left <= 0:
                return
            waiter: Deferred[None] = Deferred()
            self._waiting.add(waiter)
            waiter.addTimeout(left, self._reactor, onTimeoutCancel=lambda result, after: None)
            try:
                await waiter
            finally:
                self._waiting.discard(waiter)

    def _source_moved(self) -> None:
        for rendition in self.renditions.values():
            if rendition.name != SOURCE:
                rendition.source_moved()
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, set()
        for waiter in waiting:
            waiter.callback(None)


def _media(session: str, name: str) -> str:
    return f"~{session}/{name}/playlist.m3u8"


def _variant(planned: Planned, uri: str) -> m3u8.Variant:
    """What is said of a rendition that has not been measured."""
    return m3u8.Variant(
        uri,
        planned.peak,
        codecs=planned.codecs,
        average_bandwidth=planned.average,
        width=planned.width,
        height=planned.height,
        frame_rate=planned.frame_rate,
    )


@implementer(IHotResource)
class HLSResource(Resource):
    """What players ask, by name. Everything is a hot answer; below it nothing else exists."""

    isLeaf = True

    def __init__(self, output: "HLSOutput") -> None:
        super().__init__()
        self._output = output

    def hot(self, request: HotRequest) -> HotAnswer | Deferred[HotAnswer] | None:
        parts = request.path.decode("utf-8", "replace").split("/")
        stream = self._output.streams.get(parts[0])
        if stream is None:
            return self._missing("no_stream", "This stream is not live.", retry=True)
        if len(parts) == 4 and parts[1][:1] == "~":
            name, session = parts[2], parts[1][1:]
            rendition = stream.renditions.get(name)
            planned = name in stream.stream.planned and stream.closed_at is None
            valid = stream.sessions.valid(session, client_of(request))
            if not valid:
                return self._missing(
                    "no_session", "This playback session does not exist: start from playlist.m3u8."
                )
            if rendition is None and not planned:
                return self._no_quality(stream, name)
            if parts[3] == "playlist.m3u8":
                if rendition is not None and rendition.playlist is not None:
                    stream.sessions.seen(session, client_of(request))
                    if planned:
                        stream.asked(name)
                    return rendition.playlist
                if planned:
                    stream.sessions.seen(session, client_of(request))
                    return Deferred.fromCoroutine(self._media(stream, name))
            elif rendition is None:
                pass
            elif (answer := rendition.files.get(parts[3])) is not None:
                if request.method == b"GET":
                    stream.sessions.sent(session, rendition.name, len(answer.body))
                return answer
        elif len(parts) == 2 and parts[1] == "playlist.m3u8":
            return Deferred.fromCoroutine(self._start(stream, request))
        return self._missing("not_found", "There is nothing at this address any more.")

    async def _start(self, stream: HLSStream, request: HotRequest) -> HotAnswer:
        only_here = await admitted(self._output.services, stream.stream.info, request, "hls")
        if isinstance(only_here, HotAnswer):
            return only_here
        viewer, quality = (
            request.query.get(key, b"").decode("utf-8", "replace") for key in (b"viewer", b"quality")
        )
        answer = await stream.multivariant(viewer, quality, client_of(request) if only_here else "")
        if answer is not None:
            return answer
        if stream.carries_nothing:
            return self._missing("not_carried", "HLS cannot carry the codecs of this stream.")
        return self._missing("no_segment", "The stream has just started: try again in a moment.", retry=True)

    async def _media(self, stream: HLSStream, name: str) -> HotAnswer:
        answer = await stream.media(name)
        if answer is None and stream.stream.why_not(name):
            return self._no_quality(stream, name)
        return answer or self._missing(
            "no_segment", "This quality is being started: try again in a moment.", retry=True
        )

    def _no_quality(self, stream: HLSStream, name: str) -> HotAnswer:
        # A player that is told 404 goes elsewhere at once; after a 503 it would ask again, and its viewer wait.
        why = stream.stream.why_not(name)
        return self._missing("no_quality", f"This quality is not to be had now: {why}.")

    def render_GET(self, request: Any) -> bytes:
        """Paths that no hot resource is asked about, because they try to be more than a name."""
        request.setResponseCode(404)
        request.setHeader(b"Content-Type", b"application/json")
        return bytes(self._missing("not_found", "There is nothing at this address.").body)

    def _missing(self, code: str, sentence: str, retry: bool = False) -> HotAnswer:
        return refusal(
            self._output.services, 404, code, sentence, *([(b"Retry-After", b"2")] if retry else [])
        )


@implementer(IOutput, IReloadable)
class HLSOutput(Service):
    """The plugin while it runs."""

    log = Logger()

    def __init__(self, settings: HlsSettings, services: IServices) -> None:
        self.services = services
        self.streams: dict[str, HLSStream] = {}
        """By public name and by id, streams that ended a moment ago included."""
        self._settings = settings
        self._sweep = LoopingCall(self._look)
        self._sweep.clock = services.reactor

    def startService(self) -> None:
        super().startService()
        self._sweep.start(SWEEP, now=False)

    def stopService(self) -> None:
        super().stopService()
        if self._sweep.running:
            self._sweep.stop()

    def open(self, stream: IStream) -> HLSStream:
        output = HLSStream(stream, self._settings, self.services)
        self.streams[stream.name] = self.streams[stream.id] = output
        return output

    def urls(self, info: StreamInfo) -> Mapping[str, str]:
        return address(info.name)

    def routes(self) -> Mapping[str, Any]:
        return {"hls": HLSResource(self)}

    def reload(self, settings: HlsSettings) -> None:
        """Streams that start from now on follow the new settings."""
        self._settings = settings

    def _look(self) -> None:
        over = self.services.reactor.seconds() - LINGER
        for key, output in list(self.streams.items()):
            if output.closed_at is not None and output.closed_at <= over:
                del self.streams[key]
            else:
                output.sweep()
