"""Tokens as clients meet them: the keys that others check them by, and playback tokens that are for one address."""

import re

import jwt

from tests.accounts.pem import ec_key, private_pem
from tests.house import Answer
from tests.web.test_api import ApiCase

KEYS = "/.well-known/jwks.json"
STREAM = "/api/v1/streams/show"
PLAYLIST = "/api/v1/hls/show/playlist.m3u8"


class TestPublishedKeys(ApiCase):
    async def test_of_a_secret_there_are_none(self) -> None:
        await self.start()
        answer = await self.ask("GET", KEYS)
        self.assertEqual((answer.status, answer.json), (200, {"keys": []}))

    async def test_others_check_our_tokens_by_them(self) -> None:
        file = self.folder / "key.pem"
        file.write_bytes(private_pem(ec_key()))
        file.chmod(0o600)
        self.environ["OXIDECAST_AUTH_SIGNING_KEY"] = str(file)
        await self.start()
        token = await self.token("viewer")
        answer = await self.ask("GET", KEYS, Origin="https://other.example")
        self.assertEqual(answer.headers["access-control-allow-origin"], "*")
        self.assertEqual(answer.headers["cache-control"], "public, max-age=300")
        key = jwt.PyJWKSet.from_dict(answer.json)[jwt.get_unverified_header(token)["kid"]]
        claims = jwt.decode(token, key, audience="oxidecast-api", issuer="oxidecast")
        self.assertEqual(claims["username"], "a-viewer")
        self.assertEqual({"d", "p", "q"} & set(answer.json["keys"][0]), set())

    async def test_nothing_else_is_beside_them(self) -> None:
        await self.start()
        for path in ("/.well-known", "/.well-known/", "/.well-known/x", f"{KEYS}x", f"{KEYS}/x"):
            self.assertIn((path, (await self.ask("GET", path)).status), [(path, 404), (f"{KEYS}/x", 200)])
        self.assertEqual((await self.ask("POST", KEYS)).status, 405)


class PlaybackCase(ApiCase):
    async def on_air(self) -> None:
        await self.start()
        self.owner = await self.token("streamer")
        await self.live(self.owner, is_private=True)
        self.server.hub.find("show").end("enough")  # type: ignore[union-attr]

    def in_it(self, answer: Answer) -> str:
        """The token in the address that was answered."""
        data = answer.data
        found = re.search(r"token=([^&]+)", data.get("url") or data["stream_url"])
        assert found is not None
        return found[1]

    async def asked(self, query: str = "", token: str = "") -> str:
        return self.in_it(await self.ask("GET", f"{STREAM}/url{query}", token=token or self.owner))

    async def opens(self, token: str, address: str) -> bool:
        self.from_address = address
        try:
            statuses = [
                (await self.ask("GET", f"{path}?token={token}")).status
                for path in (PLAYLIST, STREAM, f"{STREAM}/url")
            ]
        finally:
            self.from_address = "127.0.0.1"
        self.assertIn(statuses, ([200] * 3, [401] * 3))
        return statuses[0] == 200


class TestGivers(PlaybackCase):
    """A playback token ends with the others of the account that gave it away."""

    async def test_what_ends_its_tokens_ends_those_too(self) -> None:
        await self.on_air()
        accounts = self.server.foundation.accounts
        for change in ({"disabled": True}, {"password": "another long one"}):
            admin = await self.token("admin", f"admin-{next(iter(change))}")
            token = await self.asked("", admin)
            passed_on = self.in_it(await self.ask("GET", f"{STREAM}/url?token={token}"))
            for one in (token, passed_on):
                self.assertTrue(await self.opens(one, "127.0.0.1"))
            await accounts.change((await accounts.bearer(admin)).id, **change)
            for one in (token, passed_on):
                self.assertFalse(await self.opens(one, "127.0.0.1"))

    async def test_deleting_the_account_too(self) -> None:
        await self.on_air()
        admin = await self.token("admin")
        token = await self.asked("", admin)
        accounts = self.server.foundation.accounts
        await self.token("admin", "another")
        await accounts.delete((await accounts.bearer(admin)).id)
        self.assertFalse(await self.opens(token, "127.0.0.1"))


class TestBoundTokens(PlaybackCase):
    async def test_one_is_for_everybody_who_has_it(self) -> None:
        await self.on_air()
        for query in ("", "?bind_address=false"):
            token = await self.asked(query)
            self.assertTrue(await self.opens(token, "127.0.0.1"))
            self.assertTrue(await self.opens(token, "127.0.0.2"))

    async def test_one_that_is_bound_opens_from_its_address_alone(self) -> None:
        await self.on_air()
        token = await self.asked("?bind_address=true")
        self.assertTrue(await self.opens(token, "127.0.0.1"))
        self.assertFalse(await self.opens(token, "127.0.0.2"))

    async def test_the_settings_bind_all_of_them(self) -> None:
        self.environ["OXIDECAST_AUTH_BIND_PLAYBACK_TOKENS"] = "true"
        await self.on_air()
        for query in ("", "?bind_address=false"):
            self.assertFalse(await self.opens(await self.asked(query), "127.0.0.2"))

    async def test_who_came_by_a_bound_one_gets_no_other(self) -> None:
        await self.on_air()
        bound = await self.asked("?bind_address=true")
        answer = await self.ask("GET", f"{STREAM}/url?token={bound}")
        self.assertFalse(await self.opens(self.in_it(answer), "127.0.0.2"))

    async def test_the_session_that_it_begins_is_for_its_address_too(self) -> None:
        await self.on_air()
        token = await self.asked("?bind_address=true")
        listed = (await self.ask("GET", f"{PLAYLIST}?token={token}")).body.decode()
        session = next(line for line in listed.splitlines() if line.startswith("~"))
        self.assertEqual((await self.ask("GET", f"/api/v1/hls/show/{session}")).status, 200)
        self.from_address = "127.0.0.2"
        self.assertEqual((await self.ask("GET", f"/api/v1/hls/show/{session}")).status, 404)

    async def test_who_joins_may_ask_for_one(self) -> None:
        await self.start()
        self.owner = await self.token("streamer")
        await self.live(self.owner, is_private=True)
        for bind in (True, False):
            body = {"connection_type": "hls", "bind_address": bind}
            token = self.in_it(await self.ask("POST", f"{STREAM}/join", body, self.owner))
            claims = jwt.decode(token, options={"verify_signature": False})
            self.assertEqual(claims.get("net"), "127.0.0.1" if bind else None)

    async def test_what_is_neither_true_nor_false_is_refused(self) -> None:
        await self.on_air()
        answer = await self.ask("GET", f"{STREAM}/url?bind_address=perhaps", token=self.owner)
        self.assertEnvelope(answer, 422, "invalid")
