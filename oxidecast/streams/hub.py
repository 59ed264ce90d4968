"""All live streams of this process, and the one way in for publishers.

The one idea: ingests and outputs meet only here. An ingest asks `publish`, an output is told of streams; neither knows
the other.
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from oxidecast.interfaces import (
    IAuthenticator,
    IEventListener,
    IHub,
    IOutput,
    IPublisher,
    PlayRequest,
    PublishRequest,
    Refused,
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
        grant = await self._guarded(request)
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

    async def _guarded(self, request: PublishRequest) -> Grant | None:
        """Ask the authenticators, if the guard lets that happen."""
        guard = self.guard
        if guard is None:
            return await self._ask(request)
        guard.asked(request)
        try:
            grant = await self._ask(request)
        except Refused as refused:
            guard.answered(request, refused.code)
            raise
        guard.answered(request, None if grant is not None else "bad_key")
        return grant

    async def _ask(self, request: PublishRequest) -> Grant | None:
        for running in self._registry.of(IAuthenticator):
            answer: Grant | StreamInfo | None = await self._consult(
                running, running.instance.may_publish, request
            )
            if answer is not None:
                return Grant(answer, None) if isinstance(answer, StreamInfo) else answer
        return None

    async def authorise(self, stream: StreamInfo, request: PlayRequest) -> None:
        allowed = not stream.is_private
        for running in self._registry.of(IAuthenticator):
            allowed |= await self._consult(running, running.instance.may_play, stream, request) is True
        if not allowed:
            raise Refused("private", "This stream is private: a playback token is needed.")

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
            try:
                running.call(getattr(running.instance, event), *args)
            except Detached:
                continue

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
