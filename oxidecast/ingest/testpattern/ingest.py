"""A moving test pattern as an ordinary publisher: `--demo`, and `[testpattern] stream_key`.

The pictures are made by a child process (`child.py`), which the server outlives: when it dies it is started again.
"""

import sys
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar

from msgspec import Meta
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from oxidecast.formats.framed import FramedPacket, FrameReader
from oxidecast.interfaces import (
    IIngest,
    IPublication,
    IPublisher,
    IServices,
    IStream,
    PublishRequest,
    Refused,
)
from oxidecast.media import RemoteProtocolError, Track
from oxidecast.settings.section import Bitrate, Section

RESTART_AFTER = 5.0
"""Seconds before the pattern is tried again, when it was refused or its child died."""


class PatternSettings(Section, frozen=True, kw_only=True):
    """[testpattern]"""

    secrets: ClassVar[frozenset[str]] = frozenset({"stream_key"})

    stream_key: str | None = None
    width: Annotated[int, Meta(ge=320, le=3840, multiple_of=2)] = 1280
    height: Annotated[int, Meta(ge=180, le=2160, multiple_of=2)] = 720
    bitrate: Bitrate = 2_000_000


class _Child(ProcessProtocol):
    def __init__(self, ingest: "PatternIngest", publication: IPublication) -> None:
        self._ingest = ingest
        self._publication = publication
        self._reader = FrameReader()

    def outReceived(self, data: bytes) -> None:
        try:
            for item in self._reader.receive(data):
                if isinstance(item, Track):
                    self._publication.track(item)
                elif isinstance(item, FramedPacket):
                    self._publication.packet(
                        item.track_id, item.dts, item.pts, item.keyframe, item.payload, item.samples
                    )
        except RemoteProtocolError as error:
            self._ingest.log.error("the test pattern's child sent nonsense: {error}", error=error)
            self.kill()

    def errReceived(self, data: bytes) -> None:
        self._ingest.log.warn(
            "the test pattern's child says: {text}", text=data.decode("utf-8", "replace").strip()
        )

    def processEnded(self, reason: Failure) -> None:
        self._publication.close("the test pattern's child ended")
        self._ingest.child_ended(self)

    def kill(self) -> None:
        try:
            assert self.transport is not None
            self.transport.signalProcess("KILL")
        except ProcessExitedAlready:
            pass


@implementer(IIngest, IPublisher)
class PatternIngest(Service):
    """The plugin while it runs. Without a stream key it does nothing."""

    log = Logger()

    def __init__(self, settings: PatternSettings, services: IServices) -> None:
        self._settings = settings
        self._services = services
        self._child: _Child | None = None
        self._stream: IStream | None = None
        """Where the pattern was published last."""
        self._stopped: Deferred[None] | None = None
        self._again: Any = None

    def addresses(self) -> Iterable[str]:
        return ()

    def startService(self) -> None:
        super().startService()
        if self._settings.stream_key is not None:
            self._again = self._services.reactor.callLater(0, self._begin)

    def stopService(self) -> Deferred[None] | None:
        super().stopService()
        if self._again is not None and self._again.active():
            self._again.cancel()
        if self._child is None:
            return None
        self._stopped = Deferred()
        self._child.kill()
        return self._stopped

    def stop(self, code: str, sentence: str) -> None:
        self.log.info("the test pattern was stopped: {sentence}", sentence=sentence)
        if self._child is not None:
            self._child.kill()

    def child_ended(self, child: _Child) -> None:
        self._child = None
        if self._stopped is not None:
            self._stopped.callback(None)
        elif self.running:
            self._retry()

    def _retry(self) -> None:
        self._again = self._services.reactor.callLater(RESTART_AFTER, self._begin)

    def _begin(self) -> None:
        if self._stream is not None and self._stream.state == "live":
            self._retry()  # somebody else publishes with the key now: a pattern does not fight for it
            return
        Deferred.fromCoroutine(self._publish()).addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        self.log.failure("the test pattern could not be published", failure=failure)
        if self.running:
            self._retry()

    async def _publish(self) -> None:
        settings = self._settings
        request = PublishRequest(
            protocol="testpattern",
            address="127.0.0.1",
            key=settings.stream_key or "",
            encoder="OxideCast test pattern",
        )
        try:
            publication = await self._services.hub.publish(request, self)
        except Refused as refused:
            self.log.warn("the test pattern was refused: {sentence}", sentence=refused.sentence)
            if self.running:
                self._retry()
            return
        if not self.running:
            publication.close("the server is shutting down")
            return
        self._stream = publication.stream
        publication.expect(video=True, audio=True)
        child = _Child(self, publication)
        arguments = [str(value) for value in (settings.width, settings.height, settings.bitrate)]
        try:
            self._services.reactor.spawnProcess(
                child,
                sys.executable,
                [sys.executable, "-m", "oxidecast.ingest.testpattern.child", *arguments],
                env=None,
            )
        except OSError:
            publication.close("the test pattern's child did not start")
            raise
        self._child = child
