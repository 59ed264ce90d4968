from datetime import timedelta

from twisted.internet.defer import Deferred

from oxidecast.database import Conflict
from oxidecast.database.audit import SERVER, Actor, AuditLog
from oxidecast.database.streams import StreamChange, Streams
from oxidecast.database.users import Users
from tests.database.support import START, DatabaseCase, both_engines

ADA = Actor("ada", "00000000-0000-4000-8000-00000000000a", "192.0.2.7")


@both_engines
class AuditLogTable(DatabaseCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.audit = AuditLog(self.database, self.clock)

    async def actions(self, **filters: object) -> list[str]:
        return [entry.action for entry in (await self.audit.page(**filters)).items]  # type: ignore[arg-type]

    async def test_an_entry_is_kept_as_it_was_made(self) -> None:
        await self.audit.add(ADA, "key.read", "stream:show", {"keys": ["a", "b"], "text": "\0 ü"})
        [entry] = (await self.audit.page()).items
        self.assertEqual((entry.actor, entry.actor_id, entry.address), ("ada", ADA.id, "192.0.2.7"))
        self.assertEqual((entry.at, entry.action, entry.target), (START, "key.read", "stream:show"))
        self.assertEqual(entry.details["keys"], ["a", "b"])
        self.assertEqual((entry.times, entry.last_at), (1, None))

    async def test_the_newest_come_first_and_the_total_is_true(self) -> None:
        for number in range(5):
            await self.audit.add(SERVER, f"a{number}")
            self.clock.advance(1)
        page = await self.audit.page(2, 2)
        self.assertEqual([entry.action for entry in page.items], ["a2", "a1"])
        self.assertEqual((page.total, page.total_pages), (5, 3))

    async def test_every_filter_narrows(self) -> None:
        await self.audit.add(ADA, "stream.stop", "stream:a")
        self.clock.advance(10)
        await self.audit.add(SERVER, "stream.stop", "stream:b")
        self.clock.advance(10)
        await self.audit.add(ADA, "logout", "user:ada")
        self.assertEqual(await self.actions(actor="ada"), ["logout", "stream.stop"])
        self.assertEqual(await self.actions(action="stream.stop", actor="ada"), ["stream.stop"])
        self.assertEqual(await self.actions(target="user:ada"), ["logout"])
        ten = START + timedelta(seconds=10)
        self.assertEqual(await self.actions(begin=ten), ["logout", "stream.stop"])
        self.assertEqual(await self.actions(begin=ten, end=START + timedelta(seconds=20)), ["stream.stop"])
        self.assertEqual(await self.actions(end=START), [])

    async def test_no_text_is_more_than_a_text(self) -> None:
        for text in ("' OR 1=1 --", "%", "\0", "ü" * 1000):
            self.assertEqual(await self.actions(actor=text, action=text, target=text), [])

    async def test_what_is_no_address_is_left_out(self) -> None:
        for address, kept in (
            ("", None),
            ("/run/socket", None),
            ("fe80::1%eth0", "fe80::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
        ):
            await self.audit.add(Actor("x", None, address), "a")
            entry = (await self.audit.page()).items[0]
            self.assertEqual(entry.address, kept, address)
            self.clock.advance(1)

    async def test_a_change_that_fails_is_not_told_of(self) -> None:
        owner = await self.someone()
        streams = Streams(self.database, self.clock)
        await streams.create(owner.id, "Birds", by=ADA)
        other = await streams.create(owner.id, "Owls", by=ADA)
        taken = streams.update(other.id, StreamChange(name="birds"), by=ADA)
        await self.assertFailure(Deferred.fromCoroutine(taken), Conflict)
        again = Users(self.database, self.clock).create("ada", "no hash", "viewer", by=ADA)
        await self.assertFailure(Deferred.fromCoroutine(again), Conflict)
        self.assertEqual(await self.actions(actor="ada"), ["stream.create", "stream.create"])

    async def test_what_changes_nothing_is_not_told_of(self) -> None:
        streams = Streams(self.database, self.clock)
        self.assertFalse(await streams.delete("00000000-0000-4000-8000-000000000000", ADA))
        self.assertEqual(await self.actions(actor="ada"), [])

    async def test_every_filter_has_an_index(self) -> None:
        explain = "EXPLAIN QUERY PLAN" if self.flavour == "sqlite" else "EXPLAIN"
        if self.flavour == "postgres":
            # A table of a few rows is read as a whole, unless that is forbidden.
            self.cluster.run(f"ALTER DATABASE {self.url.rpartition('/')[2]} SET enable_seqscan = off")
            self.addCleanup(
                self.cluster.run, f"ALTER DATABASE {self.url.rpartition('/')[2]} RESET enable_seqscan"
            )
            self.database = self.opened()
        for column in ("actor", "action", "target"):
            plan = await self.database.query(
                f"{explain} SELECT id FROM audit_log WHERE {column} = 'x' ORDER BY at DESC, id DESC LIMIT 20"
            )
            self.assertIn(f"audit_log_{column}", str(plan))
