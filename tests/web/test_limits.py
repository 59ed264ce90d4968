"""What one client, and one behind a proxy, may take of the whole server."""

import re
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.accounts import passwords, throttle
from oxidecast.web import api as api_module
from oxidecast.web.api import LONGEST_CALL, Api, Call, Route
from oxidecast.web.site import site
from tests.delivery.serving import Server, request, status
from tests.house import Answer
from tests.web.test_api import ApiCase

STREAMS = "/api/v1/streams"
REFRESH = "/api/v1/auth/refresh"
BEHIND = {"X_Forwarded_For": "203.0.113.7"}


class LimitCase(ApiCase):
    limits: dict[str, str] = {}

    def setUp(self) -> None:
        super().setUp()
        del self.environ["OXIDECAST_RATE_LIMIT_EXEMPT"]
        for name, value in self.limits.items():
            self.environ[f"OXIDECAST_RATE_LIMIT_{name}"] = value

    async def statuses(self, count: int, *call: Any, **fields: Any) -> list[int]:
        return [(await self.ask(*call, **fields)).status for _ in range(count)]


class TestCalls(LimitCase):
    limits = {"API_BURST": "3", "API_RATE": "0.01", "AUTH_BURST": "2", "AUTH_RATE": "0.01"}

    async def test_one_too_many_is_told_so_in_the_envelope(self) -> None:
        self.environ["OXIDECAST_CORS_ORIGINS"] = '["https://good.example"]'
        await self.start()
        self.assertEqual(await self.statuses(3, "GET", STREAMS), [200] * 3)
        answer = await self.ask("GET", STREAMS, Origin="https://good.example")
        self.assertEnvelope(answer, 429, "rate_limited")
        self.assertEqual(answer.headers["retry-after"], "100")
        self.assertEqual(answer.headers["access-control-allow-origin"], "https://good.example")
        self.assertIn("Retry-After", answer.headers["access-control-expose-headers"])

    async def test_what_does_not_exist_counts_too(self) -> None:
        await self.start()
        self.assertEqual(await self.statuses(4, "GET", "/api/v1/nothing"), [404, 404, 404, 429])

    async def test_preflights_health_pages_and_media_do_not_count(self) -> None:
        await self.start()
        await self.statuses(4, "GET", STREAMS)
        for method, path in (
            ("OPTIONS", STREAMS),
            ("GET", "/health"),
            ("GET", "/ready"),
            ("GET", "/api/v1/openapi.json"),
        ):
            self.assertEqual(await self.statuses(5, method, path), [200] * 5, path)
        self.assertEqual(set(await self.statuses(5, "GET", "/api/v1/hls/none/playlist.m3u8")), {404})

    async def test_tokens_are_refreshed_more_rarely_than_calls_are_made(self) -> None:
        await self.start()
        body = {"refresh_token": "x"}
        self.assertEqual(await self.statuses(3, "POST", REFRESH, body), [401, 401, 429])
        self.assertEqual(await self.statuses(1, "POST", "/api/v1/auth/logout"), [429])
        self.assertEqual(await self.statuses(1, "GET", STREAMS), [200])

    async def test_a_user_is_limited_over_all_its_addresses(self) -> None:
        self.environ["OXIDECAST_SERVER_TRUSTED_PROXIES"] = '["127.0.0.0/8"]'
        await self.start()
        token = await self.token("viewer")
        found = [
            (await self.ask("GET", STREAMS, token=token, X_Forwarded_For=f"203.0.113.{number}")).status
            for number in range(4)
        ]
        self.assertEqual(found, [200, 200, 200, 429])
        self.assertEqual(await self.statuses(1, "GET", STREAMS, X_Forwarded_For="203.0.113.3"), [200])

    async def test_it_is_counted_by_class(self) -> None:
        server = await self.start()
        await self.statuses(5, "GET", STREAMS)
        text = server.metrics.render().decode()
        self.assertIn('oxidecast_rate_limited_total{class="api"} 2.0', text)
        self.assertIn('oxidecast_rate_limited_total{class="auth"} 0.0', text)

    async def test_a_reload_changes_it(self) -> None:
        server = await self.start()
        self.assertEqual(await self.statuses(4, "GET", STREAMS), [200, 200, 200, 429])
        self.environ["OXIDECAST_RATE_LIMIT_EXEMPT"] = '["127.0.0.1"]'
        self.environ["OXIDECAST_RATE_LIMIT_MEDIA_BURST"] = "1"
        self.assertEqual(server.reload(), [])
        self.assertEqual(await self.statuses(2, "GET", STREAMS), [200, 200])
        self.environ["OXIDECAST_RATE_LIMIT_EXEMPT"] = "[]"
        server.reload()
        self.assertEqual(await self.statuses(2, "GET", "/api/v1/hls/none/playlist.m3u8"), [404, 429])


class TestMediaAndSockets(LimitCase):
    async def test_media_has_no_limit_by_default(self) -> None:
        server = await self.start()
        assert server.web.factory is not None
        self.assertIsNone(server.web.factory.admit_hot)

    async def test_media_where_the_settings_limit_it(self) -> None:
        self.environ |= {"OXIDECAST_RATE_LIMIT_MEDIA_BURST": "2", "OXIDECAST_RATE_LIMIT_MEDIA_RATE": "0.1"}
        await self.start()
        self.assertEqual(await self.statuses(2, "GET", "/api/v1/hls/none/playlist.m3u8"), [404, 404])
        answer = await self.ask("GET", "/api/v1/hls/none/playlist.m3u8")
        self.assertEnvelope(answer, 429, "rate_limited")
        self.assertEqual(
            (answer.headers["retry-after"], answer.headers["access-control-allow-origin"]), ("10", "*")
        )

    async def test_upgrades_to_websocket_are_a_class_of_their_own(self) -> None:
        self.environ |= {
            "OXIDECAST_RATE_LIMIT_WEBSOCKET_BURST": "2",
            "OXIDECAST_RATE_LIMIT_WEBSOCKET_RATE": "0.1",
        }
        await self.start()
        asked = ("GET", "/api/v1/events")
        upgrade = {
            "Connection": "close, upgrade",
            "Upgrade": "websocket",
            "Sec_WebSocket_Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        }
        self.assertEqual(await self.statuses(3, *asked, **upgrade), [404, 404, 429])
        self.assertEqual(await self.statuses(1, *asked), [404])

    async def test_offers_of_webrtc_count_as_publishers_and_as_viewers(self) -> None:
        for kind in ("WEBSOCKET", "PUBLISH"):
            self.environ[f"OXIDECAST_RATE_LIMIT_{kind}_BURST"] = "2"
            self.environ[f"OXIDECAST_RATE_LIMIT_{kind}_RATE"] = "0.1"
        await self.start()
        for path, kind in (("none/whep", "websocket"), ("whip", "publish")):
            found = await self.statuses(3, "POST", f"/api/v1/webrtc/{path}", {"no": "offer"})
            self.assertEqual((found[2], 429 in found[:2]), (429, False), (path, found))
            self.assertEqual(self.server.admission.limited[kind], 1)


class TestProxies(LimitCase):
    """The server behind a proxy at 127.0.0.1."""

    def setUp(self) -> None:
        super().setUp()
        self.environ["OXIDECAST_SERVER_TRUSTED_PROXIES"] = '["127.0.0.0/8"]'

    async def test_the_metrics_are_for_the_clients_address_not_the_proxys(self) -> None:
        await self.start()
        self.assertEqual(await self.statuses(1, "GET", "/metrics"), [200])
        self.assertEqual(await self.statuses(1, "GET", "/metrics", **BEHIND), [403])
        self.assertEqual(await self.statuses(1, "GET", "/metrics", X_Forwarded_For="10.0.0.9"), [200])
        self.assertEqual(
            await self.statuses(1, "GET", "/metrics", X_Forwarded_For="127.0.0.1, 203.0.113.7"), [403]
        )
        self.assertEqual(await self.statuses(1, "GET", "/metrics", X_Forwarded_For="nonsense"), [400])

    async def test_logins_are_counted_by_the_clients_address(self) -> None:
        self.environ["OXIDECAST_RATE_LIMIT_LOGIN_ATTEMPTS"] = "1"
        await self.start()
        wrong = {"username": "admin", "password": "wrong wrong"}
        for address, expected in (("203.0.113.7", [401, 429]), ("203.0.113.8", [401, 429])):
            found = await self.statuses(2, "POST", "/api/v1/auth/login", wrong, X_Forwarded_For=address)
            self.assertEqual(found, expected)

    async def test_an_account_under_attack_is_still_its_owners(self) -> None:
        self.environ["OXIDECAST_RATE_LIMIT_LOGIN_ATTEMPTS"] = "1"
        self.patch(throttle, "GAP", 60.0)  # no turn comes while this runs
        await self.start()
        await self.token("viewer", "vera")
        login, right = "/api/v1/auth/login", {"username": "vera", "password": "correct horse"}
        self.assertEqual(await self.statuses(1, "POST", login, right, X_Forwarded_For="203.0.113.7"), [200])
        wrong = {"username": "vera", "password": "wrong wrong"}
        found = []
        for number in range(14):
            found += await self.statuses(1, "POST", login, wrong, X_Forwarded_For=f"192.0.2.{number}")
        self.assertEqual(found, [401] * 11 + [429] * 3)
        elsewhere = await self.ask("POST", login, right, X_Forwarded_For="203.0.113.8")
        self.assertEqual((elsewhere.status, elsewhere.code), (429, "too_many_attempts"))
        self.assertLessEqual(int(elsewhere.headers["retry-after"]), 4 * 60)
        self.assertEqual(await self.statuses(1, "POST", login, right, X_Forwarded_For="203.0.113.7"), [200])

    async def test_who_has_too_many_passwords_to_check_is_told_when_to_come_back(self) -> None:
        self.environ["OXIDECAST_AUTH_OPEN_REGISTRATION"] = "true"
        await self.start()
        admin = await self.token("admin")
        self.patch(passwords, "MAXIMUM_OF_SITE", 0)
        new = {"username": "vera", "password": "correct horse"}
        for path in ("login", "register"):
            answer = await self.ask("POST", f"/api/v1/auth/{path}", new)
            self.assertEqual((answer.status, answer.code), (429, "too_many_attempts"))
            self.assertEqual(answer.headers["retry-after"], "1")
        self.assertEqual((await self.ask("POST", "/api/v1/users", new, admin)).status, 201)

    async def test_viewers_have_the_clients_address(self) -> None:
        await self.start()
        token = await self.token("streamer")
        made = await self.live(token)
        joined = await self.ask(
            "POST", f"{STREAMS}/{made['name']}/join", {"connection_type": "hls"}, **BEHIND
        )
        self.assertEqual(joined.status, 200, joined.body)
        (stream,) = self.server.hub.streams.values()
        self.assertEqual([viewer.address for viewer in stream.viewers.values()], ["203.0.113.7"])

    async def test_addresses_and_the_own_origin_are_those_that_the_client_knows(self) -> None:
        await self.start()
        token = await self.token("streamer")
        made = await self.live(token)
        fields = {
            **BEHIND,
            "X_Forwarded_Proto": "https",
            "X_Forwarded_Host": "tv.example",
            "Origin": "https://tv.example",
        }
        answer = await self.ask("GET", f"{STREAMS}/{made['name']}", **fields)
        self.assertEqual(
            answer.data["stream_urls"]["hls"], f"https://tv.example/api/v1/hls/{made['name']}/playlist.m3u8"
        )
        self.assertEqual(answer.headers["access-control-allow-origin"], "https://tv.example")

    async def test_nobody_else_is_believed(self) -> None:
        self.environ["OXIDECAST_SERVER_TRUSTED_PROXIES"] = '["192.0.2.0/24"]'
        await self.start()
        self.assertEqual(await self.statuses(1, "GET", "/metrics", **BEHIND), [200])

    async def test_the_networks_can_be_reloaded(self) -> None:
        server = await self.start()
        self.environ["OXIDECAST_SERVER_TRUSTED_PROXIES"] = "[]"
        self.assertEqual(server.reload(), [])
        self.assertEqual(await self.statuses(1, "GET", "/metrics", **BEHIND), [200])

    async def test_the_proxy_protocol_on_the_http_port(self) -> None:
        self.environ["OXIDECAST_SERVER_PROXY_PROTOCOL"] = "true"
        await self.start()
        ask = b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        for source, expected in ((b"203.0.113.7", 403), (b"10.0.0.9", 200)):
            answer = await self.send(b"PROXY TCP4 %b 127.0.0.1 4711 80\r\n" % source + ask)
            self.assertEqual(answer.status, expected)
        answer = await self.send(
            b"PROXY TCP4 203.0.113.7 127.0.0.1 4711 80\r\n"
            + ask.replace(b"Host", b"X-Forwarded-For: 10.0.0.9\r\nHost")
        )
        self.assertEqual(answer.status, 403)


class Waiting:
    """A route whose handler waits for the test."""

    def __init__(self) -> None:
        self.waiting: list[Deferred[Any]] = []
        self.cancelled = 0
        self.done: list[Any] = []

    async def handle(self, call: Call) -> Any:
        waiting: Deferred[Any] = Deferred(self._cancel)
        self.waiting.append(waiting)
        await waiting
        self.done.append(call.optional_body(dict))
        return "done"

    def _cancel(self, waiting: Deferred[Any]) -> None:
        self.cancelled += 1


class TestCallsThatTakeLong(SynchronousTestCase):
    def setUp(self) -> None:
        self.route = Waiting()
        self.http = Server()
        clock: Clock = self.http.clock
        accounts: Any = None
        handle = self.route.handle
        routes = [
            Route("GET", "/wait", handle, anonymous=True),
            Route("POST", "/wait", handle, anonymous=True),
            Route("POST", "/ask", handle, anonymous=True, gives_up=True),
        ]
        self.api = Api(routes, accounts, lambda: (), clock)
        self.http.factory.site = site({}, {}, self.api, {}, clock.seconds)

    def ask(self) -> Any:
        connection = self.http.connect()
        connection.send(request(b"/api/v1/wait"))
        return connection

    def post(self, path: bytes = b"/api/v1/wait") -> Any:
        body = b'{"title": "Show"}'
        fields = b"Host: x\r\nContent-Type: application/json\r\nContent-Length: %d" % len(body)
        connection = self.http.connect()
        connection.send(b"POST %b HTTP/1.1\r\n%b\r\n\r\n%b" % (path, fields, body))
        return connection

    def test_a_call_that_never_ends_is_given_up(self) -> None:
        connection = self.ask()
        self.http.clock.advance(LONGEST_CALL - 1)
        self.assertEqual((connection.received(), self.route.cancelled), (b"", 0))
        self.http.clock.advance(1)
        raw = connection.received()
        self.assertEqual((status(raw), self.route.cancelled), (503, 1))
        answer = Answer(raw)
        self.assertEqual((answer.code, answer.headers["retry-after"]), ("timed_out", "1"))
        self.assertEqual(status(self.again(connection)), 404)

    def again(self, connection: Any) -> bytes:
        connection.send(request(b"/api/v1/nothing"))
        return bytes(connection.received())

    def test_only_so_many_are_answered_at_once(self) -> None:
        self.patch(api_module, "MOST_CALLS", 3)
        connections = [self.ask() for _ in range(3)]
        answer = Answer(self.ask().received())
        self.assertEqual(
            (answer.status, answer.code, answer.headers["retry-after"]), (503, "overloaded", "1")
        )
        self.assertEqual(len(self.route.waiting), 3)
        self.route.waiting[0].callback("done")
        self.assertEqual(status(connections[0].received()), 200)
        self.assertEqual(self.ask().received(), b"")

    def test_who_leaves_makes_room(self) -> None:
        connection = self.ask()
        self.assertEqual(self.api._calls, 1)
        connection.channel.connectionLost()
        self.assertEqual(
            (self.api._calls, self.route.cancelled, self.http.clock.getDelayedCalls()), (0, 1, [])
        )

    def test_a_change_is_made_to_its_end_when_its_client_leaves(self) -> None:
        self.post().channel.connectionLost()
        self.assertEqual((self.route.cancelled, self.http.clock.getDelayedCalls()), (0, []))
        self.route.waiting[0].callback(None)
        self.assertEqual(self.route.done, [{"title": "Show"}])

    def test_a_change_that_takes_long_is_answered_and_made_to_its_end(self) -> None:
        connection = self.post()
        self.http.clock.advance(LONGEST_CALL)
        raw = connection.received()
        self.assertEqual((status(raw), Answer(raw).code, self.route.cancelled), (503, "timed_out", 0))
        self.assertEqual(status(self.again(connection)), 404)
        self.route.waiting[0].callback(None)
        self.assertEqual((self.route.done, connection.received()), ([{"title": "Show"}], b""))

    def test_what_has_others_work_first_is_given_up(self) -> None:
        self.post(b"/api/v1/ask").channel.connectionLost()
        self.assertEqual((self.api._calls, self.route.cancelled), (0, 1))

    def test_who_leaves_a_change_makes_no_room_before_it_is_made(self) -> None:
        self.patch(api_module, "MOST_CALLS", 2)
        for _ in range(2):
            self.post().channel.connectionLost()
        self.assertEqual(Answer(self.ask().received()).code, "overloaded")
        self.route.waiting[0].callback(None)
        self.assertEqual(self.ask().received(), b"")

    def test_what_fails_when_nobody_waits_is_logged(self) -> None:
        self.post().channel.connectionLost()
        self.route.waiting[0].errback(RuntimeError("a bug"))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual((self.api._calls, self.api._unattended.count), (0, 0))


class TestBodies(ApiCase):
    async def test_nesting_is_bounded(self) -> None:
        await self.start()
        token = await self.token("streamer")
        for levels, expected, code in (
            (31, 422, "invalid"),
            (32, 400, "malformed"),
            (1000, 400, "malformed"),
        ):
            body = b'{"title": ' + b"[" * levels + b"]" * levels + b"}"
            answer = await self.ask("POST", STREAMS, body, token)
            self.assertEnvelope(answer, expected, code)
        self.assertIn("deeper than 32 levels", answer.json["error"])

    async def test_numbers_strings_and_lists_without_end(self) -> None:
        await self.start()
        token = await self.token("streamer")
        for value in (
            b"9" * 60_000,
            b"1e999",
            b"-1e999",
            b'"' + b"a" * 60_000 + b'"',
            b"[" + b"1," * 20_000 + b"1]",
            b'"\\ud800"',
        ):
            answer = await self.ask("POST", STREAMS, b'{"title": ' + value + b"}", token)
            self.assertIn(answer.status, (400, 422), value[:20])

    async def test_of_a_key_that_comes_twice_the_last_counts(self) -> None:
        await self.start()
        token = await self.token("streamer")
        answer = await self.ask("POST", STREAMS, b'{"title": "First", "title": "Second"}', token)
        self.assertEqual((answer.status, answer.data["title"]), (201, "Second"))

    async def test_a_body_that_is_too_large(self) -> None:
        await self.start()
        answer = await self.ask("POST", STREAMS, b'"' + b"a" * 70_000 + b'"', await self.token("streamer"))
        self.assertEqual((answer.status, answer.code), (413, "content_too_large"))


class TestOrigins(ApiCase):
    async def test_exactly_those_and_never_with_credentials(self) -> None:
        self.environ["OXIDECAST_CORS_ORIGINS"] = '["https://good.example", "http://good.example:8080"]'
        await self.start()
        for origin in ("https://good.example", "http://good.example:8080"):
            answer = await self.ask("GET", STREAMS, Origin=origin)
            self.assertEqual(answer.headers["access-control-allow-origin"], origin)
            self.assertNotIn("access-control-allow-credentials", answer.headers)
        for origin in (
            "null",
            "*",
            "",
            "https://GOOD.example",
            "HTTPS://good.example",
            "https://good.example/",
            "https://good.example:443",
            "https://good.example.evil.example",
            "https://evilgood.example",
            "https://evil.example#https://good.example",
            "https://good.example, https://evil.example",
            "http://good.example",
            "https://sub.good.example",
            "https://good.example:8080",
            "good.example",
        ):
            for method in ("GET", "OPTIONS"):
                answer = await self.ask(method, STREAMS, Origin=origin)
                self.assertNotIn("access-control-allow-origin", answer.headers, origin)
                self.assertEqual(answer.headers["vary"], "Origin")

    async def test_media_is_for_all_without_credentials(self) -> None:
        await self.start()
        answer = await self.ask("GET", "/api/v1/hls/none/playlist.m3u8", Origin="null")
        self.assertEqual(answer.headers["access-control-allow-origin"], "*")
        self.assertEqual(answer.headers["cross-origin-resource-policy"], "cross-origin")
        self.assertNotIn("access-control-allow-credentials", answer.headers)


class TestProtection(ApiCase):
    async def test_every_cold_answer_protects_itself(self) -> None:
        await self.start()
        for path in (
            "/",
            "/player",
            "/player/x",
            "/nothing",
            "/health",
            "/ready",
            "/metrics",
            "/assets/none.js",
            "/api/v1/docs",
            "/api/v1/openapi.json",
            "/api/v1/streams",
            "/api/v1/nothing",
            "/api",
        ):
            headers = (await self.ask("GET", path)).headers
            self.assertEqual(headers["x-content-type-options"], "nosniff", path)
            self.assertEqual(headers["referrer-policy"], "no-referrer", path)
            self.assertEqual(headers["x-frame-options"], "DENY", path)
            self.assertEqual(headers["cross-origin-resource-policy"], "same-origin", path)
            self.assertIn("default-src 'none'", headers["content-security-policy"], path)
            self.assertIn("frame-ancestors 'none'", headers["content-security-policy"], path)
            self.assertNotIn("server", headers)

    async def test_any_site_may_frame_the_player_that_is_for_it(self) -> None:
        await self.start()
        answer = await self.ask("GET", "/embed/x")
        if answer.status == 503:
            return  # The pages are not built here; tests/web/test_pages.py has some of its own.
        self.assertNotIn("x-frame-options", answer.headers)
        self.assertTrue(re.search(r"frame-ancestors \*", answer.headers["content-security-policy"]))
