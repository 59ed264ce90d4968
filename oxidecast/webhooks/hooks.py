"""Webhooks as a plugin: an event listener, and an authenticator as well where an address is to be asked.

The server's own stream keys never leave it. An address that decides about publishers is told the stream, which the
server's accounts found by the key; only a key that they do not know is sent, because nobody else can say what it means.
"""

from collections.abc import Collection, Iterable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from zope.interface import implementer

from oxidecast.database.errors import DatabaseUnavailable
from oxidecast.database.streams import Streams
from oxidecast.database.users import Users
from oxidecast.interfaces import (
    IAuthenticator,
    IEventListener,
    IHearsNotices,
    IHearsRefusals,
    IMeasured,
    IServices,
    IStream,
    IViewer,
    PlayRequest,
    PublishRefusal,
    PublishRequest,
    Refused,
)
from oxidecast.streams.info import StreamInfo
from oxidecast.webhooks import events
from oxidecast.webhooks.batches import Batch
from oxidecast.webhooks.client import Poster
from oxidecast.webhooks.courier import Courier
from oxidecast.webhooks.decisions import Decider, PlayDecider
from oxidecast.webhooks.events import described, event
from oxidecast.webhooks.figures import collect
from oxidecast.webhooks.settings import EventType, WebhooksSettings
from oxidecast.webhooks.signature import key_of


def webhooks(settings: WebhooksSettings, services: IServices) -> "Webhooks":
    """The factory of the plugin: an authenticator only where there is somebody to ask."""
    asks = settings.on_publish.url or settings.on_play.url
    return (DecidingWebhooks if asks else Webhooks)(settings, services)


@implementer(IEventListener, IHearsNotices, IHearsRefusals, IMeasured)
class Webhooks(Service):
    """The plugin while it runs."""

    def __init__(self, settings: WebhooksSettings, services: IServices) -> None:
        self._clock: Any = services.reactor
        self.couriers: dict[EventType, list[Courier]] = {}
        self._all: list[Courier] = []
        for endpoint in settings.endpoints:
            poster = Poster(self._clock, endpoint.url, endpoint.allow_private)
            courier = Courier(endpoint.name, poster, key_of(endpoint.secret), self._clock)
            self._all.append(courier)
            for type in endpoint.events:
                self.couriers.setdefault(type, []).append(courier)
        self._viewers = Batch(
            self._clock,
            lambda items, omitted: self._send(
                "viewers.changed", events.batch(("joined", "left"), items, omitted)
            ),
        )
        self._refusals = Batch(
            self._clock,
            lambda items, omitted: self._send("publish.refused", events.batch(("refusals",), items, omitted)),
        )
        self.decisions: dict[str, Any] = {}
        """By what is decided, `publish` or `play`: whoever is asked, with its counts."""

    def stopService(self) -> Any:
        super().stopService()
        self._viewers.flush()
        self._refusals.flush()
        stopping = [Deferred.fromCoroutine(courier.stop()) for courier in self._all]
        return DeferredList(stopping, consumeErrors=True)

    def metrics(self, streams: Collection[str]) -> Iterable[Any]:
        return collect(self._all, {what: decider.counts for what, decider in self.decisions.items()})

    # -- IEventListener

    def stream_started(self, stream: IStream) -> None:
        if "stream.started" in self.couriers:
            self._send("stream.started", events.started(stream))

    def stream_stopped(self, stream: IStream, reason: str) -> None:
        if "stream.stopped" in self.couriers:
            self._send("stream.stopped", events.stopped(stream, reason, self._clock.seconds()))

    def recording_closed(self, stream: IStream, path: str) -> None:
        if "recording.closed" in self.couriers:
            self._send("recording.closed", events.recorded(stream, path))

    def viewer_joined(self, stream: IStream, viewer: IViewer) -> None:
        self._viewer("joined", stream, viewer)

    def viewer_left(self, stream: IStream, viewer: IViewer) -> None:
        self._viewer("left", stream, viewer)

    def stream_noticed(self, stream: IStream, key: str, sentence: str) -> None:
        if "stream.notice" in self.couriers:
            self._send("stream.notice", events.noticed(stream, key, sentence))

    def publish_refused(self, refusal: PublishRefusal) -> None:
        if "publish.refused" in self.couriers:
            self._refusals.add("refusals", events.refused(refusal, self._clock.seconds()))

    def _viewer(self, change: str, stream: IStream, viewer: IViewer) -> None:
        if "viewers.changed" in self.couriers:
            self._viewers.add(change, events.viewed(stream, viewer, self._clock.seconds()))

    def _send(self, type: EventType, data: dict[str, Any]) -> None:
        made = event(type, self._clock.seconds(), data)
        for courier in self.couriers.get(type, ()):
            courier.send(made)


@implementer(IAuthenticator)
class DecidingWebhooks(Webhooks):
    """The plugin where an address decides about publishers, players, or both."""

    log = Logger()

    def __init__(self, settings: WebhooksSettings, services: IServices) -> None:
        super().__init__(settings, services)
        self._streams = Streams(services.database, services.reactor)
        self._users = Users(services.database, services.reactor)
        self._publish: Decider | None = None
        self._play: PlayDecider | None = None
        publish, play = settings.on_publish, settings.on_play
        if publish.url:
            poster = Poster(self._clock, publish.url, publish.allow_private)
            self._publish = self.decisions["publish"] = Decider(
                "on_publish", publish, poster, services.reactor
            )
        if play.url:
            poster = Poster(self._clock, play.url, play.allow_private)
            decider = Decider("on_play", play, poster, services.reactor)
            self._play = self.decisions["play"] = PlayDecider(decider, services.reactor, play.send_token)

    async def may_publish(self, request: PublishRequest) -> StreamInfo | None:
        if self._publish is None:
            return None
        known = request.stream is not None
        verdict = await self._publish.ask(
            "publish.requested",
            {
                "protocol": request.protocol,
                "address": request.address,
                "encoder": request.encoder[: events.LONGEST_TEXT],
                "stream": described(request.stream) if known else None,
                **({} if known else {"key": request.key}),
            },
            request.key,
        )
        return None if known or not verdict.stream else await self._meant(verdict.stream)

    async def _meant(self, name: str) -> StreamInfo | None:
        """The stream that an answer names."""
        try:
            stream = await self._streams.find(name)
            owner = await self._users.by_id(stream.owner_id) if stream is not None else None
        except DatabaseUnavailable:
            raise Refused(
                "unavailable", "The server cannot look the stream up at the moment: try again later."
            )
        if stream is None:
            self.log.warn("webhooks.on_publish named a stream that there is not")
        elif owner is None or owner.disabled:
            raise Refused("account_disabled", "The account that this stream belongs to is disabled.")
        return stream

    async def may_play(self, stream: Any, request: PlayRequest) -> bool | None:
        if self._play is None:
            return None
        verdict = await self._play.ask(stream, request)
        return True if verdict.allowed else None
