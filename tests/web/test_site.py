"""What all answers of the site have in common, whatever resource gives them."""

from collections.abc import Callable
from typing import Any

from twisted.logger import LogEvent, eventAsText, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.error import UnsupportedMethod
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET, Request
from zope.interface import implementer

from oxidecast.web.api import Api
from oxidecast.web.site import site
from tests.delivery.serving import Connection, Server
from tests.house import Answer, HouseCase

EVERYWHERE = (
    "/",
    "/player",
    "/player/show",
    "/embed/show",
    "/assets/none.js",
    "/health",
    "/ready",
    "/metrics",
    "/nope",
    "/api/v1",
    "/api/v1/streams",
    "/api/v1/nope",
    "/api/v1/multicast/channels.m3u",
    "/api/v1/multicast/nope",
    "/api/v1/hls/show/playlist.m3u8",
    "/api/v1/hls/%2e%2e",
)


class TestHead(HouseCase):
    async def test_it_has_the_fields_of_a_get(self) -> None:
        await self.start()
        for path in EVERYWHERE:
            if path == "/metrics":
                continue  # They grow with every answer.
            get, head = await self.ask("GET", path), await self.ask("HEAD", path)
            for answer in (get, head):
                del answer.headers["date"]
            self.assertEqual((path, head.status, head.headers), (path, get.status, get.headers))
            self.assertIn("content-length", head.headers, path)

    async def test_it_has_no_body(self) -> None:
        await self.start()
        for path in EVERYWHERE:
            self.assertEqual((path, (await self.ask("HEAD", path)).body), (path, b""))

    async def test_nothing_is_logged_of_it(self) -> None:
        await self.start()
        events: list[LogEvent] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        for path in EVERYWHERE:
            await self.ask("HEAD", f"{path}?token=hunter2")
        ours = [event for event in events if not event["log_namespace"].endswith("OneShotFactory")]
        self.assertEqual([eventAsText(event) for event in ours], [])


class Odd(Resource):
    """A plugin's resource whose GET is whatever a test wants."""

    isLeaf = True

    def __init__(self, get: Callable[[Request], Any]) -> None:
        super().__init__()
        self._get = get

    def render_GET(self, request: Request) -> Any:
        return self._get(request)


@implementer(IResource)
class WithoutHead:
    """A resource that is none of Twisted's kind, and has only heard of GET."""

    isLeaf = True

    def __init__(self, get: Callable[[Request], Any]) -> None:
        self._get = get

    def getChildWithDefault(self, name: bytes, request: Request) -> Any:
        raise AssertionError("a leaf has no children")

    def putChild(self, path: bytes, child: IResource) -> None:
        raise AssertionError("a leaf has no children")

    def render(self, request: Request) -> Any:
        if request.method != b"GET":
            raise UnsupportedMethod([b"GET"])
        return self._get(request)


class OddCase(SynchronousTestCase):
    """Asks the resource of a plugin at `/api/v1/odd`."""

    def connected(self, resource: Any) -> Connection:
        server = Server()
        accounts: Any = None  # No route of the API asks for them.
        api = Api([], accounts, lambda: (), server.clock.seconds)
        server.factory.site = site({}, {}, api, {"odd": resource})
        return server.connect()

    def ask(self, resource: Any, method: str = "GET", path: str = "/api/v1/odd") -> Answer:
        return Answer(self.connected(resource).get(path.encode(), method=method.encode()))


class TestHeadOfOddResources(OddCase):
    def test_one_that_knows_no_head_is_asked_as_if_by_get(self) -> None:
        answer = self.ask(WithoutHead(lambda request: b"12345"), "HEAD")
        self.assertEqual((answer.status, answer.headers["content-length"], answer.body), (200, "5", b""))

    def test_one_that_knows_no_head_and_writes_at_once_sends_no_body(self) -> None:
        def write(request: Request) -> int:
            request.write(b"12345")
            request.finish()
            return NOT_DONE_YET

        self.assertEqual(self.ask(WithoutHead(write), "HEAD").body, b"")

    def test_one_that_says_the_length_itself_is_believed(self) -> None:
        def length(request: Request) -> bytes:
            request.setHeader("Content-Length", "77")
            return b""

        self.assertEqual(self.ask(Odd(length), "HEAD").headers["content-length"], "77")

    def test_one_that_answers_later_sends_no_body(self) -> None:
        asked: list[Request] = []

        def later(request: Request) -> int:
            asked.append(request)
            return NOT_DONE_YET

        connection = self.connected(WithoutHead(later))
        connection.send(b"HEAD /api/v1/odd HTTP/1.1\r\nHost: test\r\n\r\n")
        asked[0].write(b"12345")
        asked[0].finish()
        self.assertEqual(Answer(connection.received()).body, b"")
