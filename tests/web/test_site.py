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
    "/api",
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


class TestRefusals(HouseCase):
    async def test_a_method_that_an_output_does_not_know_is_told_in_the_envelope(self) -> None:
        await self.start()
        for method in ("POST", "PUT", "PATCH", "DELETE", "PROPFIND"):
            for path in ("hls/show/playlist.m3u8", "hls", "multicast/channels.json"):
                answer = await self.ask(method, f"/api/v1/{path}")
                self.assertEqual((answer.status, answer.code), (405, "method_not_allowed"), (method, path))
                self.assertEqual(answer.headers["allow"], "GET, HEAD")
                self.assertEqual(answer.headers["content-type"], "application/json")

    async def test_an_unknown_method_elsewhere_is_a_plain_405(self) -> None:
        await self.start()
        for method in ("POST", "DELETE", "PROPFIND"):
            for path in ("/health", "/ready", "/metrics", "/", "/player", "/player/show", "/assets/none.js"):
                answer = await self.ask(method, path)
                self.assertEqual((answer.status, answer.headers["allow"]), (405, "GET, HEAD"), (method, path))
                self.assertEqual(answer.headers["content-type"], "text/plain; charset=utf-8")
                self.assertEqual(answer.body, b"This method is not possible here.\n")

    async def test_what_does_not_exist_is_a_plain_404(self) -> None:
        await self.start()
        for path in ("/nope", "/api", "/api/", "/api/v2", "/favicon.ico", "/a/b/c"):
            for method in ("GET", "POST", "PROPFIND"):
                answer = await self.ask(method, path)
                self.assertEqual((answer.status, answer.body), (404, b"There is nothing at this address.\n"))
                self.assertEqual(answer.headers["content-type"], "text/plain; charset=utf-8")

    async def test_nothing_of_a_request_is_reflected(self) -> None:
        await self.start()
        for root in ("", "/player", "/health", "/api", "/api/v1/hls", "/api/v1/multicast", "/assets"):
            for method in ("GET", "POST", "DELETE", "PROPFIND"):
                answer = await self.ask(method, f"{root}/pwn?pwn=pwn")
                self.assertNotIn(b"pwn", answer.body.lower(), (method, root))

    async def test_no_answer_says_what_runs_here(self) -> None:
        await self.start()
        for path in (*EVERYWHERE, "*"):
            self.assertNotIn("server", (await self.ask("OPTIONS", path)).headers, path)

    async def test_a_percent_in_the_path_does_not_lead_around_the_envelope(self) -> None:
        await self.start()
        answer = await self.ask("DELETE", "/%61pi/v%31/hls/show")
        self.assertEqual((answer.status, answer.code), (405, "method_not_allowed"))


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
        api = Api([], accounts, lambda: (), server.clock)
        server.factory.site = site({}, {}, api, {"odd": resource}, server.clock.seconds)
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

    def test_one_without_get_refuses_it(self) -> None:
        class Deaf(Resource):
            isLeaf = True

            def render_POST(self, request: Request) -> bytes:
                raise AssertionError("nothing was posted")

        answer = self.ask(Deaf(), "HEAD")
        self.assertEqual((answer.status, answer.headers["allow"], answer.body), (405, "POST", b""))


class TestErrorsOfOddResources(OddCase):
    def assertInternal(self, answer: Answer) -> None:
        self.assertEqual((answer.status, answer.code), (500, "internal"))
        self.assertNotIn(b"secret", answer.body)

    def test_twisteds_page_for_what_a_plugin_does_not_have_becomes_the_envelope(self) -> None:
        answer = self.ask(Resource(), path="/api/v1/odd/nope")
        self.assertEqual((answer.status, answer.code), (404, "not_found"))

    def test_a_plugins_own_words_become_the_envelope(self) -> None:
        def refuse(request: Request) -> bytes:
            request.setResponseCode(403)
            request.setHeader("Content-Type", "text/html")
            return b"<h1>Go away</h1>"

        answer = self.ask(Odd(refuse))
        self.assertEqual((answer.status, answer.code, answer.json["error"]), (403, "forbidden", "Forbidden."))

    def test_words_that_come_in_parts_become_one_envelope(self) -> None:
        def refuse(request: Request) -> int:
            request.setResponseCode(404)
            for part in (b"not ", b"here"):
                request.write(part)
            request.finish()
            return NOT_DONE_YET

        answer = self.ask(Odd(refuse))
        self.assertEqual(
            (answer.code, int(answer.headers["content-length"])), ("not_found", len(answer.body))
        )

    def test_a_status_that_is_in_no_standard_is_told_in_the_envelope(self) -> None:
        def refuse(request: Request) -> bytes:
            request.setResponseCode(499)
            return b""

        self.assertEqual(self.ask(Odd(refuse)).code, "refused")

    def test_a_plugins_json_is_left_as_it_is(self) -> None:
        def refuse(request: Request) -> bytes:
            request.setResponseCode(409)
            request.setHeader("Content-Type", "application/json; charset=utf-8")
            return b'{"code": "mine"}'

        self.assertEqual(self.ask(Odd(refuse)).body, b'{"code": "mine"}')

    def test_what_a_plugin_raises_is_logged_and_told_in_the_envelope(self) -> None:
        def fail(request: Request) -> bytes:
            raise RuntimeError("a secret")

        self.assertInternal(self.ask(Odd(fail)))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_what_is_no_answer_is_a_500_that_shows_nothing_of_it(self) -> None:
        self.assertInternal(self.ask(Odd(lambda request: "a secret")))
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    def test_an_answer_that_fails_half_way_ends_the_connection(self) -> None:
        def fail(request: Request) -> bytes:
            request.write(b"half of it")
            raise RuntimeError("a secret")

        connection = self.connected(Odd(fail))
        answer = Answer(connection.get(b"/api/v1/odd"))
        self.assertTrue(connection.aborted)
        self.assertNotIn(b"Something went wrong", answer.body)
        self.flushLoggedErrors(RuntimeError)
