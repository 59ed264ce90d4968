"""Short-lived child processes that make a JPEG of one keyframe, or of many tiles, and die in time.

The one idea: what a stranger's encoder sent is decoded outside of the server, by a process that has given up the
network, files and most memory, and that lives for one picture. However it ends, its owner hears of it once.
"""

import os
import sys
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from oxidecast.formats import framed
from oxidecast.formats.framed import FrameReader
from oxidecast.formats.framed_messages import Thumbnail, Tile
from oxidecast.media import Packet, RemoteProtocolError
from oxidecast.transcoding.process import environment

COMMAND = (sys.executable, "-m", "oxidecast.transcoding.worker.still")
TILES = (sys.executable, "-m", "oxidecast.transcoding.worker.storyboard")

LATE = 10.0
"""Seconds: most of the time it takes half of one to load the libraries; a machine that is full makes it wait."""

NICE = 10
"""Below the ladders' children, which are below the server."""

MOST_SAID = 1000
"""Characters kept of what it says to its standard error."""


class NoThumbnail(Exception):
    """No picture was made; the text says why. `late` when the child was killed for it."""

    def __init__(self, sentence: str, late: bool = False) -> None:
        super().__init__(sentence)
        self.late = late


class OneShot(ProcessProtocol):
    """One process, which is started at once and given `data`. `result` is a JPEG, or a NoThumbnail; it comes when no
    process is left."""

    def __init__(self, reactor: Any, data: bytes, number: int, command: tuple[str, ...]) -> None:
        self.result: Deferred[bytes] = Deferred()
        self._made: Thumbnail | None = None
        self._said = ""
        self._late = False
        self._data = data
        self._reader = FrameReader()
        arguments = [*command, str(os.getpid()), str(NICE), str(number)]
        self._watch = reactor.callLater(LATE, self._is_late)
        try:
            reactor.spawnProcess(self, arguments[0], arguments, env=environment())
        except OSError as error:
            self._watch.cancel()
            self.result.errback(NoThumbnail(f"the child could not be started: {error}"))

    @property
    def tile(self) -> Tile | None:
        """A small one of the same, once there is a result."""
        return self._made.tile if self._made is not None else None

    def kill(self) -> None:
        """Nobody wants the picture any more."""
        try:
            self.transport.signalProcess("KILL")  # type: ignore[union-attr]
        except ProcessExitedAlready:
            pass

    def connectionMade(self) -> None:
        self.transport.write(self._data)  # type: ignore[union-attr]
        self._data = b""
        self.transport.closeStdin()  # type: ignore[union-attr]

    def outReceived(self, data: bytes) -> None:
        try:
            for item in self._reader.receive(data):
                if isinstance(item, Thumbnail):
                    self._made = item
        except RemoteProtocolError as error:
            self._said = str(error)
            self.kill()

    def errReceived(self, data: bytes) -> None:
        self._said = (self._said + data.decode("utf-8", "replace"))[-MOST_SAID:]

    def processEnded(self, reason: Failure) -> None:
        if self._watch.active():
            self._watch.cancel()
        if self._made is not None:
            self.result.callback(self._made.jpeg)
        elif self._late:
            self.result.errback(NoThumbnail(f"the child gave none within {LATE:g} seconds", late=True))
        else:
            self.result.errback(NoThumbnail(self._said.strip() or "the child ended without a picture"))

    def _is_late(self) -> None:
        self._late = True
        self.kill()


class Child(OneShot):
    """A picture of a keyframe, at most `width` wide."""

    def __init__(
        self, reactor: Any, keyframe: Packet, width: int, command: tuple[str, ...] = COMMAND
    ) -> None:
        coded = framed.packet(keyframe.track.id, keyframe.dts, keyframe.pts, True, keyframe.payload)
        super().__init__(reactor, framed.track(keyframe.track) + coded, width, command)


class Sheet(OneShot):
    """Tiles of one size side by side, so many in a row."""

    def __init__(
        self, reactor: Any, tiles: Sequence[Tile], columns: int, command: tuple[str, ...] = TILES
    ) -> None:
        super().__init__(reactor, b"".join(map(framed.message, tiles)), columns, command)
