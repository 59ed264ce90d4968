"""A stream's keys, as its owner manages them through the API."""

from datetime import UTC, datetime, timedelta
from typing import Any

from oxidecast.interfaces import PublishRequest, Refused
from tests.house import Answer
from tests.streams.stage import AUDIO, VIDEO, Encoder
from tests.web.test_api import ApiCase

STREAM = "/api/v1/streams/show"
KEY, KEYS = f"{STREAM}/key", f"{STREAM}/keys"


class KeysCase(ApiCase):
    async def owned(self) -> str:
        """A stream that is not live; the answer is its first key."""
        await self.start()
        self.owner = await self.token("streamer")
        made = await self.ask("POST", "/api/v1/streams", {"title": "Show"}, self.owner)
        return str(made.data["stream_key"])

    async def on_air(self) -> str:
        """A stream that is live by its first key, which is the answer."""
        await self.start()
        self.owner = await self.token("streamer")
        return str((await self.live(self.owner))["stream_key"])

    async def own(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        return await self.ask(method, path, body, self.owner, **headers)

    async def publishes(self, key: str) -> bool:
        """Whether a key is good. Who comes by it replaces who came before."""
        request = PublishRequest(protocol="test", address="192.0.2.7", key=key)
        self.encoder = Encoder(self, key=key)  # type: ignore[arg-type]
        try:
            self.publication = await self.server.hub.publish(request, self.encoder)
        except Refused:
            return False
        return True


class TestTheNewestKey(KeysCase):
    async def test_it_is_shown_to_its_owner_again(self) -> None:
        key = await self.owned()
        answer = await self.own("GET", KEY)
        self.assertEnvelope(answer, 200)
        self.assertEqual(answer.data["stream_key"], key)

    async def test_its_use_is_noted(self) -> None:
        key = await self.owned()
        self.assertIsNone((await self.own("GET", KEY)).data["last_used_at"])
        self.assertTrue(await self.publishes(key))
        # The publisher did not wait for the note; what is written after it does.
        await self.server.foundation.database.execute("UPDATE stream_keys SET name = name")
        used = (await self.own("GET", KEY)).data
        self.assertEqual(used["last_used_from"], "192.0.2.7")
        self.assertIsNotNone(used["last_used_at"])

    async def test_a_stream_may_have_none(self) -> None:
        await self.owned()
        for _ in range(2):
            self.assertEnvelope(await self.own("DELETE", KEY), 200)
        self.assertEnvelope(await self.own("GET", KEY), 404, "not_found")

    async def test_one_that_another_secret_sealed_says_so(self) -> None:
        await self.owned()
        await self.server.foundation.database.execute(
            "UPDATE stream_keys SET sealed = :sealed", {"sealed": bytes(64)}
        )
        self.assertEnvelope(await self.own("GET", KEY), 409, "key_unreadable")
        self.assertIsNone((await self.own("GET", KEYS)).data["items"][0]["stream_key"])
        self.assertEnvelope(await self.own("POST", f"{KEY}/rotate"), 200)


class TestRevokingTheNewest(KeysCase):
    async def test_it_cuts_who_publishes_with_one_that_was_rotated_away(self) -> None:
        """Whoever has got hold of the old key must not go on when the owner takes the key away."""
        await self.on_air()
        await self.own("POST", f"{KEY}/rotate")
        self.assertEqual(self.publisher.stopped, [])
        await self.own("DELETE", KEY)
        self.assertEqual(self.publisher.stopped, ["key_revoked"])

    async def test_a_repeated_request_revokes_no_other(self) -> None:
        await self.owned()
        made = (await self.own("POST", KEYS, {"name": "car"})).data
        shown = await self.own("GET", KEY)
        self.assertEqual(shown.headers["etag"], f'"{made["id"]}"')
        for status in (200, 412):
            answer = await self.own("DELETE", KEY, if_match=shown.headers["etag"])
            self.assertEqual(answer.status, status, answer.body)
        self.assertEqual((await self.own("GET", KEYS)).data["total"], 1)

    async def test_a_change_that_somebody_else_overtook(self) -> None:
        await self.owned()
        made = (await self.own("POST", KEYS, {"name": "car"})).data
        first = await self.own("PATCH", f"{KEYS}/{made['id']}", {"name": "van"})
        await self.own("PATCH", f"{KEYS}/{made['id']}", {"name": "bus"})
        late = {"allowed_addresses": ["192.0.2.0/24"]}
        answer = await self.own("PATCH", f"{KEYS}/{made['id']}", late, if_match=first.headers["etag"])
        self.assertEnvelope(answer, 412, "changed_meanwhile")

    async def test_a_key_for_a_while_does_not_become_one_for_ever(self) -> None:
        await self.owned()
        at = (datetime.now(UTC) + timedelta(days=3)).isoformat()
        made = (await self.own("POST", KEYS, {"expires_at": at})).data
        rotated = (await self.own("POST", f"{KEY}/rotate")).data
        self.assertEqual(rotated["expires_at"], made["expires_at"])


class TestRotating(KeysCase):
    async def test_the_old_key_is_out_and_the_new_one_good(self) -> None:
        old = await self.owned()
        new = (await self.own("POST", f"{KEY}/rotate")).data["stream_key"]
        self.assertEqual((await self.own("GET", KEY)).data["stream_key"], new)
        self.assertEqual([await self.publishes(old), await self.publishes(new)], [False, True])

    async def test_the_old_key_lives_through_the_overlap(self) -> None:
        old = await self.owned()
        answer = await self.own("POST", f"{KEY}/rotate", {"overlap_seconds": 60})
        self.assertEnvelope(answer, 200)
        self.assertTrue(await self.publishes(old))

    async def test_who_publishes_is_not_cut(self) -> None:
        await self.on_air()
        self.assertEnvelope(await self.own("POST", f"{KEY}/rotate"), 200)
        self.assertEqual(self.publisher.stopped, [])

    async def test_an_overlap_is_not_for_ever_nor_backwards(self) -> None:
        await self.owned()
        for overlap in (-1, 1e9, "60", True):
            answer = await self.own("POST", f"{KEY}/rotate", {"overlap_seconds": overlap})
            self.assertEnvelope(answer, 422, "invalid")

    async def test_the_overlapping_keys_are_bounded_and_a_rotation_without_one_is_always_possible(
        self,
    ) -> None:
        await self.owned()
        for _ in range(19):
            await self.own("POST", f"{KEY}/rotate", {"overlap_seconds": 60})
        answer = await self.own("POST", f"{KEY}/rotate", {"overlap_seconds": 60})
        self.assertEnvelope(answer, 409, "too_many_keys")
        self.assertEnvelope(await self.own("POST", f"{KEY}/rotate"), 200)


class TestRevoking(KeysCase):
    async def test_it_cuts_who_publishes_and_the_stream_waits_for_another(self) -> None:
        key = await self.on_air()
        self.assertEnvelope(await self.own("DELETE", KEY), 200)
        self.assertEqual(self.publisher.stopped, ["key_revoked"])
        self.assertFalse(await self.publishes(key))
        [stream] = self.server.hub.streams.values()
        self.assertEqual(stream.state, "waiting")

    async def test_it_cuts_a_publisher_that_has_not_begun(self) -> None:
        key = await self.owned()
        self.assertTrue(await self.publishes(key))
        await self.own("DELETE", KEY)
        self.assertEqual((self.encoder.stopped, self.server.hub.streams), (["key_revoked"], {}))

    async def test_it_cuts_nobody_who_came_by_another_key(self) -> None:
        await self.on_air()
        other = (await self.own("POST", KEYS, {"name": "studio"})).data
        await self.own("DELETE", f"{KEYS}/{other['id']}")
        self.assertEqual(self.publisher.stopped, [])

    async def test_it_cuts_who_came_by_a_key_that_was_rotated_away(self) -> None:
        await self.on_air()
        old = (await self.own("GET", KEY)).data["id"]
        await self.own("POST", f"{KEY}/rotate")
        await self.own("DELETE", f"{KEYS}/{old}")
        self.assertEqual(self.publisher.stopped, ["key_revoked"])

    async def test_it_reaches_no_other_stream(self) -> None:
        await self.on_air()
        key_id = (await self.own("GET", KEY)).data["id"]
        other = await self.ask("POST", "/api/v1/streams", {"title": "Other"}, self.owner)
        path = f"/api/v1/streams/{other.data['id']}/keys/{key_id}"
        self.assertEnvelope(await self.own("DELETE", path), 200)
        self.assertEqual(self.publisher.stopped, [])
        self.assertEnvelope(await self.own("GET", KEY), 200)

    async def test_what_is_no_key_is_as_good_as_revoked(self) -> None:
        await self.owned()
        for key in ("%00", "x", "00000000-0000-4000-8000-000000000000"):
            self.assertEnvelope(await self.own("DELETE", f"{KEYS}/{key}"), 200)


class TestSeveralKeys(KeysCase):
    async def test_they_have_names_and_the_newest_comes_first(self) -> None:
        await self.owned()
        for name in ("studio", "car"):
            made = await self.own("POST", KEYS, {"name": name})
            self.assertEnvelope(made, 201)
            self.assertTrue(await self.publishes(made.data["stream_key"]))
        listed = (await self.own("GET", KEYS)).data["items"]
        self.assertEqual([key["name"] for key in listed], ["car", "studio", ""])
        self.assertEqual((await self.own("GET", KEY)).data["name"], "car")

    async def test_no_answer_holds_a_digest(self) -> None:
        key = await self.owned()
        digest = self.server.foundation.safe.digest(key)
        assert digest is not None
        for path in (KEY, KEYS):
            self.assertNotIn(digest.encode(), (await self.own("GET", path)).body)

    async def test_one_can_expire(self) -> None:
        await self.owned()
        at = datetime.now(UTC) + timedelta(seconds=0.2)
        made = (await self.own("POST", KEYS, {"expires_at": at.isoformat()})).data
        self.assertEqual(datetime.fromisoformat(made["expires_at"]), at)
        self.assertTrue(await self.publishes(made["stream_key"]))
        while datetime.now(UTC) < at:
            await self.own("GET", KEYS)
        self.assertFalse(await self.publishes(made["stream_key"]))

    async def test_an_expiry_lies_ahead_and_has_a_zone(self) -> None:
        await self.owned()
        for at in (
            "2020-01-01T00:00:00Z",
            "2099-01-01T00:00:00Z",
            "9999-12-31T23:59:59-12:00",
            "0001-01-01T00:00:00+12:00",
            "2027-01-01T00:00:00",
            "tomorrow",
        ):
            answer = await self.own("POST", KEYS, {"expires_at": at})
            self.assertEqual((at, answer.status), (at, 422))
            self.assertEqual(list(answer.data["fields"]), ["expires_at"])

    async def test_there_are_not_too_many(self) -> None:
        await self.owned()
        for _ in range(19):
            self.assertEnvelope(await self.own("POST", KEYS), 201)
        self.assertEnvelope(await self.own("POST", KEYS), 409, "too_many_keys")
        await self.own("DELETE", KEY)
        self.assertEnvelope(await self.own("POST", KEYS), 201)


class TestChanging(KeysCase):
    async def changed(self, change: Any, key: str = "") -> Answer:
        key = key or (await self.own("GET", KEY)).data["id"]
        return await self.own("PATCH", f"{KEYS}/{key}", change)

    async def test_what_is_left_out_stays(self) -> None:
        key = await self.owned()
        at = "2030-01-01T00:00:00Z"
        answer = await self.changed({"name": "studio", "expires_at": at})
        self.assertEnvelope(answer, 200)
        self.assertEqual((answer.data["name"], answer.data["expires_at"]), ("studio", at))
        answer = await self.changed({"allowed_addresses": ["203.0.113.0/24", "192.0.2.7"]})
        self.assertEqual((answer.data["name"], answer.data["expires_at"]), ("studio", at))
        self.assertEqual(answer.data["allowed_addresses"], ["203.0.113.0/24", "192.0.2.7/32"])
        answer = await self.changed({"expires_at": None, "name": None})
        self.assertEqual((answer.data["name"], answer.data["expires_at"]), ("studio", None))
        self.assertEqual(answer.data["stream_key"], key)
        self.assertEqual((await self.changed({})).data, answer.data)
        self.assertEqual((await self.own("GET", KEY)).data, answer.data)

    async def test_it_publishes_from_where_it_may_and_then_from_everywhere(self) -> None:
        key = await self.owned()
        await self.changed({"allowed_addresses": ["203.0.113.0/24"]})
        self.assertFalse(await self.publishes(key))
        await self.changed({"allowed_addresses": ["203.0.113.0/24", "192.0.2.7"]})
        self.assertTrue(await self.publishes(key))
        await self.changed({"allowed_addresses": ["203.0.113.0/24"]})
        await self.changed({"allowed_addresses": []})
        self.assertTrue(await self.publishes(key))

    async def test_a_new_one_may_be_for_some_addresses(self) -> None:
        await self.owned()
        made = (await self.own("POST", KEYS, {"allowed_addresses": ["2001:db8::/32"]})).data
        self.assertEqual(made["allowed_addresses"], ["2001:db8::/32"])
        self.assertFalse(await self.publishes(made["stream_key"]))

    async def test_what_is_no_network_is_told(self) -> None:
        await self.owned()
        for networks in (["studio"], ["192.0.2.7/24"], ["192.0.2.1"] * 21, "192.0.2.1", [1], ["1" * 51]):
            for answer in (
                await self.changed({"allowed_addresses": networks}),
                await self.own("POST", KEYS, {"allowed_addresses": networks}),
            ):
                self.assertEnvelope(answer, 422, "invalid")
                self.assertEqual(list(answer.data["fields"]), ["allowed_addresses"])

    async def test_nobody_who_publishes_is_cut(self) -> None:
        await self.on_air()
        await self.changed({"allowed_addresses": ["203.0.113.0/24"]})
        at = datetime.now(UTC) + timedelta(seconds=0.1)
        await self.changed({"expires_at": at.isoformat()})
        while datetime.now(UTC) < at:
            await self.own("GET", KEYS)
        await self.own("POST", KEYS)  # which makes room: what was valid once goes
        await self.server.web.elsewhere.look()
        self.assertEqual(self.publisher.stopped, [])

    async def test_only_a_valid_key_of_the_stream(self) -> None:
        await self.owned()
        key = (await self.own("GET", KEY)).data["id"]
        other = (await self.ask("POST", "/api/v1/streams", {"title": "Other"}, self.owner)).data["id"]
        path = f"/api/v1/streams/{other}/keys/{key}"
        self.assertEnvelope(await self.own("PATCH", path, {"name": "x"}), 404, "not_found")
        for name in ("%00", "x", "00000000-0000-4000-8000-000000000000"):
            self.assertEnvelope(await self.changed({"name": "x"}, name), 404, "not_found")
        await self.own("DELETE", KEY)
        self.assertEnvelope(await self.changed({"name": "x"}, key), 404, "not_found")


class TestWhoMay(KeysCase):
    async def test_only_the_owner_and_an_admin(self) -> None:
        await self.owned()
        other, admin = await self.token("streamer", "another"), await self.token("admin", "boss")
        for method, path in (
            ("GET", KEY),
            ("POST", f"{KEY}/rotate"),
            ("DELETE", KEY),
            ("GET", KEYS),
            ("POST", KEYS),
            ("DELETE", f"{KEYS}/x"),
        ):
            self.assertEnvelope(await self.ask(method, path), 401, "unauthorised")
            self.assertEnvelope(await self.ask(method, path, token=other), 403, "forbidden")
            self.assertIn((await self.ask(method, path, token=admin)).status, (200, 201))


class TestTheWire(KeysCase):
    async def test_tracks_after_a_cut_reach_nobody(self) -> None:
        key = await self.owned()
        await self.publishes(key)
        await self.own("DELETE", KEY)
        for track in (VIDEO, AUDIO):
            self.publication.track(track)
        self.publication.packet(1, 0, 0, True, b"\0\0\0\1\x65")
        self.assertEqual(self.server.hub.streams, {})
