"""Thumbnails as an output plugin: a JPEG of each live stream, taken every few seconds, at an address that stays.

The one idea: whoever decodes the stream anyway hands its pictures over (`add`). Where nobody does, a child process
makes one of the last keyframe, which the rendition has in its cache: it is asked for it, nothing is subscribed to for
long. The latest picture of a stream is kept in memory, as the answer that all who ask get; it goes with the stream.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from prometheus_client.core import CounterMetricFamily
from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from zope.interface import implementer

from oxidecast.delivery.hot import HotAnswer, HotRequest, IHotResource
from oxidecast.delivery.playing import admitted, client_of, refusal
from oxidecast.formats.framed_messages import Tile
from oxidecast.interfaces import (
    IMeasured,
    IOutput,
    IOutputStream,
    IReloadable,
    IRendition,
    IServices,
    IStream,
    ISubscriber,
    IThumbnails,
)
from oxidecast.media import Packet
from oxidecast.streams.info import StreamInfo
from oxidecast.transcoding.thumbnails.child import Child, NoThumbnail, Sheet
from oxidecast.transcoding.thumbnails.passes import Passes
from oxidecast.transcoding.thumbnails.settings import ThumbnailsSettings
from oxidecast.transcoding.thumbnails.storyboard import JPEG, VTT, Made, Storyboard

MOST_CHILDREN = 2
"""At once. Each takes half a second of a processor; with many streams, pictures come less often instead."""

MOST_SHEETS = 2
"""Storyboards that are made at once; who asks for another gets the one of before."""

LOOK_EVERY = 1.0
"""Seconds between two looks for streams whose time has come."""

MISSED = 2.5
"""Intervals without a picture that was handed over, after which the child makes them again."""

LARGEST = 1024 * 1024
"""Bytes of one picture: twenty times what one of 640x360 usually takes."""

SUFFIX = ".jpg"


def address(stream: str) -> str:
    """Where the picture of the stream of this name is."""
    return f"/api/v1/thumbnails/{stream}{SUFFIX}"


@implementer(ISubscriber)
class _Keyframe:
    """Reads a rendition's cache, inside `subscribe`, for the keyframe that it begins with."""

    def __init__(self) -> None:
        self.found: Packet | None = None

    def packet(self, packet: Packet) -> None:
        if self.found is None and packet.track.is_video and packet.keyframe:
            self.found = packet

    def restarted(self, reason: str) -> None: ...

    def ended(self, reason: str) -> None: ...


@implementer(IOutputStream)
class StreamThumbnails:
    """One stream's picture, and when the next is due."""

    def __init__(self, output: "ThumbnailsOutput", stream: IStream) -> None:
        self.stream = stream
        self.due = 0.0
        """By the reactor's clock. A new stream is due at once: lists show it soon."""
        self.handed_over = float("-inf")
        """When a picture was last handed over by somebody else."""
        self.child: Child | None = None
        self.complained = False
        """Whether the log says already that no picture can be made."""
        self.tag = b""
        self.source: IRendition | None = None
        self.storyboard = Storyboard(output.make_sheet)
        self._output = output
        self._jpeg = b""
        self._taken = 0.0
        self._last: Packet | None = None
        self._answers: dict[bool, HotAnswer] = {}

    def rendition_added(self, rendition: IRendition) -> None:
        if self.source is None:
            # The source is the first one.
            self.source = rendition

    def rendition_removed(self, name: str) -> None: ...

    def closed(self, reason: str) -> None:
        self._output.forget(self)

    def urls(self, rendition: str | None) -> Mapping[str, str]:
        return {}

    def stats(self) -> Mapping[str, Any]:
        return {"bytes": len(self._jpeg), "taken_at": self._taken or None}

    def show(self, jpeg: bytes, at: float) -> None:
        """A new picture, of the UTC second `at`."""
        self.tag = hashlib.sha256(jpeg).hexdigest()[:16].encode()
        self._jpeg, self._taken = jpeg, at
        self._answers.clear()

    def answer(self, fresh_for: float) -> HotAnswer | None:
        """What is sent, for so many seconds; None as long as there is no picture."""
        if not self._jpeg:
            return None
        private = bool(self.stream.info.is_private)
        if private not in self._answers:
            # A cache that many share must not keep what takes a token.
            scope = b"private" if private else b"public"
            self._answers[private] = HotAnswer(
                self._jpeg,
                b"image/jpeg",
                etag=self.tag,
                modified=self._taken,
                cache_control=b"%b, max-age=%d" % (scope, fresh_for),
                cors=True,
                headers=((b"X-Content-Type-Options", b"nosniff"),),
            )
        return self._answers[private]

    def storyboard_answer(self, board: str, made: Made, fresh_for: float, query: str) -> HotAnswer:
        """The sheet of tiles, or the list of where each is, with `query` on the sheet's address."""
        body, kind, tag = made.jpeg, b"image/jpeg", made.tag.encode()
        if board == VTT:
            body = made.vtt(self.stream.started_at, fresh_for, query).encode()
            kind, tag = b"text/vtt; charset=utf-8", hashlib.sha256(body).hexdigest()[:16].encode()
        scope = b"private" if self.stream.info.is_private else b"public"
        return HotAnswer(
            body,
            kind,
            etag=tag,
            modified=made.taken[-1],
            cache_control=b"%b, max-age=%d" % (scope, fresh_for),
            cors=True,
            headers=((b"X-Content-Type-Options", b"nosniff"),),
        )

    def keyframe(self) -> Packet | None:
        """The last one, if it is another than the last time: a publisher that is away sends no new one."""
        if self.source is None or not any(track.is_video for track in self.source.tracks):
            return None
        reader = _Keyframe()
        self.source.subscribe(reader, self).cancel()
        found = reader.found
        if found is None or found is self._last:
            return None
        self._last = found
        return found


@implementer(IHotResource)
class ThumbnailResource(Resource):
    """`{stream}.jpg`, `{stream}/storyboard.jpg` and `{stream}/storyboard.vtt`, by name or by id."""

    isLeaf = True

    def __init__(self, output: "ThumbnailsOutput") -> None:
        super().__init__()
        self._output = output

    def hot(self, request: HotRequest) -> HotAnswer | Deferred[HotAnswer]:
        name = request.path.decode("utf-8", "replace")
        stream, _, board = name.partition("/")
        if board in (JPEG, VTT):
            return Deferred.fromCoroutine(self._storyboard(self._output.streams.get(stream), board, request))
        one = self._output.streams.get(name.removesuffix(SUFFIX)) if name.endswith(SUFFIX) else None
        if one is not None and one.stream.info.is_private:
            return Deferred.fromCoroutine(self._private(one, request))
        return self._answer(one)

    def _answer(self, one: StreamThumbnails | None) -> HotAnswer:
        answer = one.answer(self._output.interval) if one is not None else None
        if answer is not None:
            return answer
        return refusal(
            self._output.services,
            404,
            "not_found",
            "There is no picture here: the stream is not live, or has just begun.",
        )

    async def _storyboard(self, one: StreamThumbnails | None, board: str, request: HotRequest) -> HotAnswer:
        if one is None:
            return self._answer(None)
        query, passes = "", self._output.passes
        given = request.query.get(b"pass", b"").decode("utf-8", "replace")
        if one.stream.info.is_private and not (
            board == JPEG and passes.opens(given, one.stream, client_of(request))
        ):
            only_here = await admitted(self._output.services, one.stream.info, request, "thumbnails")
            if isinstance(only_here, HotAnswer):
                return only_here
            query = f"&pass={passes.new(one.stream, client_of(request) if only_here else '')}"
        made = await one.storyboard.sheet()
        if made is None:
            return self._answer(None)
        return one.storyboard_answer(board, made, self._output.interval, query)

    async def _private(self, one: StreamThumbnails, request: HotRequest) -> HotAnswer:
        only_here = await admitted(self._output.services, one.stream.info, request, "thumbnails")
        if isinstance(only_here, HotAnswer):
            return only_here
        return self._answer(one)

    def render_GET(self, request: Any) -> bytes:
        """Paths that no hot resource is asked about, because they try to be more than a name."""
        request.setResponseCode(404)
        request.setHeader(b"Content-Type", b"application/json")
        return bytes(self._answer(None).body)


@implementer(IOutput, IThumbnails, IReloadable, IMeasured)
class ThumbnailsOutput(Service):
    """The plugin while it runs."""

    log = Logger()

    def __init__(
        self,
        settings: ThumbnailsSettings,
        services: IServices,
        make: Callable[..., Child] = Child,
        sheet: Callable[..., Any] = Sheet,
    ) -> None:
        self.services = services
        self.passes = Passes(services.secret("storyboard"))
        self.streams: dict[str, StreamThumbnails] = {}
        """By public name and by id."""
        self.interval = settings.interval
        self.width = settings.width
        self.made = {"child": 0, "transcoder": 0, "storyboard": 0}
        self.failed = self.late = 0
        self._make, self._sheet = make, sheet
        self._children: dict[Child, Deferred[None]] = {}
        self._sheets: dict[Any, Deferred[None]] = {}
        self._look = LoopingCall(self.look)
        self._look.clock = services.reactor

    def startService(self) -> None:
        super().startService()
        self._look.start(LOOK_EVERY, now=False)

    def stopService(self) -> Deferred[Any]:
        """Fires when no child is left."""
        super().stopService()
        if self._look.running:
            self._look.stop()
        waiting = [*self._children.values(), *self._sheets.values()]
        for child in (*self._children, *self._sheets):
            child.kill()
        return gatherResults(waiting)

    # -- IOutput

    def open(self, stream: IStream) -> StreamThumbnails:
        one = StreamThumbnails(self, stream)
        self.streams[stream.name] = self.streams[stream.id] = one
        return one

    def urls(self, info: StreamInfo) -> Mapping[str, str]:
        return {}

    def routes(self) -> Mapping[str, Any]:
        return {"thumbnails": ThumbnailResource(self)}

    def forget(self, one: StreamThumbnails) -> None:
        """The stream has ended."""
        for key in (one.stream.name, one.stream.id):
            if self.streams.get(key) is one:
                del self.streams[key]
        one.storyboard.close()
        if one.child is not None:
            one.child.kill()

    def make_sheet(self, tiles: Sequence[Tile], columns: int) -> Any:
        """A child that puts tiles together; None while as many run as may."""
        if len(self._sheets) >= MOST_SHEETS:
            return None
        child = self._sheet(self.services.reactor, tiles, columns)
        done: Deferred[None] = Deferred()
        self._sheets[child] = done

        def over(result: bytes | Failure) -> bytes | Failure:
            del self._sheets[child]
            self.made["storyboard"] += not isinstance(result, Failure)
            self.failed += isinstance(result, Failure)
            done.callback(None)
            return result

        child.result.addBoth(over)
        return child

    # -- IThumbnails

    def add(self, stream: IStream, jpeg: bytes, at: float, tile: Tile | None = None) -> None:
        one = self.streams.get(stream.id)
        if one is not None:
            one.handed_over = self.services.reactor.seconds()
            self._take(one, jpeg, at, "transcoder", tile)

    def thumbnail_url(self, stream: IStream) -> str | None:
        one = self.streams.get(stream.id)
        return f"{address(stream.name)}?v={one.tag.decode()}" if one is not None and one.tag else None

    # -- IReloadable, IMeasured

    def reload(self, settings: ThumbnailsSettings) -> None:
        self.interval, self.width = settings.interval, settings.width

    def metrics(self, streams: Collection[str]) -> Iterable[Any]:
        made = CounterMetricFamily("oxidecast_thumbnails_made", "Thumbnails, by who made them", labels=["by"])
        for who, count in self.made.items():
            made.add_metric([who], count)
        yield made
        yield CounterMetricFamily(
            "oxidecast_thumbnails_failed", "Thumbnails that could not be made", value=self.failed
        )
        yield CounterMetricFamily(
            "oxidecast_thumbnails_late", "Those of them whose child was killed for its time", value=self.late
        )

    # -- inside

    def look(self) -> None:
        """Start children for the streams that are due, the longest overdue first, as many as may run."""
        now = self.services.reactor.seconds()
        handed_over = now - MISSED * self.interval
        due = [
            one
            for one in set(self.streams.values())
            if one.due <= now and one.child is None and one.handed_over < handed_over
        ]
        for one in sorted(due, key=lambda one: one.due):
            if len(self._children) >= MOST_CHILDREN:
                return
            keyframe = one.keyframe()
            if keyframe is not None:
                one.due = now + self.interval
                self._begin(one, keyframe)

    def _begin(self, one: StreamThumbnails, keyframe: Packet) -> None:
        at = one.stream.utc(keyframe.pts)
        child = one.child = self._make(self.services.reactor, keyframe, self.width)

        def over(result: bytes | Failure) -> None:
            del self._children[child]
            one.child = None
            if self.streams.get(one.stream.id) is not one:
                return
            if isinstance(result, Failure):
                self._failed(one, result)
            else:
                self._take(one, result, at, "child", child.tile)

        done: Deferred[None] = Deferred()
        self._children[child] = done
        child.result.addBoth(over).chainDeferred(done)

    def _take(self, one: StreamThumbnails, jpeg: bytes, at: float, by: str, tile: Tile | None) -> None:
        # It comes from a process that decodes what strangers send.
        if not jpeg.startswith(b"\xff\xd8\xff") or len(jpeg) > LARGEST:
            self.failed += 1
            return
        self.made[by] += 1
        one.show(jpeg, at)
        one.storyboard.add(tile, at)

    def _failed(self, one: StreamThumbnails, failure: Failure) -> None:
        self.failed += 1
        error = failure.value
        self.late += isinstance(error, NoThumbnail) and error.late
        if not one.complained:
            one.complained = True
            self.log.info("{stream}: no thumbnail: {error}", stream=one.stream.name, error=error)
