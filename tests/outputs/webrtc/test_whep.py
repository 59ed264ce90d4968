"""WHEP as clients see it: a whole server on loopback, and what it answers by HTTP."""

import time

import msgspec
from twisted.internet import task

from oxidecast.formats.sdp_offer import MAX_OFFER
from oxidecast.interfaces import PublishRequest
from oxidecast.webrtc.signalling import FRAGMENT, LATER, SDP
from tests.house import Answer, HouseCase
from tests.outputs.webrtc.stage import offer
from tests.outputs.webrtc.test_output import OPUS, PACKETS, PICTURE, SOUNDS, TRACK


class Publisher:
    def stop(self, code: str, sentence: str) -> None: ...


class WHEPCase(HouseCase):
    async def on_air(self, private: bool = False, frames: int = 3, reordered: bool = False) -> str:
        """A live stream's name."""
        await self.start()
        foundation = self.server.foundation
        (admin,) = (await foundation.accounts.users.page(limit=1, role="admin")).items
        info = await foundation.streams.create(admin.id, "Show", name="show", is_private=private)
        key = await foundation.keys.create(info.id)
        request = PublishRequest(protocol="rtmp", address="127.0.0.1", key=key.text)
        publication = await self.server.hub.publish(request, Publisher())  # type: ignore[arg-type]
        for track in (TRACK, OPUS):
            publication.track(track)
        for number in range(frames):
            dts = number * PICTURE
            pts = dts + (2 * PICTURE if reordered and number % 3 == 1 else 0)
            publication.packet(1, dts, pts, number == 0, PACKETS[min(number, 11)].payload)
            publication.packet(2, dts, dts, True, SOUNDS[0].payload, 960)
        self.addCleanup(publication.close, "over")
        self.info = info
        return info.name

    async def request(self, method: str, path: str, body: str = "", kind: str = SDP, **fields: str) -> Answer:
        lines = [f"{method} /api/v1/webrtc/{path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
        if body:
            lines += [f"Content-Type: {kind}", f"Content-Length: {len(body.encode())}"]
        return await self.send("\r\n".join([*lines, "", body]).encode())

    def assert_refused(self, answer: Answer, status: int, code: str) -> None:
        self.assertEqual((answer.status, answer.code), (status, code), answer.body)
        self.assertEqual(answer.headers["access-control-allow-origin"], "*")


class TestWHEP(WHEPCase):
    async def test_an_offer_is_answered_with_a_session(self) -> None:
        await self.on_air()
        answer = await self.request("POST", "show/whep", offer())
        self.assertEqual(answer.status, 201, answer.body)
        self.assertEqual(answer.headers["content-type"], SDP)
        self.assertTrue(answer.headers["location"].startswith("/api/v1/webrtc/show/whep/"))
        self.assertIn("Location", answer.headers["access-control-expose-headers"])
        self.assertEqual(answer.headers["access-control-allow-origin"], "*")
        self.assertRegex(answer.headers["etag"], '^"[0-9a-f]{12}"$')
        text = answer.body.decode()
        self.assertIn(f" 127.0.0.1 {self.server.webrtc.number} typ host\r\n", text)
        self.assertIn("a=setup:passive", text)
        self.assertEqual(len(self.server.webrtc), 1)

    async def test_a_session_is_ended_once(self) -> None:
        await self.on_air()
        location = (await self.request("POST", "show/whep", offer())).headers["location"]
        session = location.removeprefix("/api/v1/webrtc/")
        self.assertEqual((await self.request("DELETE", session)).status, 200)
        self.assertEqual(len(self.server.webrtc), 0)
        self.assert_refused(await self.request("DELETE", session), 404, "not_found")

    async def test_candidates_and_a_restart(self) -> None:
        await self.on_air()
        begun = await self.request("POST", "show/whep", offer())
        session, etag = begun.headers["location"].removeprefix("/api/v1/webrtc/"), begun.headers["etag"]
        candidate = "a=mid:0\r\na=candidate:1 1 udp 1 192.0.2.7 9 typ host\r\n"
        answer = await self.request("PATCH", session, candidate, FRAGMENT, If_Match=etag)
        self.assertEqual(answer.status, 204)
        self.assert_refused(await self.request("PATCH", session, candidate, FRAGMENT), 428, "no_if_match")
        answer = await self.request("PATCH", session, candidate, FRAGMENT, If_Match='"other"')
        self.assert_refused(answer, 412, "changed")
        answer = await self.request("PATCH", session, candidate, "text/plain", If_Match="*")
        self.assert_refused(answer, 415, "unsupported_media_type")
        answer = await self.request("PATCH", session, "a=ice-ufrag:x\r\n", FRAGMENT, If_Match="*")
        self.assert_refused(answer, 400, "bad_fragment")
        anew = f"a=ice-ufrag:anew\r\na=ice-pwd:{'p' * 24}\r\n"
        answer = await self.request("PATCH", session, anew, FRAGMENT, If_Match="*")
        self.assertEqual((answer.status, answer.headers["content-type"]), (200, FRAGMENT))
        self.assertNotEqual(answer.headers["etag"], etag)
        self.assertIn(f"a=ice-ufrag:{answer.headers['etag'][1:-1]}\r\n", answer.body.decode())

    async def test_what_is_refused(self) -> None:
        await self.on_air()
        for path, body, kind, status, code in (
            ("nothing/whep", offer(), SDP, 404, "no_stream"),
            ("show", offer(), SDP, 404, "not_found"),
            ("show/whep/x", offer(), SDP, 404, "not_found"),
            ("show/whip", offer(), SDP, 404, "not_found"),
            ("show/whep", offer(), "application/json", 415, "unsupported_media_type"),
            ("show/whep", "v=1", SDP, 400, "bad_offer"),
            ("show/whep", offer(change="a=recvonly>a=sendonly"), SDP, 400, "bad_offer"),
            ("show/whep", offer(change="H264>H263"), SDP, 422, "no_codec"),
            ("show/whep", offer() + "a=x\r\n" * (MAX_OFFER // 5), SDP, 413, "too_large"),
        ):
            answer = await self.request("POST", path, body, kind)
            self.assert_refused(answer, status, code)
            self.assertEqual("retry-after" in answer.headers, code == "no_stream")
        self.assertEqual(len(self.server.webrtc), 0)
        self.assertEqual(self.server.hub.find("show").viewers, {})  # type: ignore[union-attr]

    async def test_who_wants_only_sound_or_only_pictures(self) -> None:
        await self.on_air()
        video, audio = (
            offer().split("m=audio")[0],
            offer().split("m=video")[0] + "m=audio" + offer().split("m=audio")[1],
        )
        for text, there, missing in ((video, "m=video 9", "m=audio"), (audio, "m=audio 9", "m=video")):
            answer = await self.request("POST", "show/whep", text)
            self.assertEqual(answer.status, 201, answer.body)
            self.assertIn(there, answer.body.decode())
            self.assertNotIn(missing, answer.body.decode())

    async def test_pictures_that_no_browser_can_show(self) -> None:
        await self.on_air(frames=12, reordered=True)
        self.assert_refused(await self.request("POST", "show/whep", offer()), 422, "not_carried")

    async def test_pictures_that_no_browser_can_show_now(self) -> None:
        await self.on_air(frames=12, reordered=True)
        self.server.hub.find("show").plan({}, "the server is full")  # type: ignore[union-attr]
        answer = await self.request("POST", "show/whep", offer())
        self.assert_refused(answer, 503, "no_quality")
        self.assertEqual(answer.headers["retry-after"], "5")

    async def test_when_there_is_no_room(self) -> None:
        self.environ["OXIDECAST_WEBRTC_MAX_SESSIONS"] = "1"
        await self.on_air()
        self.assertEqual((await self.request("POST", "show/whep", offer())).status, 201)
        answer = await self.request("POST", "show/whep", offer())
        self.assert_refused(answer, 503, "full")
        self.assertEqual(answer.headers["retry-after"], "5")

    async def test_a_private_stream_needs_a_token(self) -> None:
        await self.on_air(private=True)
        answer = await self.request("POST", "show/whep", offer())
        self.assertEqual((answer.status, answer.headers["www-authenticate"]), (401, "Bearer"))
        token = self.server.foundation.tokens.playback(self.info.id)
        self.assertEqual((await self.request("POST", f"show/whep?token={token}", offer())).status, 201)
        answer = await self.request("POST", "show/whep", offer(), Authorization=f"Bearer {token}")
        self.assertEqual(answer.status, 201)

    async def test_who_watched_before_it_was_private_has_to_come_with_a_token(self) -> None:
        await self.on_air()
        await self.request("POST", "show/whep", offer())
        stream = self.server.hub.find("show")
        assert stream is not None
        stream.change_info(msgspec.structs.replace(self.info, is_private=True))
        self.assertEqual(len(self.server.webrtc), 0)

    async def test_preflights(self) -> None:
        await self.on_air()
        answer = await self.request("OPTIONS", "show/whep", Origin="https://example.com")
        self.assertEqual(answer.status, 204)
        for word in ("POST", "PATCH", "DELETE"):
            self.assertIn(word, answer.headers["access-control-allow-methods"])
        self.assertIn("If-Match", answer.headers["access-control-allow-headers"])
        self.assertEqual(answer.headers["accept-post"], SDP)

    async def test_where_else_it_cannot_be_reached(self) -> None:
        await self.on_air()
        self.assertEqual((await self.request("GET", "show/whep")).status, 405)
        for method in ("PATCH", "DELETE"):
            answer = await self.request(method, "show/whep")
            self.assert_refused(answer, 405, "method_not_allowed")
            self.assertEqual(answer.headers["allow"], "POST, OPTIONS")
        location = (await self.request("POST", "show/whep", offer())).headers["location"]
        answer = await self.request("POST", location.removeprefix("/api/v1/webrtc/"), offer())
        self.assert_refused(answer, 405, "method_not_allowed")
        self.assertEqual(answer.headers["allow"], "PATCH, DELETE, OPTIONS")
        self.assertEqual(len(self.server.webrtc), 1)

    async def test_ice_servers_are_told(self) -> None:
        self.environ["OXIDECAST_WEBRTC_STUN_SERVERS"] = '["stun:stun.example.com:3478"]'
        await self.on_air()
        answer = await self.request("POST", "show/whep", offer())
        self.assertEqual(answer.headers["link"], '<stun:stun.example.com:3478>; rel="ice-server"')

    async def test_a_server_that_is_too_busy_to_serve_on_time_lets_nobody_in(self) -> None:
        await self.on_air()
        self.assertEqual((await self.request("POST", "show/whep", offer())).status, 201)
        busy = task.LoopingCall(burn)
        busy.start(0)
        answer = await self.request("POST", "show/whep", offer())
        while answer.status == 201:
            answer = await self.request("POST", "show/whep", offer())
        busy.stop()
        self.assert_refused(answer, 503, "full")
        self.assertIn("on time", answer.json["error"])
        self.assertEqual(answer.headers["retry-after"], LATER[1])


def burn() -> None:
    """What leaves the reactor no time."""
    until = time.thread_time() + 0.02
    while time.thread_time() < until:
        pass
