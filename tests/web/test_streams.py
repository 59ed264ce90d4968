"""What owners do with their streams: change, delete, stop, start. Making and watching them is in test_api."""

from typing import Any

from twisted.internet.defer import Deferred

from oxidecast.interfaces import PublishRequest, Refused
from tests.house import Answer
from tests.streams.stage import Encoder
from tests.web.test_api import ApiCase

STREAMS = "/api/v1/streams"


class StreamsCase(ApiCase):
    async def owned(self, **stream: Any) -> Any:
        """A stream that is not live; `self.owner` is its owner's."""
        await self.start()
        self.owner = await self.token("streamer")
        made = await self.ask("POST", STREAMS, {"title": "Show", **stream}, self.owner)
        self.assertEqual(made.status, 201, made.body)
        return made.data

    async def publish(self, key: str) -> str:
        """The code of the refusal, if it is refused."""
        request = PublishRequest(protocol="test", address="192.0.2.1", key=key)
        try:
            await self.server.hub.publish(request, Encoder(self))  # type: ignore[arg-type]
        except Refused as refused:
            return refused.code
        return ""


class TestChanging(StreamsCase):
    async def change(self, method: str = "PATCH", headers: Any = None, **change: Any) -> Answer:
        return await self.ask(method, f"{STREAMS}/show", change, self.owner, **(headers or {}))

    async def test_what_is_left_out_stays(self) -> None:
        made = await self.owned(description="Of birds", category="nature")
        for method in ("PATCH", "PUT"):
            answer = await self.change(method, title=f"By {method}")
            self.assertEnvelope(answer, 200)
            kept = {name: answer.data[name] for name in ("id", "name", "description", "category")}
            self.assertEqual(kept, {name: made[name] for name in kept})
            self.assertEqual(answer.data["title"], f"By {method}")

    async def test_everything_that_can_be_chosen(self) -> None:
        await self.owned()
        change = {
            "title": "Birds",
            "description": "Of birds",
            "category": "nature",
            "name": "birds",
            "is_private": True,
            "recording_enabled": True,
            "transcoding_profiles": ["720p", "360p"],
        }
        self.assertEnvelope(await self.change(**change), 200)
        shown = (await self.ask("GET", f"{STREAMS}/birds", token=self.owner)).data
        self.assertEqual({name: shown[name] for name in change}, change)

    async def test_what_it_cannot_become(self) -> None:
        await self.owned()
        await self.ask("POST", STREAMS, {"title": "x", "name": "other"}, self.owner)
        for change, status, code in (
            ({"name": "other"}, 409, "name_taken"),
            ({"name": "../etc"}, 422, "invalid"),
            ({"title": " "}, 422, "invalid"),
            ({"title": "\0"}, 422, "invalid"),
            ({"owner_id": "x"}, 422, "invalid"),
            ({"accepts_publishing": False}, 422, "invalid"),
            ({"is_private": "yes"}, 422, "invalid"),
            ({"transcoding_profiles": ["8k"]}, 422, "unknown_profile"),
            ({"transcoding_profiles": ["360p", "360p"]}, 422, "invalid"),
        ):
            with self.subTest(change=change):
                self.assertEnvelope(await self.change(**change), status, code)

    async def test_a_live_stream_hears_of_it(self) -> None:
        await self.owned()
        await self.live(self.owner, name="on-air")
        change = {"title": "Other", "name": "renamed", "is_private": True}
        answer = await self.ask("PATCH", f"{STREAMS}/on-air", change, self.owner)
        stream = self.server.hub.streams[answer.data["id"]]
        self.assertEqual((stream.info.title, stream.info.is_private), ("Other", True))
        self.assertEqual(stream.name, "on-air", "a live stream keeps its name until it ends")

    async def test_a_name_that_is_still_on_air_is_nobody_elses(self) -> None:
        await self.owned()
        await self.live(self.owner, name="on-air")
        await self.ask("PATCH", f"{STREAMS}/on-air", {"name": "renamed"}, self.owner)
        other = await self.ask("POST", STREAMS, {"title": "x", "name": "on-air"}, self.owner)
        self.assertEqual(await self.publish(other.data["stream_key"]), "name_in_use")

    async def test_a_stream_read_before_anothers_change_is_not_overwritten(self) -> None:
        await self.owned()
        seen = (await self.ask("GET", f"{STREAMS}/show")).headers["etag"]
        first = await self.change(title="Mine", headers={"If_Match": seen})
        self.assertEnvelope(first, 200)
        late = await self.change(title="Yours", headers={"If_Match": seen})
        self.assertEnvelope(late, 412, "changed_meanwhile")
        again = await self.change(title="Yours", headers={"If_Match": first.headers["etag"]})
        self.assertEnvelope(again, 200)

    async def test_of_two_at_once_who_saw_the_same_one_is_too_late(self) -> None:
        await self.owned()
        seen = {"If_Match": (await self.ask("GET", f"{STREAMS}/show")).headers["etag"]}
        asked = [
            Deferred.fromCoroutine(self.change(title=f"By {number}", headers=seen)) for number in range(2)
        ]
        answers = [await answer for answer in asked]
        self.assertEqual(sorted(answer.status for answer in answers), [200, 412])

    async def test_what_if_match_may_say(self) -> None:
        await self.owned()
        seen = (await self.ask("GET", f"{STREAMS}/show")).headers["etag"]
        for header, status in (
            ("*", 200),
            (f'"other", {seen}', 200),
            (f"W/{seen}", 200),
            ('"other"', 412),
            ("nonsense", 412),
            ("", 412),
        ):
            answer = await self.change(headers={"If_Match": header})
            self.assertEqual((header, answer.status), (header, status))

    async def test_the_tag_is_of_what_can_be_changed_and_not_of_what_happens(self) -> None:
        await self.owned()
        before = (await self.ask("GET", f"{STREAMS}/show")).headers["etag"]
        await self.live(self.owner)
        self.assertEqual((await self.ask("GET", f"{STREAMS}/show")).headers["etag"], before)
        self.assertNotEqual((await self.change(category="news")).headers["etag"], before)


class TestDeleting(StreamsCase):
    async def test_it_can_be_said_twice(self) -> None:
        made = await self.owned()
        for _ in range(2):
            self.assertEnvelope(await self.ask("DELETE", f"{STREAMS}/{made['id']}", token=self.owner), 200)
        self.assertEqual((await self.ask("GET", f"{STREAMS}/{made['id']}", token=self.owner)).status, 404)

    async def test_its_keys_go(self) -> None:
        made = await self.owned()
        await self.ask("DELETE", f"{STREAMS}/show", token=self.owner)
        self.assertEqual(await self.publish(made["stream_key"]), "bad_key")

    async def test_a_live_one_ends(self) -> None:
        await self.owned()
        await self.live(self.owner, name="on-air")
        await self.ask("DELETE", f"{STREAMS}/on-air", token=self.owner)
        self.assertEqual((self.publisher.stopped, self.server.hub.streams), (["deleted"], {}))

    async def test_what_can_be_no_name_is_not_there(self) -> None:
        await self.owned()
        for name in ("%00", "%FF", "'%20OR%201=1"):
            self.assertEnvelope(await self.ask("DELETE", f"{STREAMS}/{name}", token=self.owner), 200)


class TestStopping(StreamsCase):
    async def test_a_stopped_stream_ends_and_refuses_its_key_until_it_is_started(self) -> None:
        await self.owned()
        made = await self.live(self.owner, name="on-air")
        stopped = await self.ask("POST", f"{STREAMS}/on-air/stop", token=self.owner)
        self.assertEnvelope(stopped, 200)
        self.assertEqual((stopped.data["is_live"], stopped.data["accepts_publishing"]), (False, False))
        self.assertEqual(self.publisher.stopped, ["stopped"])
        self.assertEqual(await self.publish(made["stream_key"]), "stream_stopped")
        started = await self.ask("POST", f"{STREAMS}/on-air/start", token=self.owner)
        self.assertTrue(started.data["accepts_publishing"])
        self.assertEqual(await self.publish(made["stream_key"]), "")

    async def test_a_publisher_that_has_not_begun_is_cut_too(self) -> None:
        made = await self.owned()
        self.assertEqual(await self.publish(made["stream_key"]), "")
        await self.ask("POST", f"{STREAMS}/show/stop", token=self.owner)
        self.assertEqual(self.server.hub.streams, {})

    async def test_both_can_be_said_twice(self) -> None:
        await self.owned()
        for action in ("start", "start", "stop", "stop"):
            answer = await self.ask("POST", f"{STREAMS}/show/{action}", token=self.owner)
            self.assertEnvelope(answer, 200)

    async def test_start_does_not_end_what_is_live(self) -> None:
        await self.owned()
        await self.live(self.owner, name="on-air")
        answer = await self.ask("POST", f"{STREAMS}/on-air/start", token=self.owner)
        self.assertEqual((answer.data["is_live"], self.publisher.stopped), (True, []))


class TestSorting(StreamsCase):
    async def test_by_time_and_by_name_both_ways(self) -> None:
        await self.owned(name="middle")
        for name in ("zebra", "ant"):
            await self.ask("POST", STREAMS, {"title": "x", "name": name}, self.owner)
        for sort, names in (
            ("created", ["middle", "zebra", "ant"]),
            ("-created", ["ant", "zebra", "middle"]),
            ("name", ["ant", "middle", "zebra"]),
            ("-name", ["zebra", "middle", "ant"]),
        ):
            answer = await self.ask("GET", f"{STREAMS}?mine=true&sort={sort}", token=self.owner)
            self.assertEqual((sort, [one["name"] for one in answer.data["items"]]), (sort, names))

    async def test_by_nothing_else(self) -> None:
        await self.owned()
        answer = await self.ask("GET", f"{STREAMS}?sort=owner_id")
        self.assertEnvelope(answer, 422, "invalid")
        self.assertIn("-name", answer.json["error"])
