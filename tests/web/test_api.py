"""The API as a client meets it: statuses, envelopes, who may what."""

from datetime import datetime
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.logger import formatEvent, globalLogPublisher

from oxidecast.accounts.errors import Overloaded
from oxidecast.database.errors import DatabaseUnavailable
from oxidecast.interfaces import PublishRequest
from oxidecast.registry import Running
from oxidecast.streams.wanting import Planned
from oxidecast.web.api import Api, Route
from tests import leaks
from tests.house import Answer, HouseCase
from tests.streams.stage import AUDIO, VIDEO, Encoder

LOGIN = "/api/v1/auth/login"
PLANNED = Planned(
    name="720p",
    width=1280,
    height=720,
    frame_rate=None,
    peak=3_000_000,
    average=2_500_000,
    codecs=("avc1.64001f",),
)


class ApiCase(HouseCase):
    async def live(self, token: str, **stream: Any) -> Any:
        """A stream that is on the air."""
        made = (await self.ask("POST", "/api/v1/streams", {"title": "Show", **stream}, token)).data
        self.publisher = Encoder(self, key=made["stream_key"])  # type: ignore[arg-type]
        request = PublishRequest(protocol="test", address="192.0.2.1", key=made["stream_key"])
        publication = await self.server.hub.publish(request, self.publisher)
        for track in (VIDEO, AUDIO):
            publication.track(track)
        publication.packet(1, 0, 0, True, b"\0\0\0\1\x65")
        return made

    def assertEnvelope(self, answer: Answer, status: int, code: str | None = None) -> None:
        self.assertEqual(answer.status, status, answer.body)
        envelope = answer.json
        self.assertEqual(list(envelope), ["success", "data", "error", "code", "timestamp"])
        self.assertEqual((envelope["success"], envelope["code"]), (status < 400, code))
        self.assertEqual(envelope["error"] is None, status < 400)
        self.assertIsNotNone(datetime.fromisoformat(envelope["timestamp"]).tzinfo)
        self.assertEqual(answer.headers["content-type"], "application/json")
        self.assertEqual(answer.headers["cache-control"], "no-store")
        self.assertEqual("www-authenticate" in answer.headers, status == 401)


class TestFrame(ApiCase):
    async def test_what_does_not_exist(self) -> None:
        await self.start()
        for path in (
            "",
            "/",
            "/nothing",
            "/streams/",
            "/streams/a/b/c",
            "/streams//url",
            "/../health",
            "/%00",
        ):
            self.assertEnvelope(await self.ask("GET", f"/api/v1{path}"), 404, "not_found")

    async def test_a_slash_inside_a_name_reaches_no_other_route(self) -> None:
        await self.start()
        for path in ("/streams/my-stream%2Furl", "/streams/my-stream%252Furl", "/streams%2Fmy-stream"):
            self.assertEnvelope(await self.ask("GET", f"/api/v1{path}"), 404, "not_found")

    async def test_hostile_names_are_only_unknown(self) -> None:
        await self.start()
        for name in ("%C3%A9", "%FF", "'%20OR%201=1--", "..%2f..%2fetc%2fpasswd", "a" * 4000, "%0d%0aX:1"):
            self.assertEnvelope(await self.ask("GET", f"/api/v1/streams/{name}"), 404, "not_found")

    async def test_other_methods_are_named(self) -> None:
        await self.start()
        answer = await self.ask("DELETE", "/api/v1/streams")
        self.assertEnvelope(answer, 405, "method_not_allowed")
        self.assertEqual(answer.headers["allow"], "GET, HEAD, OPTIONS, POST")

    async def test_head_is_a_get_without_its_body(self) -> None:
        await self.start()
        get, head = await self.ask("GET", "/api/v1/streams"), await self.ask("HEAD", "/api/v1/streams")
        self.assertEqual((head.status, head.body), (200, b""))
        self.assertEqual(head.headers["content-length"], get.headers["content-length"])

    async def test_origins(self) -> None:
        self.environ["OXIDECAST_CORS_ORIGINS"] = '["https://good.example"]'
        await self.start()
        good = await self.ask("OPTIONS", "/api/v1/streams", Origin="https://good.example")
        self.assertEqual(good.headers["access-control-allow-origin"], "https://good.example")
        self.assertIn("POST", good.headers["access-control-allow-methods"])
        self.assertNotIn("access-control-allow-credentials", good.headers)
        self.assertIn("ETag", good.headers["access-control-expose-headers"])
        own = await self.ask(
            "GET", "/api/v1/streams", host="tv.example:8080", Origin="http://tv.example:8080"
        )
        self.assertEqual(own.headers["access-control-allow-origin"], "http://tv.example:8080")
        for origin in (
            "https://evil.example",
            "https://localhost",
            "null",
            "https://good.example.evil.example",
            "*",
        ):
            bad = await self.ask("GET", "/api/v1/streams", Origin=origin)
            self.assertNotIn("access-control-allow-origin", bad.headers)
            self.assertEqual(bad.headers["vary"], "Origin")

    async def test_bodies(self) -> None:
        await self.start()
        right = {"username": "admin", "password": "wrong wrong"}
        for body, headers, status, code in (
            (b"{", {}, 400, "malformed"),
            (b"\xff\xfe", {}, 400, "malformed"),
            (b"[" * 50_000, {}, 400, "malformed"),
            (right, {"Content_Type": "text/plain"}, 415, "unsupported_media_type"),
            (right, {"Content_Type": "application/json; charset=utf-8"}, 401, "bad_credentials"),
            ({"username": 5, "password": "x"}, {}, 422, "invalid"),
            ({"username": "x"}, {}, 422, "invalid"),
            ({**right, "more": 1}, {}, 422, "invalid"),
            ([], {}, 422, "invalid"),
            (None, {}, 415, "unsupported_media_type"),
        ):
            self.assertEnvelope(await self.ask("POST", LOGIN, body, **headers), status, code)
        self.assertEnvelope(await self.ask("POST", LOGIN, b"x" * 70_000), 413, "content_too_large")

    async def test_a_422_names_the_field(self) -> None:
        await self.start()
        answer = await self.ask("POST", LOGIN, {"username": 5, "password": "x"})
        self.assertEqual(list(answer.data["fields"]), ["username"])

    async def test_a_422_names_every_field(self) -> None:
        await self.start()
        answer = await self.ask("POST", LOGIN, {"password": 5, "user": "x"})
        self.assertEqual(
            answer.data["fields"],
            {
                "username": "This field is required",
                "password": "must be text, not a whole number",
                "user": "There is no such field",
            },
        )
        self.assertIn("username: This field is required; ", answer.json["error"])
        self.assertEqual(answer.reason, "Unprocessable Entity")

    async def test_a_422_does_not_repeat_thousands_of_unknown_fields(self) -> None:
        await self.start()
        answer = await self.ask("POST", LOGIN, {f"x{number}": 1 for number in range(3000)})
        self.assertLess(len(answer.body), 2000)

    async def test_host_header_games(self) -> None:
        await self.start()
        token = await self.token("streamer")
        await self.live(token)
        for host in ("a b", "evil.example/path", "x@evil.example", "a:b", "[::1", '"><script>', "a" * 300):
            answer = await self.ask("GET", "/api/v1/streams/show", host=host)
            self.assertEqual(answer.status, 400, host)
        for host in ("example.com", "example.com:8080", "[::1]:8080", "192.0.2.1"):
            answer = await self.ask("GET", "/api/v1/streams/show", host=host)
            self.assertTrue(answer.data["stream_urls"]["hls"].startswith(f"http://{host}/"), host)

    async def test_a_public_url_stands_in_every_address_whatever_the_client_says(self) -> None:
        await self.start()
        token = await self.token("streamer")
        await self.live(token)
        paths = ("", "/url", "/url?connection_type=hls", "/key", "/outputs")
        asked = [("GET", f"/api/v1/streams/show{path}", None) for path in paths]
        asked += [
            ("GET", "/api/v1/streams", None),
            ("GET", "/api/v1/ingests", None),
            ("POST", "/api/v1/streams", {"title": "Other"}),
            ("POST", "/api/v1/streams/show/join", {"connection_type": "hls"}),
        ]
        self.environ["OXIDECAST_SERVER_PUBLIC_URL"] = "https://tv.example.com:8443"
        self.server.reload()
        for host in ("evil.example", "a b"):
            for method, path, body in asked:
                answer = await self.ask(method, path, body, token, host=host)
                self.assertTrue(answer.json["success"], answer.body)
                self.assertNotIn(b"evil.example", answer.body)
        stream = (await self.ask("GET", "/api/v1/streams/show", token=token)).data
        self.assertEqual(
            stream["stream_urls"]["hls"], "https://tv.example.com:8443/api/v1/hls/show/playlist.m3u8"
        )
        self.assertRegex(stream["ingest_urls"][0], "^rtmp://tv.example.com:[0-9]+/live$")
        self.assertEqual(stream["ingest_urls"][-1], "https://tv.example.com:8443/api/v1/webrtc/whip")

    async def test_an_exception_tells_the_client_nothing(self) -> None:
        async def broken(call: Any) -> None:
            raise RuntimeError("/etc/secret SELECT key")

        await self.with_route(broken)
        answer = await self.ask("GET", "/api/v1/test")
        self.assertEnvelope(answer, 500, "internal")
        self.assertNotIn(b"secret", answer.body)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    async def test_data_that_json_cannot_hold_is_a_500_and_not_silence(self) -> None:
        async def odd(call: Any) -> Any:
            return {"figures": object()}

        await self.with_route(odd)
        self.assertEnvelope(await self.ask("GET", "/api/v1/test"), 500, "internal")
        self.flushLoggedErrors(TypeError)

    async def test_who_leaves_cancels_its_call(self) -> None:
        cancelled: Deferred[None] = Deferred()

        async def slow(call: Any) -> None:
            await Deferred(lambda _: cancelled.callback(None))

        await self.with_route(slow)
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.server.web.number)
        connection = await connectProtocol(endpoint, Protocol())
        connection.transport.write(b"GET /api/v1/test HTTP/1.1\r\nHost: x\r\n\r\n")  # type: ignore[union-attr]
        reactor.callLater(0.05, connection.transport.abortConnection)  # type: ignore
        await cancelled

    async def test_who_leaves_while_a_stream_is_made_leaves_it_whole(self) -> None:
        await self.start()
        token = await self.token("streamer")
        transaction = self.server.foundation.database.transaction
        begun: Deferred[None] = Deferred()
        go_on: Deferred[None] = Deferred()

        async def held(*args: Any) -> Any:
            made = await transaction(*args)
            if not begun.called:
                begun.callback(None)
                await go_on
            return made

        self.patch(
            self.server.foundation.database,
            "transaction",
            lambda *args: Deferred.fromCoroutine(held(*args)),
        )
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.server.web.number)
        connection = await connectProtocol(endpoint, Protocol())
        body = b'{"title": "Show"}'
        connection.transport.write(  # type: ignore[union-attr]
            b"POST /api/v1/streams HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Authorization: Bearer %b\r\nContent-Length: %d\r\n\r\n%b" % (token.encode(), len(body), body)
        )
        await begun
        connection.transport.abortConnection()  # type: ignore[union-attr]
        while self.server.web.factory.channels:  # type: ignore[union-attr]
            await deferLater(reactor, 0.01)
        go_on.callback(None)
        while (await self.ask("GET", "/api/v1/streams/show/key", token=token)).status != 200:
            await deferLater(reactor, 0.01)

    async def with_route(self, handler: Any) -> None:
        routes = Api.__init__

        def more(api: Api, given: Any, *rest: Any) -> None:
            routes(api, [*given, Route("GET", "/test", handler)], *rest)

        self.patch(Api, "__init__", more)
        await self.start()


class TestTokens(ApiCase):
    async def test_logging_in_refreshing_and_logging_out(self) -> None:
        await self.start()
        await self.token("viewer", "vera")
        login = await self.ask("POST", LOGIN, {"username": "vera", "password": "correct horse"})
        self.assertEnvelope(login, 200)
        self.assertEqual(list(login.data["user"]), ["id", "username", "email", "role", "created_at"])
        refresh = {"refresh_token": login.data["refresh_token"]}
        again = await self.ask("POST", "/api/v1/auth/refresh", refresh)
        self.assertEnvelope(again, 200)
        self.assertEnvelope(await self.ask("POST", "/api/v1/auth/refresh", refresh), 401, "token_invalid")
        out = await self.ask("POST", "/api/v1/auth/logout", {"refresh_token": again.data["refresh_token"]})
        self.assertEnvelope(out, 200)
        self.assertEnvelope(await self.ask("POST", "/api/v1/auth/logout", {"refresh_token": "x"}), 200)

    async def test_a_refresh_is_not_hindered_by_an_expired_access_token(self) -> None:
        await self.start()
        await self.token("viewer", "vera")
        credentials = {"username": "vera", "password": "correct horse"}
        login = await self.ask("POST", LOGIN, credentials, token="expired")
        refresh = {"refresh_token": login.data["refresh_token"]}
        self.assertEnvelope(await self.ask("POST", "/api/v1/auth/refresh", refresh, token="expired"), 200)

    async def test_a_logout_ends_every_token_of_its_login(self) -> None:
        await self.start()
        await self.token("viewer", "vera")
        credentials = {"username": "vera", "password": "correct horse"}
        first, other = [(await self.ask("POST", LOGIN, credentials)).data for _ in range(2)]
        refresh = {"refresh_token": first["refresh_token"]}
        later = (await self.ask("POST", "/api/v1/auth/refresh", refresh)).data
        self.assertEnvelope(await self.ask("POST", "/api/v1/auth/logout", refresh), 200)
        for login, status in ((later, 401), (other, 200)):
            answer = await self.ask("POST", "/api/v1/auth/refresh", {"refresh_token": login["refresh_token"]})
            self.assertEqual(answer.status, status)

    async def test_a_logout_needs_nothing(self) -> None:
        await self.start()
        for body in (None, {}, {"refresh_token": None}):
            self.assertEnvelope(await self.ask("POST", "/api/v1/auth/logout", body, token="expired"), 200)

    async def test_a_refresh_token_that_is_used_twice_ends_its_login(self) -> None:
        await self.start()
        await self.token("viewer", "vera")
        login = await self.ask("POST", LOGIN, {"username": "vera", "password": "correct horse"})
        first = {"refresh_token": login.data["refresh_token"]}
        second = (await self.ask("POST", "/api/v1/auth/refresh", first)).data["refresh_token"]
        self.assertEnvelope(await self.ask("POST", "/api/v1/auth/refresh", first), 401, "token_invalid")
        answer = await self.ask("POST", "/api/v1/auth/refresh", {"refresh_token": second})
        self.assertEnvelope(answer, 401, "token_invalid")

    async def test_bad_tokens_are_401_even_where_none_is_needed(self) -> None:
        await self.start()
        token = await self.token("admin")
        login = await self.ask("POST", LOGIN, {"username": "a-admin", "password": "correct horse"})
        clock, tokens = self.server.foundation.reactor, self.server.foundation.tokens
        expired = type(tokens)(tokens.keys, _Past(clock), 60).access(
            await self.server.foundation.accounts.bearer(token)
        )
        for bad, code in (
            ("nonsense", "token_invalid"),
            (token[:-2], "token_invalid"),
            (login.data["refresh_token"], "token_invalid"),
            (tokens.playback("x"), "token_invalid"),
            (expired, "token_expired"),
            ("é" * 10, "token_invalid"),
            ("x" * 5000, "token_invalid"),
        ):
            answer = await self.ask("GET", "/api/v1/streams", token=bad)
            self.assertEnvelope(answer, 401, code)
            self.assertIn("invalid_token", answer.headers["www-authenticate"])
        answer = await self.ask("GET", "/api/v1/streams", Authorization="Basic YTpi")
        self.assertEnvelope(answer, 401, "unauthorised")

    async def test_a_disabled_account_is_out_at_once(self) -> None:
        await self.start()
        token = await self.token("admin")
        accounts = self.server.foundation.accounts
        user = await accounts.bearer(token)
        await accounts.set_disabled(user.id, True)
        self.assertEnvelope(await self.ask("GET", "/api/v1/streams", token=token), 401, "token_invalid")

    async def test_too_many_logins_are_told_when_to_try_again(self) -> None:
        self.environ["OXIDECAST_RATE_LIMIT_LOGIN_ATTEMPTS"] = "2"
        await self.start()
        for _ in range(2):
            await self.ask("POST", LOGIN, {"username": "admin", "password": "wrong"})
        answer = await self.ask("POST", LOGIN, {"username": "admin", "password": "wrong"})
        self.assertEnvelope(answer, 429, "too_many_attempts")
        self.assertTrue(1 <= int(answer.headers["retry-after"]) <= 10)

    async def test_an_overloaded_server_says_so(self) -> None:
        await self.start()

        async def overloaded(*_: Any) -> None:
            raise Overloaded

        self.patch(self.server.foundation.accounts, "login", overloaded)
        answer = await self.ask("POST", LOGIN, {"username": "admin", "password": "wrong"})
        self.assertEnvelope(answer, 503, "overloaded")
        self.assertEqual(answer.headers["retry-after"], "1")

    async def test_registration(self) -> None:
        await self.start()
        path, body = "/api/v1/auth/register", {"username": "vera", "password": "long enough"}
        self.assertEnvelope(await self.ask("POST", path, body), 403, "registration_closed")
        self.environ["OXIDECAST_AUTH_OPEN_REGISTRATION"] = "true"
        self.server.reload()
        made = await self.ask("POST", path, body)
        self.assertEnvelope(made, 201)
        self.assertEqual(made.data["role"], "viewer")
        self.assertEnvelope(await self.ask("POST", path, body), 409, "taken")
        for wrong in (
            {"username": "x"},
            {"username": "has blank"},
            {"password": "short"},
            {"email": "nonsense"},
        ):
            self.assertEnvelope(await self.ask("POST", path, {**body, **wrong}), 422, "invalid")


class _Past:
    def __init__(self, clock: Any) -> None:
        self._clock = clock

    def seconds(self) -> float:
        return float(self._clock.seconds() - 3600)


class TestStreams(ApiCase):
    async def test_who_may_do_what(self) -> None:
        await self.start()
        tokens = {"": "", **{role: await self.token(role) for role in ("viewer", "streamer", "admin")}}
        tokens["owner"] = await self.token("streamer", "owner")
        private = {"title": "Secret", "is_private": True}
        self.assertEnvelope(await self.ask("POST", "/api/v1/streams", private, tokens["owner"]), 201)
        public = {"title": "Open"}
        expected: dict[str, tuple[int, ...]] = {
            #          list  mine  create public private url(private, not live)
            "": (200, 401, 401, 200, 401, 401),
            "viewer": (200, 200, 403, 200, 403, 403),
            "streamer": (200, 200, 201, 200, 403, 403),
            "owner": (200, 200, 201, 200, 200, 200),
            "admin": (200, 200, 201, 200, 200, 200),
        }
        for who, statuses in expected.items():
            got = [
                await self.ask("GET", "/api/v1/streams", token=tokens[who]),
                await self.ask("GET", "/api/v1/streams?mine=true", token=tokens[who]),
                await self.ask("POST", "/api/v1/streams", public, tokens[who]),
                await self.ask("GET", "/api/v1/streams/my-stream", token=tokens[who]),
                await self.ask("GET", "/api/v1/streams/secret", token=tokens[who]),
                await self.ask("GET", "/api/v1/streams/secret/url", token=tokens[who]),
            ]
            self.assertEqual(tuple(answer.status for answer in got), statuses, who)
            listed = {item["name"] for item in got[0].data["items"]}
            self.assertEqual("secret" in listed, who == "admin", who)

    async def test_a_new_stream(self) -> None:
        await self.start()
        token = await self.token("streamer")
        made = await self.ask(
            "POST", "/api/v1/streams", {"title": "Über uns!"}, token, host="tv.example:8080"
        )
        self.assertEnvelope(made, 201)
        self.assertEqual(made.data["name"], "uber-uns")
        self.assertEqual(made.headers["location"], "/api/v1/streams/uber-uns")
        self.assertEqual(made.data["ingest_url"], f"rtmp://tv.example:{self.server.rtmp.number}/live")
        shown = await self.ask("GET", "/api/v1/streams/uber-uns", token=token)
        self.assertNotIn(made.data["stream_key"].encode(), shown.body)
        self.assertEqual(shown.data["state"], "idle")
        # Its address can be shared before it is live.
        url = await self.ask("GET", "/api/v1/streams/uber-uns/url?connection_type=hls")
        self.assertEqual(url.data["url"], "http://localhost/api/v1/hls/uber-uns/playlist.m3u8")
        self.assertEqual(
            shown.data["stream_urls"],
            {
                "hls": url.data["url"],
                "webrtc": url.data["url"].replace("/hls/", "/webrtc/").replace("playlist.m3u8", "whep"),
            },
        )

    async def test_a_title_of_blanks_is_none(self) -> None:
        await self.start()
        token = await self.token("streamer")
        for title in (" ", "\t\n", "\u00a0\u2003"):
            answer = await self.ask("POST", "/api/v1/streams", {"title": title}, token)
            self.assertEnvelope(answer, 422, "invalid")
            self.assertEqual(list(answer.data["fields"]), ["title"])

    async def test_null_is_as_good_as_left_out(self) -> None:
        await self.start()
        token = await self.token("streamer")
        nothing = dict.fromkeys(
            ("description", "category", "name", "is_private", "recording_enabled", "transcoding_profiles")
        )
        made = await self.ask("POST", "/api/v1/streams", {"title": "Show", **nothing}, token)
        self.assertEnvelope(made, 201)
        left_out = await self.ask("POST", "/api/v1/streams", {"title": "Show"}, token)
        for name in nothing.keys() - {"name"}:
            self.assertEqual((name, made.data[name]), (name, left_out.data[name]))

    async def test_what_a_new_stream_cannot_be(self) -> None:
        await self.start()
        token = await self.token("streamer")
        await self.ask("POST", "/api/v1/streams", {"title": "One", "name": "one"}, token)
        for body, status, code in (
            ({"title": "Two", "name": "one"}, 409, "name_taken"),
            ({"title": ""}, 422, "invalid"),
            ({"title": "x" * 201}, 422, "invalid"),
            ({}, 422, "invalid"),
            ({"title": "x", "name": "../etc"}, 422, "invalid"),
            ({"title": "x", "name": "12345678-1234-4234-8234-123456789012"}, 422, "invalid"),
            ({"title": "x", "is_private": "yes"}, 422, "invalid"),
            ({"title": "x", "owner_id": "admin"}, 422, "invalid"),
            ({"title": "x", "transcoding_profiles": ["8k"]}, 422, "unknown_profile"),
        ):
            answer = await self.ask("POST", "/api/v1/streams", body, token)
            self.assertEnvelope(answer, status, code)
        self.assertIn("720p", answer.json["error"])

    async def test_lists_are_paged_with_true_totals(self) -> None:
        await self.start()
        token = await self.token("streamer")
        for number in range(5):
            await self.ask("POST", "/api/v1/streams", {"title": f"S {number}", "category": "games"}, token)
        answer = await self.ask("GET", "/api/v1/streams?page=2&limit=2&category=games")
        figures = {name: answer.data[name] for name in ("total", "page", "limit", "total_pages")}
        self.assertEqual(figures, {"total": 5, "page": 2, "limit": 2, "total_pages": 3})
        self.assertEqual(len(answer.data["items"]), 2)
        self.assertEqual((await self.ask("GET", "/api/v1/streams?q=100%25'")).data["total"], 0)
        self.assertEqual((await self.ask("GET", "/api/v1/streams?category=")).data["total"], 6)
        for query in (
            "page=0",
            "page=x",
            "page=-1",
            "limit=101",
            "limit=0",
            "page=99999999",
            "live=maybe",
            "mine=1",
        ):
            self.assertEnvelope(await self.ask("GET", f"/api/v1/streams?{query}"), 422, "invalid")

    async def test_a_live_stream(self) -> None:
        await self.start()
        token = await self.token("streamer")
        made = await self.live(token)
        anonymous = (await self.ask("GET", f"/api/v1/streams/{made['id']}")).data
        self.assertEqual((anonymous["is_live"], anonymous["state"]), (True, "live"))
        self.assertEqual([track["kind"] for track in anonymous["tracks"]], ["video", "audio"])
        self.assertNotIn("publisher", anonymous)
        own = (await self.ask("GET", "/api/v1/streams/show", token=token)).data
        self.assertEqual(own["publisher"]["protocol"], "test")
        self.assertEqual(
            [output["name"] for output in own["outputs"]],
            ["hls", "multicast", "recording", "thumbnails", "webrtc"],
        )
        for query, names in (("true", ["show"]), ("false", ["my-stream"])):
            listed = (await self.ask("GET", f"/api/v1/streams?live={query}")).data["items"]
            self.assertEqual([item["name"] for item in listed], names)

    async def test_streams_without_an_account_are_listed_after_those_with_one(self) -> None:
        self.environ["OXIDECAST_RTMP_ENABLE_AUTH"] = "false"
        await self.start()
        await self.live(await self.token("streamer"))
        for name in ("red", "green", "blue"):
            publisher = Encoder(self, key=name)  # type: ignore[arg-type]
            request = PublishRequest(protocol="rtmp", address="192.0.2.1", key=name)
            publication = await self.server.hub.publish(request, publisher)
            for track in (VIDEO, AUDIO):
                publication.track(track)
            publication.packet(1, 0, 0, True, b"\0\0\0\1\x65")
        for query, names, total in (
            ("", ["show", "my-stream", "red", "green", "blue"], 5),
            ("live=true&limit=3", ["show", "red", "green"], 4),
            ("live=true&limit=3&page=2", ["blue"], 4),
            ("limit=2&page=3", ["blue"], 5),
            ("limit=2&page=4", [], 5),
            ("live=false", ["my-stream"], 1),
            ("q=GREE", ["green"], 1),
            ("category=red", [], 0),
        ):
            listed = (await self.ask("GET", f"/api/v1/streams?{query}")).data
            self.assertEqual(
                ([item["name"] for item in listed["items"]], listed["total"]), (names, total), query
            )

    async def test_where_to_watch(self) -> None:
        await self.start()
        await self.live(await self.token("streamer"))
        answer = await self.ask("GET", "/api/v1/streams/show/url")
        self.assertEqual(
            answer.data, {"url": "http://localhost/api/v1/hls/show/playlist.m3u8", "connection_type": "hls"}
        )
        answer = await self.ask("GET", "/api/v1/streams/show/url?connection_type=flv")
        self.assertEnvelope(answer, 404, "not_live")
        self.assertEqual(answer.headers["retry-after"], "2")
        answer = await self.ask("GET", "/api/v1/streams/show/url?connection_type=pigeon")
        self.assertEnvelope(answer, 422, "invalid")

    async def test_where_to_watch_one_quality(self) -> None:
        await self.start()
        url = "/api/v1/streams/my-stream/url?quality_profile=source"
        token = await self.token("streamer")
        await self.live(token)
        self.assertEnvelope(await self.ask("GET", url), 404, "not_live")
        url = "/api/v1/streams/show/url?quality_profile="
        answer = await self.ask("GET", f"{url}source")
        self.assertEqual(answer.data["url"], "http://localhost/api/v1/hls/show/playlist.m3u8?quality=source")
        for unknown in ("8k", "720p", ""):
            answer = await self.ask("GET", url + unknown)
            self.assertEnvelope(answer, 422, "invalid")
            self.assertIn("expected one of source.", answer.json["error"])
        # What is made on demand can be named before it runs.
        stream = self.server.hub.find("show")
        assert stream is not None
        stream.planned = {"720p": PLANNED}
        answer = await self.ask("GET", f"{url}720p")
        self.assertEqual(answer.data["url"], "http://localhost/api/v1/hls/show/playlist.m3u8?quality=720p")
        answer = await self.ask("GET", f"{url}720p&connection_type=multicast")
        self.assertEnvelope(answer, 404, "not_live")
        answer = await self.ask("GET", f"{url}8k")
        self.assertIn("expected one of source, 720p.", answer.json["error"])

    async def test_the_qualities_of_a_stream(self) -> None:
        await self.start()
        token = await self.token("streamer")
        await self.live(token)
        stream = self.server.hub.find("show")
        assert stream is not None
        stream.planned, stream.left_out = {"720p": PLANNED}, {"1080p": "the picture is smaller"}
        for caller, names in (("", ["source", "720p"]), (token, ["source", "720p", "1080p"])):
            shown = (await self.ask("GET", "/api/v1/streams/show", token=caller)).data["qualities"]
            self.assertEqual([one["name"] for one in shown], names)
        source, planned, left_out = shown
        self.assertEqual(
            (source["state"], source["width"], source["height"]), ("running", VIDEO.width, VIDEO.height)
        )
        self.assertEqual(
            planned,
            {
                "name": "720p",
                "state": "planned",
                "width": 1280,
                "height": 720,
                "frame_rate": None,
                "bitrate": 2_500_000,
                "reason": None,
            },
        )
        self.assertEqual((left_out["state"], left_out["reason"]), ("left_out", "the picture is smaller"))

    async def test_a_private_stream_is_watched_with_the_token_of_its_address(self) -> None:
        await self.start()
        token = await self.token("streamer")
        await self.live(token, is_private=True)
        url = (await self.ask("GET", "/api/v1/streams/show/url", token=token)).data["url"]
        path, _, playback = url.removeprefix("http://localhost").partition("?token=")
        self.assertEqual((await self.ask("GET", path)).status, 401)
        self.server.hub.find("show").end("enough")  # type: ignore[union-attr]
        self.assertEqual((await self.ask("GET", f"{path}?token={playback}")).status, 200)
        shown = await self.ask("GET", f"/api/v1/streams/show?token={playback}")
        self.assertEnvelope(shown, 200)
        self.assertEqual((await self.ask("GET", f"/api/v1/streams/show?token={token}")).status, 200)

    async def test_an_output_whose_figures_raise_does_not_hide_the_stream(self) -> None:
        await self.start()
        token = await self.token("streamer")
        await self.live(token)
        slot = self.server.hub.find("show").outputs[0]  # type: ignore[union-attr]
        slot.output.stats = lambda: 1 / 0  # type: ignore
        shown = await self.ask("GET", "/api/v1/streams/show", token=token)
        self.assertEqual(shown.data["outputs"][0]["stats"], {})
        again = await self.ask("GET", "/api/v1/streams/show", token=token)
        self.assertEqual(again.data["outputs"][0]["state"], "failed")
        self.flushLoggedErrors(ZeroDivisionError)

    async def test_when_the_database_is_away(self) -> None:
        await self.start()
        token = await self.token("streamer")
        database = self.server.foundation.database

        def away(*_: Any) -> Any:
            return fail(DatabaseUnavailable("The database's disk is full."))

        for name in ("query", "execute", "transaction"):
            self.patch(database, name, away)
        # A key in an address is a mistake that people make; it may not get into the log.
        key = leaks.plant("7g3k-m2xd-9w4t-5r8p-1n6q-0v3z-8c2h-4b7y")
        lines: list[str] = []
        observer: Any = lambda event: lines.append(formatEvent(event))  # noqa: E731
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.assertEnvelope(await self.ask("GET", f"/api/v1/streams/{key}"), 503, "database_away")
        self.assertTrue(any("/streams/{stream}" in line for line in lines), lines)
        for method, path, body, who in (
            ("GET", "/streams", None, ""),
            ("GET", "/streams/show", None, ""),
            ("GET", "/streams", None, token),
            ("POST", "/streams", {"title": "x"}, token),
            ("POST", "/auth/refresh", {"refresh_token": "x"}, ""),
            ("POST", "/auth/login", {"username": "admin", "password": "x"}, ""),
        ):
            answer = await self.ask(method, f"/api/v1{path}", body, who)
            self.assertEnvelope(answer, 503, "database_away")
            self.assertEqual(answer.headers["retry-after"], "5")
        await self.server._check_database()
        ready = await self.ask("GET", "/ready")
        self.assertEqual((ready.status, ready.json["reasons"]), (503, ["The database's disk is full."]))
        health = await self.ask("GET", "/health")
        self.assertEqual((health.status, health.json), (200, {"status": "ok", "database": "away"}))
        self.assertIn(b"\noxidecast_database_up 0.0\n", (await self.ask("GET", "/metrics")).body)


class TestOperations(ApiCase):
    async def test_ready_and_health(self) -> None:
        await self.start()
        self.assertEqual((await self.ask("GET", "/ready")).json, {"status": "ready"})
        self.assertEqual((await self.ask("GET", "/health")).json, {"status": "ok", "database": "ok"})
        self.assertEqual((await self.ask("HEAD", "/health")).body, b"")

    async def test_metrics_are_for_the_networks_allowed(self) -> None:
        await self.start()
        answer = await self.ask("GET", "/metrics")
        self.assertEqual(answer.status, 200)
        self.assertIn(b"\n# TYPE streaming_http_requests_total counter\n", answer.body)
        self.environ["OXIDECAST_METRICS_ALLOW"] = '["192.0.2.0/24"]'
        self.server.reload()
        self.assertEqual((await self.ask("GET", "/metrics")).status, 403)

    async def test_who_forwards_does_not_speak_for_others(self) -> None:
        self.environ["OXIDECAST_METRICS_ALLOW"] = '["192.0.2.0/24"]'
        await self.start()
        answer = await self.ask("GET", "/metrics", X_Forwarded_For="192.0.2.1", Forwarded="for=192.0.2.1")
        self.assertEqual(answer.status, 403)

    async def test_a_failed_plugin_is_no_reason_not_to_be_ready(self) -> None:
        await self.start()
        running: Running = self.server.registry.running[-1]
        running.fail("test")
        self.assertEqual((await self.ask("GET", "/ready")).status, 200)
