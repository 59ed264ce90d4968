"""HLS as an output plugin: streams by name, and the answers to what players ask.

Addresses (below `/api/v1/hls/`): `{stream}/playlist.m3u8` is made for each viewer and names a session;
`{stream}/~{session}/{rendition}/…` are shared, immutable answers that the HTTP port sends without further work.
"""

from collections.abc import Mapping
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.web.resource import Resource
from zope.interface import implementer

from oxidecast.delivery.envelope import envelope
from oxidecast.delivery.hot import HotAnswer, HotRequest, IHotResource
from oxidecast.formats import m3u8
from oxidecast.interfaces import (
    IOutput,
    IOutputStream,
    IReloadable,
    IRendition,
    IServices,
    IStream,
    PlayRequest,
    Refused,
)
from oxidecast.outputs.hls.rendition import PLAYLIST_TYPE, HLSRendition
from oxidecast.outputs.hls.sessions import Sessions
from oxidecast.outputs.hls.settings import HlsSettings
from oxidecast.streams.info import StreamInfo

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


@implementer(IOutputStream)
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

    def rendition_added(self, rendition: IRendition) -> None:
        self.renditions[rendition.name] = HLSRendition(
            self.stream, rendition, self._settings, self, self._wake
        )

    def rendition_removed(self, name: str) -> None:
        self.renditions.pop(name).close()

    def closed(self, reason: str) -> None:
        for rendition in self.renditions.values():
            rendition.close()
        self.sessions.close()
        self._wake()
        self.closed_at = self._reactor.seconds()

    def urls(self, rendition: str | None) -> Mapping[str, str]:
        return address(self.stream.name)

    def stats(self) -> Mapping[str, Any]:
        return {name: rendition.stats() for name, rendition in self.renditions.items()}

    @property
    def carries_nothing(self) -> bool:
        """Whether no segment can come, because HLS cannot carry any of the codecs. There may be older ones."""
        return not any(rendition.tracks for rendition in self.renditions.values())

    async def multivariant(self, viewer: str, only_for: str = "") -> HotAnswer | None:
        """The playlist that a new viewer starts from; None when there is nothing to list even after a wait. `viewer` is
        the id of one that joined, or empty; `only_for` is the address that alone may use it, or empty."""
        if not self.carries_nothing and not self._watchable():
            await self._first_segment()
        ready = self._watchable()
        if not ready:
            return None
        session = self.sessions.new(viewer, only_for)
        text = m3u8.multivariant(
            rendition.variant(f"~{session}/{rendition.name}/playlist.m3u8") for rendition in ready
        )
        return HotAnswer(text.encode(), PLAYLIST_TYPE, cache_control=b"no-store", cors=True)

    def _watchable(self) -> list[HLSRendition]:
        return [rendition for rendition in self.renditions.values() if rendition.watchable]

    async def _first_segment(self) -> None:
        """Wait for it, or as long as a player waits."""
        waiter: Deferred[None] = Deferred()
        self._waiting.add(waiter)
        waiter.addTimeout(FIRST_SEGMENT, self._reactor, onTimeoutCancel=lambda result, after: None)
        try:
            await waiter
        finally:
            self._waiting.discard(waiter)

    def _wake(self) -> None:
        for waiter in list(self._waiting):
            waiter.callback(None)


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
            rendition = stream.renditions.get(parts[2])
            session = parts[1][1:]
            if rendition is None or not stream.sessions.valid(session, _address(request)):
                return self._missing(
                    "no_session", "This playback session does not exist: start from playlist.m3u8."
                )
            if parts[3] == "playlist.m3u8":
                if rendition.playlist is not None:
                    stream.sessions.seen(session, _address(request))
                    return rendition.playlist
            elif (answer := rendition.files.get(parts[3])) is not None:
                if request.method == b"GET":
                    stream.sessions.sent(session, rendition.name, len(answer.body))
                return answer
        elif len(parts) == 2 and parts[1] == "playlist.m3u8":
            return Deferred.fromCoroutine(self._start(stream, request))
        return self._missing("not_found", "There is nothing at this address any more.")

    async def _start(self, stream: HLSStream, request: HotRequest) -> HotAnswer:
        scheme, _, bearer = (request.header(b"authorization") or b"").partition(b" ")
        token = bearer if scheme.lower() == b"bearer" else request.query.get(b"token", b"")
        try:
            only_here = await self._output.services.hub.authorise(
                stream.stream.info,
                PlayRequest(
                    protocol="hls", address=_address(request), token=token.decode("utf-8", "replace").strip()
                ),
            )
        except Refused as refused:
            if refused.code == "unavailable":
                return self._refusal(503, refused.code, refused.sentence, (b"Retry-After", b"5"))
            return self._refusal(401, refused.code, refused.sentence, (b"WWW-Authenticate", b"Bearer"))
        viewer = request.query.get(b"viewer", b"").decode("utf-8", "replace")
        answer = await stream.multivariant(viewer, _address(request) if only_here else "")
        if answer is not None:
            return answer
        if stream.carries_nothing:
            return self._missing("not_carried", "HLS cannot carry the codecs of this stream.")
        return self._missing("no_segment", "The stream has just started: try again in a moment.", retry=True)

    def render_GET(self, request: Any) -> bytes:
        """Paths that no hot resource is asked about, because they try to be more than a name."""
        request.setResponseCode(404)
        request.setHeader(b"Content-Type", b"application/json")
        return bytes(self._missing("not_found", "There is nothing at this address.").body)

    def _missing(self, code: str, sentence: str, retry: bool = False) -> HotAnswer:
        return self._refusal(404, code, sentence, *([(b"Retry-After", b"2")] if retry else []))

    def _refusal(self, status: int, code: str, sentence: str, *headers: tuple[bytes, bytes]) -> HotAnswer:
        return HotAnswer(
            envelope(self._output.services.reactor.seconds(), error=sentence, code=code),
            b"application/json",
            status=status,
            cache_control=b"no-store",
            cors=True,
            headers=headers,
        )


def _address(request: HotRequest) -> str:
    return str(getattr(request.client, "host", ""))


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
                output.sessions.sweep()
