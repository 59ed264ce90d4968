from contextlib import closing

import psycopg2

from oxidecast.database import changes
from oxidecast.database.changes import KEEP, OVERLAP, Changes, note_change
from oxidecast.database.keys import StreamKeys
from oxidecast.database.records import new_id, utc
from oxidecast.database.streams import StreamChange, Streams
from tests.database.support import DatabaseCase, both_engines


class ChangesCase(DatabaseCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.changes = Changes(self.database, self.clock)
        await self.changes.fresh()

    async def note(self) -> str:
        stream_id = new_id()
        await self.database.transaction(note_change, utc(self.clock), stream_id=stream_id)
        return stream_id

    async def streams(self) -> list[str | None]:
        return [change.stream_id for change in await self.changes.fresh()]


@both_engines
class ChangesTable(ChangesCase):
    async def test_each_is_heard_of_once(self) -> None:
        first, second = await self.note(), await self.note()
        self.assertEqual(await self.streams(), [first, second])
        self.assertEqual(await self.streams(), [])
        self.clock.advance(OVERLAP + 1)
        self.assertEqual(await self.streams(), [])
        self.assertEqual(await self.streams(), [])
        third = await self.note()
        self.assertEqual(await self.streams(), [third])

    async def test_each_reader_hears_of_all(self) -> None:
        other = Changes(self.opened(), self.clock)
        await other.fresh()
        made = await self.note()
        self.assertEqual(await self.streams(), [made])
        self.assertEqual([change.stream_id for change in await other.fresh()], [made])

    async def test_one_that_is_seen_late_is_heard_of(self) -> None:
        overriding = "OVERRIDING SYSTEM VALUE" if self.flavour == "postgres" else ""
        for _ in range(3):
            await self.note()
        await self.changes.fresh()
        [row] = await self.database.query("SELECT max(sequence) AS last FROM changes")
        await self.database.execute(
            "DELETE FROM changes WHERE sequence = :number", {"number": row["last"] - 1}
        )
        self.changes = Changes(self.database, self.clock)
        await self.changes.fresh()
        self.clock.advance(OVERLAP - 1)
        late = new_id()
        await self.database.execute(
            f"INSERT INTO changes (sequence, at, stream_id) {overriding} VALUES (:number, :now, :id)",
            {"number": row["last"] - 1, "now": utc(self.clock), "id": late},
        )
        self.assertEqual(await self.streams(), [late])
        self.assertEqual(await self.streams(), [])

    async def test_more_than_are_read_at_once(self) -> None:
        self.patch(changes, "BATCH", 2)
        made = [await self.note() for _ in range(5)]
        self.assertEqual(await self.streams(), made)
        self.assertEqual(await self.streams(), [])

    async def test_what_is_remembered_is_let_go(self) -> None:
        for _ in range(10):
            await self.note()
            await self.changes.fresh()
            self.clock.advance(OVERLAP / 2)
        self.assertLess(len(self.changes._seen), 5)

    async def test_who_has_just_started_begins_with_what_is_recent(self) -> None:
        await self.note()
        self.clock.advance(3 * OVERLAP)
        recent = await self.note()
        heard = await Changes(self.database, self.clock).fresh()
        self.assertEqual([change.stream_id for change in heard], [recent])

    async def test_old_rows_go_and_numbers_are_not_given_again(self) -> None:
        await self.note()
        await self.changes.fresh()
        self.clock.advance(KEEP + 1)
        await self.changes.drop_old()
        self.assertEqual(await self.database.query("SELECT * FROM changes"), [])
        made = await self.note()
        self.assertEqual(await self.streams(), [made])

    async def test_every_change_that_matters_is_noted(self) -> None:
        owner = await self.someone()
        streams, keys = Streams(self.database, self.clock), StreamKeys(self.database, self.clock)
        info = await streams.create(owner.id, "Birds")
        key = await keys.add(info.id, "digest", b"")
        await self.changes.fresh()
        await streams.update(info.id, StreamChange(is_private=True))
        await streams.choose(info.id, "multicast", {})
        await keys.change(info.id, key.id, {"name": "studio"})
        await keys.revoke(info.id, key.id)
        await streams.delete(info.id)
        heard = [(change.stream_id, change.key_id) for change in await self.changes.fresh()]
        self.assertEqual(heard, [(info.id, None)] * 3 + [(info.id, key.id), (info.id, None)])


class LateOnPostgres(ChangesCase):
    flavour = "postgres"

    async def test_a_transaction_that_began_earlier_and_ends_later(self) -> None:
        early, late = new_id(), new_id()
        with closing(psycopg2.connect(self.url)) as connection, connection.cursor() as cursor:
            insert = "INSERT INTO changes (at, stream_id) VALUES (now(), %s)"
            cursor.execute(insert, (late,))
            await self.database.transaction(note_change, utc(self.clock), stream_id=early)
            self.assertEqual(await self.streams(), [early])
            connection.commit()
        self.assertEqual(await self.streams(), [late])
