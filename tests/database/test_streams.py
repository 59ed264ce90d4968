from typing import Any

from twisted.internet.defer import Deferred

from oxidecast.database import Conflict
from oxidecast.database.streams import StreamChange, Streams
from oxidecast.streams.info import StreamInfo
from tests.database.support import START, DatabaseCase, both_engines


@both_engines
class StreamsTable(DatabaseCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.streams = Streams(self.database, self.clock)
        self.owner = await self.someone()

    async def made(self, title: str = "Birds", **values: Any) -> StreamInfo:
        self.clock.advance(1)
        return await self.streams.create(self.owner.id, title, **values)

    async def names(self, **filters: Any) -> list[str]:
        return [stream.name for stream in (await self.streams.page(**filters)).items]

    async def test_a_stream_is_found_by_name_and_id_as_it_was_made(self) -> None:
        made = await self.streams.create(
            self.owner.id,
            "null",
            name="birds",
            description="1",
            category="true",
            is_private=True,
            recording_enabled=True,
            transcoding_profiles=["720p", "360p"],
        )
        self.assertEqual(made.created_at, START)
        self.assertEqual((made.title, made.description, made.category), ("null", "1", "true"))
        self.assertEqual(made.transcoding_profiles, ("720p", "360p"))
        self.assertEqual(await self.streams.find("birds"), made)
        self.assertEqual(await self.streams.find(made.id), made)
        self.assertIs(await self.streams.find("Birds"), None)

    async def test_what_belongs_to_it_is_made_with_it_or_neither_is(self) -> None:
        def fails(stream_id: str) -> Any:
            yield "SELECT name FROM streams WHERE id = :id", {"id": stream_id}
            raise Conflict("There is no room.")

        making = Deferred.fromCoroutine(self.streams.create(self.owner.id, "Birds", also=fails))
        await self.assertFailure(making, Conflict)
        self.assertIs(await self.streams.find("birds"), None)

    async def test_the_name_comes_from_the_title_and_is_numbered_when_taken(self) -> None:
        names = [(await self.made("The birds!")).name for _ in range(3)]
        self.assertEqual(names, ["the-birds", "the-birds-2", "the-birds-3"])

    async def test_a_given_name_that_is_taken_is_a_conflict(self) -> None:
        await self.made(name="birds")
        error = await self.assertFailure(Deferred.fromCoroutine(self.made(name="birds")), Conflict)
        self.assertEqual(str(error), "This name is taken.")

    async def test_a_given_name_that_is_no_name_is_refused(self) -> None:
        for name in ("", "Birds", "../birds", "b" * 65, self.owner.id):
            await self.assertFailure(Deferred.fromCoroutine(self.made(name=name)), ValueError)

    async def test_a_stream_needs_an_owner(self) -> None:
        orphan = Deferred.fromCoroutine(self.streams.create("nobody", "Birds"))
        await self.assertFailure(orphan, Conflict)

    async def test_a_change_leaves_what_it_does_not_name(self) -> None:
        made = await self.made(description="of the garden")
        changed = await self.streams.update(made.id, StreamChange(title="Owls", transcoding_profiles=()))
        assert changed is not None
        self.assertEqual((changed.title, changed.description), ("Owls", "of the garden"))
        self.assertEqual(await self.streams.find(made.id), changed)

    async def test_a_change_of_nothing_is_no_mistake(self) -> None:
        made = await self.made()
        self.assertEqual(await self.streams.update(made.id, StreamChange()), made)

    async def test_a_change_of_an_unknown_stream_is_none(self) -> None:
        self.assertIs(await self.streams.update("x", StreamChange(title="Owls")), None)

    async def test_a_stream_keeps_its_own_name_and_takes_no_others(self) -> None:
        made = await self.made(name="birds")
        await self.made(name="owls")
        self.assertEqual(await self.streams.update(made.id, StreamChange(name="birds")), made)
        taken = Deferred.fromCoroutine(self.streams.update(made.id, StreamChange(name="owls")))
        await self.assertFailure(taken, Conflict)

    async def test_deleting_answers_whether_it_was_there(self) -> None:
        made = await self.made()
        self.assertTrue(await self.streams.delete(made.id))
        self.assertFalse(await self.streams.delete(made.id))

    async def test_a_page_has_the_newest_first_and_the_true_total(self) -> None:
        for number in range(5):
            await self.made(name=f"s{number}")
        page = await self.streams.page(2, 2)
        self.assertEqual([stream.name for stream in page.items], ["s2", "s1"])
        self.assertEqual((page.total, page.total_pages), (5, 3))
        self.assertEqual(await self.names(limit=1, oldest_first=True), ["s0"])

    async def test_a_page_beyond_the_end_is_empty_with_the_true_total(self) -> None:
        await self.made()
        page = await self.streams.page(10**30, 10**30)
        self.assertEqual((page.items, page.total, page.limit), ([], 1, 100))

    async def test_private_streams_are_listed_when_asked_for(self) -> None:
        await self.made(name="open")
        await self.made(name="hidden", is_private=True)
        self.assertEqual(await self.names(), ["open"])
        self.assertEqual(await self.names(include_private=True), ["hidden", "open"])

    async def test_filters(self) -> None:
        first = await self.made("100% birds", name="first", category="nature")
        await self.made("Owls", name="second", description="not BIRDS")
        other = await self.someone("bob")
        await self.streams.create(other.id, "x", name="third")
        self.assertEqual(await self.names(q="birds"), ["second", "first"])
        self.assertEqual(await self.names(q="0% b"), ["first"])
        self.assertEqual(await self.names(q="%"), ["first"])
        self.assertEqual(await self.names(category="nature"), ["first"])
        self.assertEqual(await self.names(owner_id=other.id), ["third"])
        self.assertEqual(await self.names(only=[first.id]), ["first"])
        self.assertEqual(await self.names(only=[]), [])
        self.assertEqual(await self.names(without=[first.id], owner_id=self.owner.id), ["second"])
