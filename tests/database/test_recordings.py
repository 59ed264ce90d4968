from datetime import timedelta
from typing import Any

import msgspec
from twisted.internet.defer import Deferred

from oxidecast.database.audit import SERVER, Actor, AuditLog
from oxidecast.database.recordings import MOST_NAMED, Recording, Recordings
from oxidecast.database.records import new_id
from oxidecast.database.streams import Streams
from oxidecast.database.users import delete_user
from tests.database.support import START, DatabaseCase, both_engines


@both_engines
class RecordingsTable(DatabaseCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.recordings = Recordings(self.database, self.clock)
        self.owner = await self.someone()
        self.streams = Streams(self.database, self.clock)
        self.stream = await self.streams.create(self.owner.id, "Birds", name="birds")
        self.count = 0

    async def added(self, **values: Any) -> Recording:
        self.count += 1
        recording_id = new_id()
        one = Recording(
            id=recording_id,
            stream_id=self.stream.id,
            owner_id=self.owner.id,
            title="Birds",
            path=f"folder/{recording_id}.mp4",
            state="writing",
            started_at=START + timedelta(minutes=self.count),
        )
        one = msgspec.structs.replace(one, **values)
        await self.recordings.add(one)
        return one

    async def ids(self, **filters: Any) -> list[str]:
        page = await self.recordings.page(**filters)
        self.assertEqual(page.total, len(page.items))
        return [one.id for one in page.items]

    async def test_it_is_found_as_it_was_added(self) -> None:
        one = await self.added(title="null", state="complete", duration=1.5, size=1 << 40, error="1")
        expected = msgspec.structs.replace(one, stream_name="birds")
        self.assertEqual(await self.recordings.get(one.id), expected)
        self.assertEqual(await self.recordings.known([one.id, new_id(), "no id"]), {one.id: expected})

    async def test_what_is_there_is_not_added_again(self) -> None:
        one = await self.added()
        await self.recordings.add(msgspec.structs.replace(one, title="Other"))
        found = await self.recordings.get(one.id)
        assert found is not None
        self.assertEqual(found.title, "Birds")

    async def test_how_it_ended_leaves_its_title(self) -> None:
        one = await self.added()
        self.assertTrue(await self.recordings.rename(one.id, "Owls"))
        over = msgspec.structs.replace(
            one, state="failed", error="full", size=7, duration=0.5, ended_at=START + timedelta(hours=1)
        )
        self.assertTrue(await self.recordings.update(over))
        expected = msgspec.structs.replace(over, title="Owls", stream_name="birds")
        self.assertEqual(await self.recordings.get(one.id), expected)

    async def test_the_time_on_the_air_that_it_is_of(self) -> None:
        async def aired(begins: int, ends: int | None) -> str:
            session_id = new_id()
            await self.database.execute(
                "INSERT INTO stream_sessions (id, stream_id, protocol, started_at, ended_at)"
                " VALUES (:id, :stream_id, 'rtmp', :started_at, :ended_at)",
                {
                    "id": session_id,
                    "stream_id": self.stream.id,
                    "started_at": START + timedelta(hours=begins),
                    "ended_at": START + timedelta(hours=ends) if ends is not None else None,
                },
            )
            return session_id

        first, second = await aired(0, 2), await aired(4, None)
        for begins, ends, expected in ((0, 1, first), (1, 2, first), (4, 5, second), (3, 3, None)):
            one = await self.added(started_at=START + timedelta(hours=begins))
            await self.recordings.update(one)
            found = await self.recordings.get(one.id)
            assert found is not None
            self.assertIs(found.session_id, None, "it is not over")
            ended_at = START + timedelta(hours=ends)
            await self.recordings.update(msgspec.structs.replace(one, state="complete", ended_at=ended_at))
            found = await self.recordings.get(one.id)
            assert found is not None
            self.assertEqual((begins, found.session_id), (begins, expected))

    async def test_what_is_not_there(self) -> None:
        gone = new_id()
        for unknown in (gone, "no id", ""):
            self.assertIs(await self.recordings.get(unknown), None)
            self.assertFalse(await self.recordings.rename(unknown, "x"))
            self.assertFalse(await self.recordings.delete(unknown))
        one = await self.added()
        self.assertTrue(await self.recordings.delete(one.id, Actor("ada")))
        [entry] = (await AuditLog(self.database, self.clock).page(action="recording.delete")).items
        self.assertEqual((entry.actor, entry.target), ("ada", f"recording:{one.id}"))
        self.assertFalse(await self.recordings.update(one), "a deleted row does not come back")
        self.assertEqual(await self.ids(), [])

    async def test_it_outlives_its_stream_and_its_owner(self) -> None:
        one = await self.added(state="complete")
        await self.streams.delete(self.stream.id)
        found = await self.recordings.get(one.id)
        assert found is not None
        self.assertEqual((found.stream_id, found.stream_name, found.owner_id), (None, None, self.owner.id))
        admin = await self.someone("root")
        await self.database.execute("UPDATE users SET role = 'admin' WHERE id = :id", {"id": admin.id})
        await self.database.transaction(delete_user, self.owner.id, START, SERVER)
        found = await self.recordings.get(one.id)
        assert found is not None
        self.assertIs(found.owner_id, None)

    async def test_one_that_ends_after_its_stream_is_added_without_it(self) -> None:
        for gone in (new_id(), "no id", None):
            one = await self.added(stream_id=gone, owner_id=gone)
            found = await self.recordings.get(one.id)
            assert found is not None
            self.assertEqual((found.stream_id, found.owner_id), (None, None))

    async def test_filters(self) -> None:
        other = await self.someone("bob")
        show = await self.streams.create(other.id, "Show", name="show")
        first = await self.added(state="complete", title="50% Owls")
        second = await self.added(owner_id=other.id, stream_id=show.id)
        third = await self.added(state="failed")
        for filters, expected in (
            ({}, [third, second, first]),
            ({"owner_id": other.id}, [second]),
            ({"stream": "show"}, [second]),
            ({"stream": self.stream.id}, [third, first]),
            ({"stream": "nothing"}, []),
            ({"state": "failed"}, [third]),
            ({"q": "50% OWL"}, [first]),
            ({"q": "sho"}, [second]),
            ({"q": "%"}, [first]),
            ({"q": "_"}, []),
            ({"owner_id": self.owner.id, "state": "complete", "q": "birds"}, [first]),
        ):
            self.assertEqual((filters, await self.ids(**filters)), (filters, [one.id for one in expected]))

    async def test_orders_and_pages(self) -> None:
        made = [await self.added(size=size) for size in (2, 3, 1)]
        for sort, order in (("started", "012"), ("-started", "210"), ("size", "201"), ("-size", "102")):
            self.assertEqual(await self.ids(sort=sort), [made[int(index)].id for index in order], sort)
        page = await self.recordings.page(2, 2)
        self.assertEqual(([one.id for one in page.items], page.total), ([made[0].id], 3))

    async def test_those_that_are_being_written(self) -> None:
        first, _ = await self.added(), await self.added(state="complete")
        self.assertEqual([one.id for one in await self.recordings.unfinished()], [first.id])

    async def test_whose_a_stream_is(self) -> None:
        self.assertEqual(await self.recordings.owner_of(self.stream.id), (self.owner.id, "Birds"))
        self.assertIs(await self.recordings.owner_of(new_id()), None)
        self.assertIs(await self.recordings.owner_of("no id"), None)

    async def test_too_many_ids_at_once(self) -> None:
        many = Deferred.fromCoroutine(self.recordings.known([new_id() for _ in range(MOST_NAMED + 1)]))
        await self.assertFailure(many, ValueError)
        self.assertEqual(await self.recordings.known([]), {})
