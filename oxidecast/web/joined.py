"""Viewers who say themselves that they watch: they join, go on saying so, and leave.

The one idea: a viewer counts from its join on, and as long as its heartbeats come. What it watches by does not matter,
so those are counted, too, whom no output sees (multicast), and what they watch is wanted in their name. An output that
sees its viewers finds in `stream.viewers` those that are counted already, by the `viewer` in the address that they were
given.
"""

from collections import Counter, OrderedDict
from typing import NamedTuple

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from oxidecast.accounts.limits import network_of
from oxidecast.interfaces import IViewer, IWant
from oxidecast.streams.stream import Stream
from oxidecast.streams.wanting import RenditionSpec

HEARTBEAT = 10.0
"""Seconds between two heartbeats. A page in the background may run its timers once a minute only, but plays on; those
who watch by HLS are then counted by what they load."""

GONE_AFTER = 3 * HEARTBEAT
"""Seconds without one after which a viewer has left."""

SWEEP = 1.0

MOST_OF_STREAM = 20_000
"""Joined viewers of one stream: twice what one process is made for."""

MOST_OF_ADDRESS = 100
"""Joined viewers of one stream from one address (IPv6: one /64): a school behind one address, and not a script that
makes a stream look watched."""


class TooManyViewers(Exception):
    """The stream, or the address, has as many as it may."""


class _Joined(NamedTuple):
    stream: Stream
    viewer: IViewer
    network: str
    heard: float
    want: IWant | None


class JoinedViewers(Service):
    """All joined viewers of the server."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._joined: OrderedDict[str, _Joined] = OrderedDict()
        """By id, whom was heard of longest ago first."""
        self._counts: Counter[tuple[str, str]] = Counter()
        """By stream and network; the network of the whole stream is empty."""
        self._sweeping = LoopingCall(self._sweep)
        self._sweeping.clock = clock

    def __len__(self) -> int:
        return len(self._joined)

    def startService(self) -> None:
        super().startService()
        self._sweeping.start(SWEEP, now=False)

    def stopService(self) -> None:
        super().stopService()
        if self._sweeping.running:
            self._sweeping.stop()

    def join(
        self,
        stream: Stream,
        output: str,
        address: str,
        user_id: str | None = None,
        rendition: str = "",
        wants: str = "",
    ) -> str:
        """Count one more viewer of a live stream; answers its id. While it watches, the quality that it `wants` is
        made, where that is one. Raises TooManyViewers."""
        network = network_of(address)
        if (
            self._counts[stream.id, ""] >= MOST_OF_STREAM
            or self._counts[stream.id, network] >= MOST_OF_ADDRESS
        ):
            raise TooManyViewers
        viewer = stream.viewer(output, address)
        viewer.user_id, viewer.rendition = user_id, rendition
        want = stream.want(RenditionSpec(wants)) if wants else None
        self._joined[viewer.id] = _Joined(stream, viewer, network, self._clock.seconds(), want)
        self._count(stream.id, network, 1)
        return viewer.id

    def heartbeat(self, viewer_id: str) -> bool:
        """The viewer is still there. False when it had left, or its stream has ended."""
        joined = self._joined.get(viewer_id)
        if joined is None:
            return False
        if viewer_id not in joined.stream.viewers:
            self._forget(viewer_id)
            return False
        self._joined[viewer_id] = joined._replace(heard=self._clock.seconds())
        self._joined.move_to_end(viewer_id)
        return True

    def leave(self, viewer_id: str, stream: str | None = None, at: float | None = None) -> None:
        """The viewer leaves, or has left when it was last heard of (`at`); if a stream is named (by id or name), only
        when it watches that. An unknown one has left already."""
        joined = self._joined.get(viewer_id)
        if joined is not None and stream in (None, joined.stream.id, joined.stream.name):
            self._forget(viewer_id)
            joined.viewer.leave(at)

    def _sweep(self) -> None:
        limit = self._clock.seconds() - GONE_AFTER
        while self._joined:
            viewer_id, joined = next(iter(self._joined.items()))
            if joined.heard > limit:
                return
            self.leave(viewer_id, at=joined.heard)

    def _forget(self, viewer_id: str) -> None:
        joined = self._joined.pop(viewer_id)
        if joined.want is not None:
            joined.want.release()
        self._count(joined.stream.id, joined.network, -1)

    def _count(self, stream_id: str, network: str, change: int) -> None:
        for key in ((stream_id, ""), (stream_id, network)):
            self._counts[key] += change
            if not self._counts[key]:
                del self._counts[key]
