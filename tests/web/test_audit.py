"""The audit log as administrators read it: who did what, from where, and no secret."""

import json
from typing import Any

from twisted.internet.defer import Deferred, fail

from oxidecast.database import DatabaseUnavailable
from tests.web.test_api import LOGIN, ApiCase
from tests.web.test_authorisation import ONE, RECORDING, TABLE, AuthorisationCase

AUDIT = "/api/v1/audit"

TOLD = {
    ("POST", "/users"): "user.create",
    ("PATCH", "/users/{user}"): "user.role",
    ("DELETE", "/users/{user}"): "user.delete",
    ("POST", "/streams"): "stream.create",
    ("PUT", ONE): "stream.change",
    ("PATCH", ONE): "stream.change",
    ("DELETE", ONE): "stream.delete",
    ("POST", f"{ONE}/start"): "stream.start",
    ("POST", f"{ONE}/stop"): "stream.stop",
    ("GET", f"{ONE}/key"): "key.read",
    ("DELETE", f"{ONE}/key"): "key.revoke",
    ("POST", f"{ONE}/key/rotate"): "key.rotate",
    ("GET", f"{ONE}/keys"): "key.read",
    ("POST", f"{ONE}/keys"): "key.create",
    ("PATCH", f"{ONE}/keys/{{key}}"): "key.change",
    ("DELETE", f"{ONE}/keys/{{key}}"): "key.revoke",
    ("PUT", f"{ONE}/outputs/{{output}}"): "stream.output",
    ("PATCH", RECORDING): "recording.change",
    ("DELETE", RECORDING): "recording.delete",
}
"""What is written when a route has done what it is for."""

NOT_TOLD = {
    ("POST", "/auth/login"),  # in tests of their own: they need no login
    ("POST", "/auth/register"),
    ("POST", "/auth/refresh"),
    ("POST", "/auth/logout"),
    ("POST", f"{ONE}/join"),  # watching
    ("DELETE", f"{ONE}/leave"),
    ("POST", "/viewers/{viewer}/heartbeat"),
    ("DELETE", "/viewers/{viewer}"),
}


class AuditCase(ApiCase):
    async def begin(self) -> None:
        await self.start()
        self.admin = await self.token("admin")
        self.owner = await self.token("streamer")

    async def entries(self, query: str = "limit=100") -> list[Any]:
        answer = await self.ask("GET", f"{AUDIT}?{query}", token=self.admin)
        self.assertEnvelope(answer, 200)
        return list(answer.data["items"])

    async def actions(self, query: str = "limit=100") -> list[str]:
        return [entry["action"] for entry in await self.entries(query)]


class TestEveryRoute(AuthorisationCase):
    timeout = 60

    async def test_every_change_is_thought_of(self) -> None:
        changing = {route for route in TABLE if route[0] != "GET"}
        self.assertEqual(changing - set(TOLD) - NOT_TOLD, set())

    async def test_who_did_what_from_where(self) -> None:
        await self.everybody()
        audit = self.server.foundation.audit
        for (method, route), action in TOLD.items():
            path = await self.fresh(route, private=False)
            before = (await audit.page()).total
            answer = await self.ask(method, path, TABLE[method, route][0], self.tokens["admin"])
            self.assertLess(answer.status, 300, (method, route))
            told = (await audit.page(limit=100)).items[: (await audit.page()).total - before]
            self.assertIn(action, [entry.action for entry in told], (method, route))
            for entry in told:
                self.assertEqual((entry.actor, entry.address), ("a-admin", "127.0.0.1"), (method, route))
                self.assertTrue(entry.target)
            if "{stream}" in route:
                name = path.split("/")[4]
                self.assertEqual({entry.target for entry in told}, {f"stream:{name}"})

    async def test_what_was_refused_is_not_told_as_done(self) -> None:
        await self.everybody()
        audit = self.server.foundation.audit
        for method, route in TOLD:
            path = await self.fresh(route, private=False)
            before = (await audit.page()).total
            answer = await self.ask(method, path, TABLE[method, route][0], self.tokens["viewer"])
            self.assertGreaterEqual(answer.status, 400)
            self.assertEqual((await audit.page()).total, before, (method, route))


class TestReading(AuditCase):
    async def test_pages_filters_and_totals(self) -> None:
        await self.begin()
        for title in ("One", "Two", "Three"):
            await self.ask("POST", "/api/v1/streams", {"title": title}, self.owner)
        await self.ask("POST", "/api/v1/streams/two/stop", None, self.owner)
        answer = await self.ask("GET", f"{AUDIT}?actor=a-streamer&page=2&limit=2", token=self.admin)
        self.assertEqual((answer.data["total"], answer.data["total_pages"]), (7, 4))
        self.assertEqual(await self.actions("target=stream:two&action=stream.stop"), ["stream.stop"])
        [stop] = await self.entries("action=stream.stop")
        self.assertEqual(await self.actions(f"from={stop['at']}&action=stream.stop"), ["stream.stop"])
        self.assertEqual(await self.actions(f"to={stop['at']}&action=stream.stop"), [])
        self.assertEqual(await self.actions("actor=nobody"), [])
        self.assertEqual(await self.actions("from=8999-12-30T23:59:59-12:00"), [])
        self.assertGreater(len(await self.actions("from=1970-01-02T00:00:00%2B12:00&limit=100")), 7)

    async def test_a_time_that_is_none_is_told(self) -> None:
        await self.begin()
        for query in (
            "from=yesterday",
            "from=",
            "to=9999-12-31T23:59:59-12:00",
            "to=2026-01-01",
            "from=2026-01-01T00:00:00",
            "actor=%00",
        ):
            answer = await self.ask("GET", f"{AUDIT}?{query}", token=self.admin)
            self.assertEnvelope(answer, 422, "invalid")


class TestLogins(AuditCase):
    async def test_from_the_first_to_the_last(self) -> None:
        await self.begin()
        login = await self.ask("POST", LOGIN, {"username": "a-streamer", "password": "correct horse"})
        refresh = {"refresh_token": login.data["refresh_token"]}
        for _ in range(2):
            await self.ask("POST", "/api/v1/auth/logout", refresh)
        for password in ("planted one", "planted two"):
            await self.ask("POST", LOGIN, {"username": "a-streamer", "password": password})
        await self.server.web.failed_logins.write()
        entries = await self.entries("target=user:a-streamer")
        told = [(entry["action"], entry["actor"], entry["times"]) for entry in entries]
        self.assertEqual(
            sorted(told),
            [
                ("login", "a-streamer", 1),
                ("login.failed", "anonymous", 2),
                ("logout", "a-streamer", 1),
                ("user.create", "server", 1),
            ],
        )
        self.assertEqual({entry["address"] for entry in entries}, {"127.0.0.1", None})

    async def test_a_token_that_is_used_twice_is_told_of_once(self) -> None:
        await self.begin()
        login = await self.ask("POST", LOGIN, {"username": "a-streamer", "password": "correct horse"})
        refresh = {"refresh_token": login.data["refresh_token"]}
        for _ in range(4):
            await self.ask("POST", "/api/v1/auth/refresh", refresh)
        [entry] = await self.entries("action=login.reuse")
        self.assertEqual((entry["actor"], entry["target"]), ("anonymous", "user:a-streamer"))

    async def test_registering(self) -> None:
        self.environ["OXIDECAST_AUTH_OPEN_REGISTRATION"] = "true"
        await self.begin()
        body = {"username": "newcomer", "password": "long enough"}
        self.assertEnvelope(await self.ask("POST", "/api/v1/auth/register", body), 201)
        [entry] = await self.entries("target=user:newcomer")
        self.assertEqual((entry["action"], entry["actor"]), ("user.register", "anonymous"))
        self.assertEqual((entry["address"], entry["details"]["role"]), ("127.0.0.1", "viewer"))

    async def test_what_became_of_an_account(self) -> None:
        await self.begin()
        user = (await self.server.foundation.accounts.users.by_username("a-streamer")) or self.fail()
        path = f"/api/v1/users/{user.id}"
        for change in (
            {"role": "viewer", "password": "planted password", "email": "ada@example.org"},
            {"disabled": True},
            {"disabled": False},
            {"role": "viewer"},
        ):
            self.assertEnvelope(await self.ask("PATCH", path, change, self.admin), 200)
        entries = await self.entries("target=user:a-streamer&actor=a-admin")
        told = sorted(entry["action"] for entry in entries)
        self.assertEqual(told, ["user.disable", "user.email", "user.enable", "user.password", "user.role"])
        role = next(entry for entry in entries if entry["action"] == "user.role")
        self.assertEqual((role["details"]["before"], role["details"]["role"]), ("streamer", "viewer"))

    async def test_reloading_settings(self) -> None:
        self.config = self.folder / "settings.toml"
        self.config.write_text("[auth]\nopen_registration = false\n")
        await self.begin()
        self.config.write_text("[auth]\nopen_registration = true\n")
        self.server.reload()
        await self.server.foundation.database.execute("UPDATE settings SET name = name")
        [entry] = await self.entries("action=settings.reload")
        self.assertEqual(
            (entry["actor"], entry["details"]), ("server", {"changed": ["auth.open_registration"]})
        )


class TestSecrets(AuditCase):
    async def test_none_is_written_down(self) -> None:
        await self.begin()
        planted = ["planted password", "planted@example.org", "planted-description"]
        made = await self.ask(
            "POST", "/api/v1/streams", {"title": "Show", "description": planted[2]}, self.owner
        )
        planted += [made.data["stream_key"], self.owner]
        for method, path, body in (
            ("GET", "/streams/show/key", None),
            ("GET", "/streams/show/keys", None),
            ("POST", "/streams/show/key/rotate", None),
            ("POST", "/streams/show/keys", {"name": "studio"}),
            ("PATCH", "/streams/show", {"description": planted[2], "is_private": True}),
            ("PUT", "/streams/show/outputs/multicast", {"enabled": False}),
        ):
            answer = await self.ask(method, f"/api/v1{path}", body, self.owner)
            self.assertLess(answer.status, 300, answer.body)
            data = answer.data.get("items", [answer.data])
            planted += [one["stream_key"] for one in data if one.get("stream_key")]
        body = {"username": "vera", "password": planted[0], "email": planted[1]}
        await self.ask("POST", "/api/v1/users", body, self.admin)
        login = await self.ask("POST", LOGIN, {"username": "vera", "password": planted[0]})
        planted += [login.data["access_token"], login.data["refresh_token"]]
        await self.ask("POST", LOGIN, {"username": planted[0], "password": planted[0]})
        await self.ask("POST", LOGIN, {"username": "vera", "password": f"{planted[0]}!"})
        await self.ask("POST", "/api/v1/auth/logout", {"refresh_token": login.data["refresh_token"]})
        await self.server.web.failed_logins.write()
        rows = json.dumps(await self.entries(), ensure_ascii=False)
        self.assertIn("key.rotate", rows)
        self.assertGreater(len(planted), 10)
        for secret in planted:
            self.assertNotIn(secret, rows)


class TestAway(AuditCase):
    async def test_what_cannot_be_written_down_is_not_done_and_not_shown(self) -> None:
        await self.begin()
        made = (await self.ask("POST", "/api/v1/streams", {"title": "Show"}, self.owner)).data

        def away(*_: Any, **__: Any) -> Deferred[None]:
            return fail(DatabaseUnavailable("The database is away."))

        self.patch(self.server.foundation.database, "transaction", away)
        for method, path in (
            ("GET", "key"),
            ("GET", "keys"),
            ("POST", "stop"),
            ("POST", "key/rotate"),
            ("DELETE", "key"),
        ):
            answer = await self.ask(method, f"/api/v1/streams/show/{path}", None, self.owner)
            self.assertEnvelope(answer, 503, "database_away")
            self.assertNotIn(made["stream_key"].encode(), answer.body)
        self.assertEqual((await self.ask("GET", "/api/v1/streams/show")).data["state"], "idle")
