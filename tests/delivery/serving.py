"""A server for tests: some hot answers, a few cold resources, and a connection in memory or on loopback."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from zope.interface import implementer

from oxidecast.delivery.hot import HotAnswer, HotRequest, IHotResource
from oxidecast.delivery.http import HTTPChannel
from oxidecast.delivery.http_limits import HTTPLimits
from oxidecast.delivery.http_server import HTTPServerFactory
from oxidecast.delivery.proxied import Proxies

PREFIX = b"/api/v1/hls/"
PLAYLIST = b"#EXTM3U\n" + b"#" * 492
SEGMENT = bytes(range(256)) * 2344  # 600 064 bytes
CLIENT = IPv4Address("TCP", "192.0.2.7", 40000)


@implementer(IHotResource)
class Shelf:
    """Answers from a dictionary, keeps what it was asked, and may wait."""

    def __init__(self) -> None:
        self.answers: dict[bytes, Any] = {
            b"playlist.m3u8": HotAnswer(
                PLAYLIST, b"application/vnd.apple.mpegurl", etag=b"v1", cache_control=b"no-cache", cors=True
            ),
            b"segment.m4s": HotAnswer(memoryview(SEGMENT), b"video/mp4", etag=b"s1", cors=True),
            b"private": HotAnswer(b"secret", b"text/plain", headers=((b"X-Extra", b"1"),)),
            b"gone": HotAnswer(b"gone", b"text/plain", status=410, cors=True),
        }
        self.requests: list[HotRequest] = []
        self.waiting: list[Deferred[HotAnswer]] = []
        self.cancelled = 0

    def hot(self, request: HotRequest) -> HotAnswer | Deferred[Any] | None:
        self.requests.append(request)
        if request.path == b"wait":
            waiting: Deferred[HotAnswer] = Deferred(self._cancel)
            self.waiting.append(waiting)
            return waiting
        if request.path == b"raise":
            raise RuntimeError("a bug of the resource")
        return self.answers.get(request.path)

    def _cancel(self, waiting: Deferred[HotAnswer]) -> None:
        self.cancelled += 1


class Echo(Resource):
    """Says what it was sent."""

    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        return b"%b %b" % (request.method, request.uri)

    def render_POST(self, request: Request) -> bytes:
        return request.content.read()


class Manual(Resource):
    """Leaves each request to the test."""

    isLeaf = True

    def __init__(self, act: Callable[[Request], None] = lambda request: None) -> None:
        super().__init__()
        self.act = act
        self.requests: list[Request] = []

    def render_GET(self, request: Request) -> int:
        self.requests.append(request)
        self.act(request)
        return NOT_DONE_YET


class Failing(Resource):
    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        raise RuntimeError("a bug of the site")


@dataclass
class Server:
    """One server, and a connection to it in memory."""

    limits: HTTPLimits = field(default_factory=HTTPLimits)
    admit: Callable[[HotRequest], HotAnswer | None] | None = None
    admit_hot: Callable[[HotRequest], HotAnswer | None] | None = None
    proxies: Proxies | None = None
    clock: Any = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.shelf = Shelf()
        self.manual = Manual()
        self.counted: list[tuple[str, str, int]] = []
        self.root = Resource()
        self.root.putChild(b"echo", Echo())
        self.root.putChild(b"manual", self.manual)
        self.root.putChild(b"failing", Failing())
        self.factory = HTTPServerFactory(
            Site(self.root, reactor=self.clock),
            {PREFIX: self.shelf},
            self.limits,
            self.clock,
            lambda *labels: self.counted.append(labels),
            self.admit,
            self.admit_hot,
            self.proxies,
        )

    def connect(self) -> "Connection":
        channel = self.factory.buildProtocol(CLIENT)
        assert channel is not None
        return Connection(self, channel)

    def exchange(self, *pieces: bytes) -> bytes:
        """What one connection answers to `pieces`."""
        connection = self.connect()
        for piece in pieces:
            connection.send(piece)
        return connection.received()

    def tick(self, seconds: int) -> None:
        self.clock.pump([1] * seconds)


class Connection:
    def __init__(self, server: Server, channel: HTTPChannel) -> None:
        self.channel = channel
        self.transport = StringTransport(peerAddress=CLIENT)
        channel.makeConnection(self.transport)

    def send(self, data: bytes) -> None:
        if not self.ended:
            self.channel.dataReceived(data)

    def received(self) -> bytes:
        """What has come since the last call."""
        data: bytes = self.transport.value()
        self.transport.clear()
        return data

    def get(self, path: bytes, *headers: bytes, method: bytes = b"GET") -> bytes:
        self.send(request(path, *headers, method=method))
        return self.received()

    @property
    def ended(self) -> bool:
        return bool(self.transport.disconnecting or self.aborted)

    @property
    def aborted(self) -> bool:
        return bool(self.transport.disconnected or getattr(self.transport, "aborting", False))


def request(path: bytes, *headers: bytes, method: bytes = b"GET", version: bytes = b"HTTP/1.1") -> bytes:
    return b"\r\n".join((b"%b %b %b" % (method, path, version), b"Host: test", *headers, b"", b""))


def status(answer: bytes) -> int:
    return int(answer[9:12])


def field_of(answer: bytes, name: bytes) -> bytes | None:
    match = re.search(rb"\r\n" + re.escape(name) + rb": ([^\r]*)", answer.partition(b"\r\n\r\n")[0], re.I)
    return match[1] if match else None


def body_of(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]
