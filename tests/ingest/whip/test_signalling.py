"""WHIP as publishers see it: a whole server on loopback, and what it answers by HTTP."""

from oxidecast.database.streams import StreamChange
from oxidecast.formats.sdp_offer import MAX_OFFER
from oxidecast.webrtc.signalling import FRAGMENT, SDP
from tests.house import Answer, HouseCase
from tests.ingest.whip.stage import whip_offer


class TestWHIP(HouseCase):
    async def on_air(self) -> str:
        """A stream's key; it is kept in `self.key` as well."""
        await self.start()
        foundation = self.server.foundation
        (admin,) = (await foundation.accounts.users.page(limit=1, role="admin")).items
        self.info = await foundation.streams.create(admin.id, "Show", name="show")
        self.key = (await foundation.keys.create(self.info.id)).text
        return self.key

    async def request(
        self, method: str, path: str, body: str = "", kind: str = SDP, key: str = "", **fields: str
    ) -> Answer:
        lines = [f"{method} /api/v1/webrtc/{path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
        if key:
            lines.append(f"Authorization: Bearer {key}")
        if body:
            lines += [f"Content-Type: {kind}", f"Content-Length: {len(body.encode())}"]
        return await self.send("\r\n".join([*lines, "", body]).encode())

    async def begin(self) -> Answer:
        await self.on_air()
        answer = await self.request("POST", "whip", whip_offer(), key=self.key)
        self.assertEqual(answer.status, 201, answer.body)
        return answer

    def assert_refused(self, answer: Answer, status: int, code: str) -> None:
        self.assertEqual((answer.status, answer.code), (status, code), answer.body)
        self.assertEqual(answer.headers["access-control-allow-origin"], "*")
        self.assertEqual("www-authenticate" in answer.headers, status == 401)

    async def test_an_offer_is_answered_with_a_session(self) -> None:
        answer = await self.begin()
        self.assertEqual(answer.headers["content-type"], SDP)
        self.assertTrue(answer.headers["location"].startswith("/api/v1/webrtc/whip/"))
        self.assertRegex(answer.headers["etag"], '^"[0-9a-f]{12}"$')
        self.assertIn("Location", answer.headers["access-control-expose-headers"])
        text = answer.body.decode()
        self.assertIn(f" 127.0.0.1 {self.server.webrtc.number} typ host\r\n", text)
        self.assertIn("a=recvonly", text)
        self.assertEqual(len(self.server.webrtc), 1)

    async def test_a_session_is_ended_once(self) -> None:
        session = (await self.begin()).headers["location"].removeprefix("/api/v1/webrtc/")
        self.assertEqual((await self.request("DELETE", session)).status, 200)
        self.assertEqual(len(self.server.webrtc), 0)
        self.assertEqual(self.server.hub.streams, {})
        self.assert_refused(await self.request("DELETE", session), 404, "not_found")

    async def test_candidates_and_a_restart(self) -> None:
        begun = await self.begin()
        session, etag = begun.headers["location"].removeprefix("/api/v1/webrtc/"), begun.headers["etag"]
        candidate = "a=mid:0\r\na=candidate:1 1 udp 1 192.0.2.7 9 typ host\r\n"
        answer = await self.request("PATCH", session, candidate, FRAGMENT, If_Match=etag)
        self.assertEqual(answer.status, 204)
        self.assert_refused(await self.request("PATCH", session, candidate, FRAGMENT), 428, "no_if_match")
        anew = f"a=ice-ufrag:anew\r\na=ice-pwd:{'p' * 24}\r\n"
        answer = await self.request("PATCH", session, anew, FRAGMENT, If_Match="*")
        self.assertEqual((answer.status, answer.headers["content-type"]), (200, FRAGMENT))
        self.assertNotEqual(answer.headers["etag"], etag)

    async def test_what_is_refused(self) -> None:
        key = await self.on_air()
        for path, body, kind, given, status, code in (
            ("whip", whip_offer(), SDP, "", 401, "no_key"),
            ("whip", whip_offer(), SDP, "x" * 300, 401, "no_key"),
            ("whip", whip_offer(), SDP, "nobody-has-this-key", 401, "bad_key"),
            ("whip/x", whip_offer(), SDP, key, 404, "not_found"),
            ("whip", whip_offer(), "application/json", key, 415, "unsupported_media_type"),
            ("whip", "v=1", SDP, key, 400, "bad_offer"),
            ("whip", whip_offer(change="a=sendonly>a=recvonly"), SDP, key, 400, "bad_offer"),
            ("whip", whip_offer(a="H264>X", b="VP8>X", c="opus>X"), SDP, key, 422, "no_codec"),
            ("whip", whip_offer() + "a=x\r\n" * (MAX_OFFER // 5), SDP, key, 413, "too_large"),
        ):
            answer = await self.request("POST", path, body, kind, given)
            self.assert_refused(answer, status, code)
            self.assertNotIn(key.encode(), answer.body)
        self.assertEqual((len(self.server.webrtc), self.server.hub.streams), (0, {}))

    async def test_a_stopped_stream_is_refused(self) -> None:
        key = await self.on_air()
        await self.server.foundation.streams.update(self.info.id, StreamChange(accepts_publishing=False))
        answer = await self.request("POST", "whip", whip_offer(), key=key)
        self.assert_refused(answer, 403, "stream_stopped")

    async def test_when_there_is_no_room(self) -> None:
        self.environ["OXIDECAST_WEBRTC_MAX_SESSIONS"] = "1"
        await self.begin()
        foundation = self.server.foundation
        other = await foundation.streams.create(self.info.owner_id, "Other", name="other")
        key = (await foundation.keys.create(other.id)).text
        self.assert_refused(await self.request("POST", "whip", whip_offer(), key=key), 503, "full")
        self.assertEqual(list(self.server.hub.streams), [self.info.id])
        # The same stream's newcomer takes the place of the one before.
        self.assertEqual((await self.request("POST", "whip", whip_offer(), key=self.key)).status, 201)
        self.assertEqual(len(self.server.webrtc), 1)

    async def test_guessed_keys_are_counted_as_everywhere(self) -> None:
        self.environ["OXIDECAST_RATE_LIMIT_EXEMPT"] = "[]"
        self.environ["OXIDECAST_RATE_LIMIT_FAILED_KEYS_BURST"] = "2"
        await self.on_air()
        for status in (401, 401, 429):
            answer = await self.request("POST", "whip", whip_offer(), key="nobody-has-this-key")
            self.assertEqual(answer.status, status, answer.body)
        self.assertIn("retry-after", answer.headers)

    async def test_no_more_publishers_of_a_network_than_may_come(self) -> None:
        self.environ["OXIDECAST_RATE_LIMIT_EXEMPT"] = "[]"
        self.environ["OXIDECAST_RATE_LIMIT_PUBLISH_BURST"] = "1"
        await self.on_air()
        self.assertEqual((await self.request("POST", "whip", whip_offer(), key=self.key)).status, 201)
        answer = await self.request("POST", "whip", whip_offer(), key=self.key)
        self.assert_refused(answer, 429, "too_many_requests")
        self.assertGreater(int(answer.headers["retry-after"]), 0)

    async def test_preflights_and_what_else_is_no_method(self) -> None:
        await self.on_air()
        answer = await self.request("OPTIONS", "whip", Origin="https://example.com")
        self.assertEqual((answer.status, answer.headers["accept-post"]), (204, SDP))
        self.assertIn("Authorization", answer.headers["access-control-allow-headers"])
        self.assertEqual((await self.request("GET", "whip")).status, 405)

    async def test_a_stream_may_be_named_whip(self) -> None:
        await self.on_air()
        answer = await self.request("POST", "whip/whep", whip_offer())
        self.assert_refused(answer, 404, "no_stream")
