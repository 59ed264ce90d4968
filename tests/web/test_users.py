"""Accounts, as administrators manage them through the API."""

from typing import Any

from twisted.internet.defer import Deferred

from oxidecast.interfaces import PublishRequest, Refused
from tests.house import Answer
from tests.web.test_api import LOGIN, ApiCase

USERS = "/api/v1/users"


class UsersCase(ApiCase):
    async def admin(self) -> str:
        """The access token of the first start's administrator, who is the only one."""
        await self.start()
        accounts = self.server.foundation.accounts
        admin = await accounts.users.by_username("admin")
        assert admin is not None
        self.admin_id = admin.id
        return self.server.foundation.tokens.access(admin)

    async def make(self, token: str, **user: Any) -> Answer:
        body = {"username": "vera", "password": "correct horse", **user}
        return await self.ask("POST", USERS, body, token)

    async def login(self, username: str = "vera", password: str = "correct horse") -> Answer:
        return await self.ask("POST", LOGIN, {"username": username, "password": password})


class TestMaking(UsersCase):
    async def test_a_new_user_can_log_in(self) -> None:
        token = await self.admin()
        made = await self.make(token, role="streamer", email="vera@example.com")
        self.assertEnvelope(made, 201)
        self.assertEqual(made.headers["location"], f"{USERS}/{made.data['id']}")
        shown = {name: made.data[name] for name in ("username", "role", "email", "disabled")}
        self.assertEqual(
            shown, {"username": "vera", "role": "streamer", "email": "vera@example.com", "disabled": False}
        )
        self.assertEqual((await self.login()).status, 200)

    async def test_no_answer_has_a_password_or_its_hash(self) -> None:
        token = await self.admin()
        made = await self.make(token)
        for answer in (made, await self.ask("GET", USERS, token=token)):
            self.assertNotIn(b"argon2", answer.body)
            self.assertNotIn(b"correct horse", answer.body)

    async def test_the_role_is_viewer_unless_said(self) -> None:
        token = await self.admin()
        self.assertEqual((await self.make(token)).data["role"], "viewer")
        self.assertEqual((await self.make(token, username="otto", role=None)).data["role"], "viewer")

    async def test_a_taken_name_or_address_is_a_409(self) -> None:
        token = await self.admin()
        await self.make(token, email="vera@example.com")
        self.assertEnvelope(await self.make(token, username="VERA"), 409, "taken")
        answer = await self.make(token, username="otto", email="Vera@Example.com")
        self.assertEnvelope(answer, 409, "taken")

    async def test_what_a_user_cannot_be(self) -> None:
        token = await self.admin()
        for field, value in (
            ("username", "xy"),
            ("username", "has blank"),
            ("username", "x" * 51),
            ("password", "short"),
            ("role", "god"),
            ("email", "nonsense"),
            ("email", "a\0@b"),
        ):
            answer = await self.make(token, **{field: value})
            self.assertEnvelope(answer, 422, "invalid")
            self.assertEqual(list(answer.data["fields"]), [field])


class TestListing(UsersCase):
    async def test_pages_have_true_totals(self) -> None:
        token = await self.admin()
        for number in range(4):
            await self.make(token, username=f"user{number}")
        answer = (await self.ask("GET", f"{USERS}?page=2&limit=2", token=token)).data
        self.assertEqual([user["username"] for user in answer["items"]], ["user1", "user2"])
        self.assertEqual((answer["total"], answer["total_pages"]), (5, 3))

    async def test_filters(self) -> None:
        token = await self.admin()
        await self.make(token, username="vera", role="streamer")
        await self.make(token, username="otto")
        for query, names in (
            ("role=streamer", ["vera"]),
            ("q=TT", ["otto"]),
            ("q=%25", []),
            ("role=admin", ["admin"]),
        ):
            items = (await self.ask("GET", f"{USERS}?{query}", token=token)).data["items"]
            self.assertEqual((query, [user["username"] for user in items]), (query, names))

    async def test_filters_that_are_none_are_422(self) -> None:
        token = await self.admin()
        for query in ("role=god", "q=%00", "page=0"):
            answer = await self.ask("GET", f"{USERS}?{query}", token=token)
            self.assertEnvelope(answer, 422, "invalid")

    async def test_who_is_not_there_is_a_404(self) -> None:
        token = await self.admin()
        for user in ("vera", "0" * 32, "00000000-0000-4000-8000-000000000000", "%00"):
            for method, body in (("GET", None), ("PATCH", {"disabled": True})):
                answer = await self.ask(method, f"{USERS}/{user}", body, token)
                self.assertEnvelope(answer, 404, "not_found")


class TestChanging(UsersCase):
    async def change(self, token: str, user_id: str, **change: Any) -> Answer:
        return await self.ask("PATCH", f"{USERS}/{user_id}", change, token)

    async def test_what_is_left_out_stays(self) -> None:
        token = await self.admin()
        made = (await self.make(token, email="vera@example.com")).data
        changed = (await self.change(token, made["id"], role="streamer")).data
        self.assertEqual({**changed, "updated_at": ""}, {**made, "role": "streamer", "updated_at": ""})

    async def test_an_address_can_be_taken_away(self) -> None:
        token = await self.admin()
        made = (await self.make(token, email="vera@example.com")).data
        self.assertIsNone((await self.change(token, made["id"], email=None)).data["email"])

    async def test_a_taken_address_is_a_409(self) -> None:
        token = await self.admin()
        await self.make(token, email="vera@example.com")
        otto = (await self.make(token, username="otto")).data
        answer = await self.change(token, otto["id"], email="VERA@example.com")
        self.assertEnvelope(answer, 409, "taken")

    async def test_a_new_role_counts_at_once(self) -> None:
        token = await self.admin()
        vera = (await self.make(token)).data
        access = (await self.login()).data["access_token"]
        self.assertEnvelope(await self.ask("GET", USERS, token=access), 403, "forbidden")
        await self.change(token, vera["id"], role="admin")
        self.assertEnvelope(await self.ask("GET", USERS, token=access), 200)

    async def test_a_new_password_ends_the_logins_of_the_old_one(self) -> None:
        token = await self.admin()
        vera = (await self.make(token)).data
        login = (await self.login()).data
        self.assertEnvelope(await self.change(token, vera["id"], password="another horse"), 200)
        refresh = {"refresh_token": login["refresh_token"]}
        self.assertEqual((await self.ask("POST", "/api/v1/auth/refresh", refresh)).status, 401)
        self.assertEqual((await self.login()).status, 401)
        self.assertEqual((await self.login(password="another horse")).status, 200)

    async def test_a_disabled_account_is_out_everywhere(self) -> None:
        token = await self.admin()
        vera = (await self.make(token, role="streamer")).data
        login = (await self.login()).data
        await self.live(login["access_token"])
        answer = await self.change(token, vera["id"], disabled=True)
        self.assertEqual((answer.status, answer.data["disabled"]), (200, True))
        self.assertEqual(self.publisher.stopped, ["account_disabled"])
        self.assertEqual(self.server.hub.streams, {})
        refresh = {"refresh_token": login["refresh_token"]}
        self.assertEqual((await self.ask("POST", "/api/v1/auth/refresh", refresh)).status, 401)
        self.assertEqual((await self.ask("GET", "/api/v1/streams", token=login["access_token"])).status, 401)
        self.assertEqual((await self.login()).status, 401)

    async def test_its_keys_publish_no_more_and_its_old_logins_stay_ended_when_it_is_enabled_again(
        self,
    ) -> None:
        token = await self.admin()
        vera = (await self.make(token, role="streamer")).data
        login = (await self.login()).data
        await self.change(token, vera["id"], disabled=True)
        await self.change(token, vera["id"], disabled=False)
        refresh = {"refresh_token": login["refresh_token"]}
        self.assertEqual((await self.ask("POST", "/api/v1/auth/refresh", refresh)).status, 401)
        self.assertEqual((await self.login()).status, 200)

    async def test_another_owners_streams_go_on(self) -> None:
        token = await self.admin()
        vera = (await self.make(token)).data
        await self.live(await self.token("streamer"))
        await self.change(token, vera["id"], disabled=True)
        self.assertEqual(self.publisher.stopped, [])


class TestTheLastAdmin(UsersCase):
    async def test_stays_one(self) -> None:
        token = await self.admin()
        path = f"{USERS}/{self.admin_id}"
        for method, body in (
            ("PATCH", {"disabled": True}),
            ("PATCH", {"role": "streamer"}),
            ("DELETE", None),
        ):
            self.assertEnvelope(await self.ask(method, path, body, token), 409, "last_admin")
        self.assertEnvelope(await self.ask("GET", USERS, token=token), 200)

    async def test_a_disabled_one_does_not_count_as_another(self) -> None:
        token = await self.admin()
        other = (await self.make(token, role="admin")).data
        await self.ask("PATCH", f"{USERS}/{other['id']}", {"disabled": True}, token)
        answer = await self.ask("PATCH", f"{USERS}/{self.admin_id}", {"role": "viewer"}, token)
        self.assertEnvelope(answer, 409, "last_admin")

    async def test_with_another_it_may_go(self) -> None:
        token = await self.admin()
        await self.make(token, role="admin")
        self.assertEnvelope(await self.ask("DELETE", f"{USERS}/{self.admin_id}", token=token), 200)
        self.assertEnvelope(await self.ask("GET", USERS, token=token), 401, "token_invalid")

    async def test_two_who_demote_each_other_at_once_leave_one(self) -> None:
        token = await self.admin()
        other = (await self.make(token, role="admin")).data["id"]
        asked = [
            Deferred.fromCoroutine(self.ask("PATCH", f"{USERS}/{user}", {"role": "viewer"}, token))
            for user in (other, self.admin_id)
        ]
        answers = [await answer for answer in asked]
        # Who was demoted before it was looked at is refused for that, and not for being the last.
        self.assertIn(sorted(answer.status for answer in answers), ([200, 409], [200, 403]))
        left = await self.server.foundation.accounts.users.page(role="admin")
        self.assertEqual(left.total, 1)


class TestDeleting(UsersCase):
    async def test_it_can_be_said_twice(self) -> None:
        token = await self.admin()
        vera = (await self.make(token)).data
        for _ in range(2):
            self.assertEnvelope(await self.ask("DELETE", f"{USERS}/{vera['id']}", token=token), 200)
        self.assertEqual((await self.ask("GET", f"{USERS}/{vera['id']}", token=token)).status, 404)
        self.assertEqual((await self.login()).status, 401)

    async def test_its_streams_end_and_go(self) -> None:
        token = await self.admin()
        vera = (await self.make(token, role="streamer")).data
        made = await self.live((await self.login()).data["access_token"])
        self.assertEnvelope(await self.ask("DELETE", f"{USERS}/{vera['id']}", token=token), 200)
        self.assertEqual(self.publisher.stopped, ["account_disabled"])
        self.assertEqual((await self.ask("GET", f"/api/v1/streams/{made['id']}")).status, 404)


class TestDemoted(ApiCase):
    async def test_what_is_live_ends_and_the_key_publishes_no_more(self) -> None:
        await self.start()
        admin = await self.token("admin")
        made = await self.live(await self.token("streamer"))
        user = (await self.ask("GET", "/api/v1/users?q=a-streamer", token=admin)).data["items"][0]
        await self.ask("PATCH", f"/api/v1/users/{user['id']}", {"role": "viewer"}, admin)
        self.assertEqual(self.publisher.stopped, ["role_may_not"])
        request = PublishRequest(protocol="test", address="192.0.2.1", key=made["stream_key"])
        publishing = self.server.hub.publish(request, self.publisher)
        refused = await self.assertFailure(Deferred.fromCoroutine(publishing), Refused)
        self.assertEqual(refused.code, "role_may_not")


class TestVersions(ApiCase):
    async def test_of_two_who_saw_the_same_one_comes_too_late(self) -> None:
        await self.start()
        admin = await self.token("admin")
        user = (await self.ask("GET", "/api/v1/users?q=a-admin", token=admin)).data["items"][0]
        path = f"/api/v1/users/{user['id']}"
        tag = (await self.ask("GET", path, token=admin)).headers["etag"]
        for status, email in ((200, "a@example.org"), (412, "b@example.org")):
            answer = await self.ask("PATCH", path, {"email": email}, admin, if_match=tag)
            self.assertEqual(answer.status, status, answer.body)
        self.assertEqual((await self.ask("GET", path, token=admin)).data["email"], "a@example.org")

    async def test_lists_are_sorted_and_filtered(self) -> None:
        await self.start()
        admin = await self.token("admin")
        for name in ("zoe", "bea"):
            await self.server.foundation.accounts.create(name, "correct horse", "viewer")

        async def names(query: str) -> list[str]:
            page = (await self.ask("GET", f"/api/v1/users?{query}", token=admin)).data
            return [user["username"] for user in page["items"]]

        self.assertEqual(await names("sort=username&role=viewer"), ["bea", "zoe"])
        self.assertEqual(await names("sort=-username&role=viewer"), ["zoe", "bea"])
        self.assertEqual((await names("sort=-created"))[0], "bea")
        self.assertEqual(await names("disabled=true"), [])
        self.assertEqual((await self.ask("GET", "/api/v1/users?sort=email", token=admin)).status, 422)
