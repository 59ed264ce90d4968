"""The HTTP port as a whole: its connections, their one clock, its hot routes and its counters.

Time is counted in ticks of a second, one for all connections: ten thousand connections cost one walk over
their deadlines a second instead of a timer for each request, and neither a step of the wall clock nor a stall
of the reactor is held against clients. The same tick renders the `Date` field.
"""

from collections.abc import Callable, Mapping

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocolNegotiationFactory, IReactorTime
from twisted.internet.protocol import ServerFactory
from twisted.web.http import datetimeToString
from twisted.web.server import Site
from zope.interface import implementer

from oxidecast.delivery.hot import HotAnswer, HotRoute, IHotResource
from oxidecast.delivery.http import HTTPChannel
from oxidecast.delivery.http_limits import HTTPLimits
from oxidecast.delivery.http_parser import Incoming
from oxidecast.delivery.proxied import Proxies

REFUSED_AT_ONCE = 256
"""Connections over the limit that are told so at the same time; beyond these too, they are closed without a
word."""

METHODS = {name.encode(): name for name in ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")}
"""The methods that are counted by name; others are a stranger's text, and count as `other`."""

Admit = Callable[[Incoming], HotAnswer | None]


@implementer(IProtocolNegotiationFactory)
class HTTPServerFactory(ServerFactory[HTTPChannel]):
    """Serves `hot_routes` and, for everything else, `site`.

    `hot_routes` maps path prefixes such as `b"/api/v1/hls/"` to their resources; the longest that fits is
    asked first. `on_request(route, method, status)` is called once per answer, hot and cold alike, with
    bounded labels: the hot route's prefix, `site` (or what a resource put into `request.route_label`), or
    `refused`. `admit(request)` sees every request before the site does, and may answer it, with a 429 for
    example; the answer None lets it pass. `admit_hot` is the same for requests of the hot routes, which
    nobody need see.

    `proxies` are peers whose word counts about who sent a request.

    Over `limits.max_connections` a connection is accepted, told 503 with Retry-After, and closed. Not
    accepting would leave clients and health checks hanging in the kernel's queue without a word, and would
    hide the overload from the counters.
    """

    noisy = False

    def __init__(
        self,
        site: Site,
        hot_routes: Mapping[bytes, IHotResource],
        limits: HTTPLimits,
        clock: IReactorTime,
        on_request: Callable[[str, str, int], None] | None = None,
        admit: Admit | None = None,
        admit_hot: Admit | None = None,
        proxies: Proxies | None = None,
    ) -> None:
        self.site = site
        self.limits = limits
        self.admit = admit
        self.admit_hot = admit_hot
        self.proxies = proxies if proxies is not None else Proxies()
        self.channels: set[HTTPChannel] = set()
        self.now = 0
        """Seconds as the connections count them."""
        self.hsts = b""
        """The header line that secure answers have besides (RFC 6797), or nothing."""
        self.stopping = False
        self._on_request = on_request
        self._clock = clock
        prefixes = sorted(hot_routes, key=len, reverse=True)
        self._routes = tuple(
            HotRoute(prefix, prefix.decode("ascii"), hot_routes[prefix]) for prefix in prefixes
        )
        self._refused: set[HTTPChannel] = set()
        self._next_tick: IDelayedCall | None = None
        self._stopped: Deferred[None] | None = None
        self._tails: tuple[bytes, bytes, bytes] = (b"", b"", b"")

    def buildProtocol(self, addr: IAddress | None) -> HTTPChannel | None:
        if self.stopping or len(self._refused) >= REFUSED_AT_ONCE:
            return None
        assert addr is not None
        return HTTPChannel(self, addr)

    def acceptableProtocols(self) -> list[bytes]:
        """For TLS: HTTP/2 costs a media port three times the CPU, so it is not offered."""
        return [b"http/1.1"]

    def stop(self, grace: float) -> Deferred[None]:
        """Ends idle connections now, others after the answer in flight, and all of them after `grace`
        seconds.

        Stop listening first. Upgraded and endless connections count as in flight: their owners should end
        them.
        """
        self.stopping = True
        if not self.channels:
            return succeed(None)
        if self._stopped is None:
            self._stopped = Deferred()
            deadline = self._clock.callLater(grace, self._abort_all)
            self._stopped.addCallback(lambda _: deadline.cancel() if deadline.active() else None)
            for channel in list(self.channels):
                channel.stop()
        stopped: Deferred[None] = Deferred()
        self._stopped.chainDeferred(stopped)
        return stopped

    def _abort_all(self) -> None:
        for channel in list(self.channels):
            channel.abort()

    # What the channels use.

    def seconds(self) -> float:
        """Since 1970."""
        return float(self._clock.seconds())

    def opened(self, channel: HTTPChannel) -> bool:
        """Takes note of a connection; False when it is one too many and must be refused."""
        self.channels.add(channel)
        if self._next_tick is None:
            self._tick()
        if len(self.channels) - len(self._refused) <= self.limits.max_connections:
            return True
        self._refused.add(channel)
        return False

    def closed(self, channel: HTTPChannel) -> None:
        self.channels.discard(channel)
        self._refused.discard(channel)
        if self.channels:
            return
        if self._next_tick is not None:
            self._next_tick.cancel()
            self._next_tick = None
        if self._stopped is not None:
            stopped, self._stopped = self._stopped, None
            stopped.callback(None)

    def route(self, path: bytes) -> HotRoute | None:
        """The hot route with the longest prefix of the raw path."""
        for route in self._routes:
            if path.startswith(route.prefix):
                return route
        return None

    def tail(self, keep_alive: bool, version: bytes) -> bytes:
        """The fields of a head that differ by second and by connection, and the empty line."""
        if not keep_alive:
            return self._tails[1]
        return self._tails[0] if version == b"HTTP/1.1" else self._tails[2]

    def secure_tail(self, keep_alive: bool, version: bytes) -> bytes:
        """The same of answers over TLS."""
        return self.hsts + self.tail(keep_alive, version)

    def count(self, route: str, method: bytes, status: int) -> None:
        if self._on_request is not None:
            self._on_request(route, METHODS.get(method, "other"), status)

    def _tick(self) -> None:
        self._next_tick = self._clock.callLater(1, self._tick)
        self.now = now = self.now + 1
        date = b"Date: %b\r\n" % datetimeToString(self._clock.seconds())
        self._tails = (
            date + b"\r\n",
            date + b"Connection: close\r\n\r\n",
            date + b"Connection: keep-alive\r\n\r\n",
        )
        for channel in [channel for channel in self.channels if channel.deadline < now]:
            channel.timedOut()
