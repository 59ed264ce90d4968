"""All live streams of this process, and the one way in for publishers.

The one idea: ingests and outputs meet only here. An ingest asks `publish`, an output is told of streams; neither knows
the other.
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from oxidecast.interfaces import (
    HERE,
    IAuthenticator,
    IEventListener,
    IFollowsStreams,
    IHearsNotices,
    IHearsRefusals,
    IHub,
    IOutput,
    IPublisher,
    PlayRequest,
    PublishRefusal,
    PublishRequest,
    Refused,
    Unconvinced,
)
from oxidecast.registry import Detached, Registry, Running
from oxidecast.streams.info import Grant, StreamInfo
from oxidecast.streams.publication import Publication
from oxidecast.streams.settings import StreamsSettings
from oxidecast.streams.stream import Stream


class PublishGuard(Protocol):
    """Stands before the authenticators: it may refuse what is not worth asking them."""

    def asked(self, request: PublishRequest) -> None:
        """Raises Refused."""

    def answered(self, request: PublishRequest, code: str | None) -> None:
        """None for a publisher that may publish, else the refusal's code. Not called when the publisher left before."""


@implementer(IHub)
class Hub:
    """See `IHub`."""

    log = Logger()

    def __init__(self, settings: StreamsSettings, registry: Registry, reactor: IReactorTime) -> None:
        self.settings = settings
        self.streams: dict[str, Stream] = {}
        self.guard: PublishGuard | None = None
        self._registry = registry
        self._reactor = reactor
        self._open = True

    def seconds(self) -> float:
        return float(self._reactor.seconds())

    def call_later(self, delay: float, function: Callable[[], None]) -> IDelayedCall:
        return self._reactor.callLater(delay, function)

    def outputs(self) -> Iterator[Running]:
        return self._registry.of(IOutput)

    def find(self, name_or_id: str) -> Stream | None:
        stream = self.streams.get(name_or_id)
        if stream is None:
            stream = next((one for one in self.streams.values() if one.name == name_or_id), None)
        return stream if stream is not None and stream.renditions else None

    async def publish(self, request: PublishRequest, publisher: IPublisher) -> Publication:
        known: list[StreamInfo] = []
        try:
            return await self._publish(request, publisher, known)
        except Refused as refused:
            refusal = PublishRefusal(
                protocol=request.protocol,
                address=request.address,
                encoder=request.encoder,
                code=refused.code,
                sentence=refused.sentence,
                stream=known[0] if known else None,
            )
            for running in list(self._registry.of(IEventListener)):
                if IHearsRefusals.providedBy(running.instance):
                    self._tell(running, running.instance.publish_refused, refusal)
            raise

    async def _publish(
        self, request: PublishRequest, publisher: IPublisher, known: list[StreamInfo]
    ) -> Publication:
        """`known` is given the stream as soon as the key's is found, for whoever hears that it was refused."""
        grant = await self._guarded(request, known)
        if not self._open:
            raise Refused("shutting_down", "The server is shutting down.")
        if grant is None:
            raise Refused("bad_key", "The stream key is not known.")
        info = grant.stream
        if not info.accepts_publishing:
            raise Refused("stopped", "This stream was stopped by its owner and does not accept publishing.")
        stream = self.streams.get(info.id)
        if stream is None:
            if any(one.name == info.name for one in self.streams.values()):
                # A live stream keeps its name until it ends, also when its owner has given it another.
                raise Refused(
                    "name_in_use",
                    "Another stream that had this name is still live: try again when it has ended.",
                )
            stream = self.streams[info.id] = Stream(info, self)
        return stream.publish(request, publisher, grant.key_id)

    async def _guarded(self, request: PublishRequest, known: list[StreamInfo]) -> Grant | None:
        """Ask the authenticators, if the guard lets that happen. A key that one of them knows is no guess, even when
        another refuses it."""
        guard = self.guard
        if guard is None:
            return await self._ask(request, known)
        guard.asked(request)
        try:
            grant = await self._ask(request, known)
        except Refused as refused:
            guard.answered(request, None if known else refused.code)
            raise
        guard.answered(request, None if grant is not None else "bad_key")
        return grant

    async def _ask(self, request: PublishRequest, known: list[StreamInfo]) -> Grant | None:
        """Ask all: the first that knows the key says which stream it is, and each may refuse."""
        grant: Grant | None = None
        giver: Running | None = None
        last: Running | None = None
        informed = request
        for last in list(self._registry.of(IAuthenticator)):
            answer = await self._may_publish(last, informed)
            if grant is None and answer is not None:
                grant, giver = answer, last
                known.append(grant.stream)
                informed = msgspec.structs.replace(request, stream=grant.stream)
        if giver is not None and giver is not last:
            # While the others thought, the key may have been revoked, or its stream stopped: whoever cuts for that had
            # nobody to cut.
            grant = await self._may_publish(giver, request)
        return grant

    async def _may_publish(self, running: Running, request: PublishRequest) -> Grant | None:
        answer: Grant | StreamInfo | None = await self._consult(
            running, running.instance.may_publish, request
        )
        return Grant(answer, None) if isinstance(answer, StreamInfo) else answer

    async def authorise(self, stream: StreamInfo, request: PlayRequest) -> bool:
        everywhere, here = not stream.is_private, False
        why = Refused("private", "This stream is private: a playback token is needed.")
        for running in self._registry.of(IAuthenticator):
            try:
                answer = await self._consult(running, running.instance.may_play, stream, request)
                everywhere |= answer is True
                here |= answer == HERE
            except Unconvinced as unconvinced:
                why = unconvinced
        if not everywhere and not here:
            raise why
        return not everywhere

    async def _consult(self, running: Running, method: Any, *args: Any) -> Any:
        """Ask one authenticator. One that raises anything but Refused has no opinion, which never opens a door."""
        try:
            return await Deferred.fromCoroutine(method(*args))
        except (Refused, CancelledError):
            raise
        except Exception as error:
            running.fault(error)
            return None

    def tell(self, event: str, *args: Any) -> None:
        """Call that method of every event listener."""
        for running in list(self._registry.of(IEventListener)):
            self._tell(running, getattr(running.instance, event), *args)

    def changed(self, stream: Stream) -> None:
        """Tell those who follow streams that something about this one is another now."""
        for running in list(self._registry.of(IFollowsStreams)):
            self._tell(running, running.instance.stream_changed, stream)

    def noticed(self, stream: Stream, key: str, sentence: str) -> None:
        """Tell those who hear what owners are told."""
        for running in list(self._registry.of(IHearsNotices)):
            self._tell(running, running.instance.stream_noticed, stream, key, sentence)

    def _tell(self, running: Running, method: Callable[..., None], *args: Any) -> None:
        try:
            running.call(method, *args)
        except Detached:
            pass  # It was logged and counted.

    def forget(self, stream: Stream) -> None:
        """The stream is over, or never began."""
        if self.streams.get(stream.id) is stream:
            del self.streams[stream.id]

    def plugin_failed(self, running: Running) -> None:
        """A plugin was detached from the server: take it out of every stream."""
        for stream in list(self.streams.values()):
            for slot in stream.outputs:
                if slot.running is running:
                    slot.fail(running.error)

    def close(self) -> None:
        """End every stream; nobody publishes from now on."""
        self._open = False
        for stream in list(self.streams.values()):
            stream.end("the server is shutting down", "shutting_down", "The server is shutting down.")
