"""Of those who change something that they all saw alike, one does; the others are told to look again."""

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred, DeferredList

from oxidecast.database import keys, recordings, streams, users
from oxidecast.database.audit import SERVER
from oxidecast.database.errors import Outdated
from oxidecast.database.records import new_id, utc
from tests.database.support import START, DatabaseCase, both_engines

AT_ONCE = 4
OLD = frozenset({"of another time"})

Change = Callable[[int, Any], Coroutine[Any, Any, Any]]
"""Change it in the way of that number, where its version is one of these."""


@both_engines
class Versions(DatabaseCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.streams = streams.Streams(self.database, self.clock)
        self.owner = await self.someone()
        self.stream = await self.streams.create(self.owner.id, "Birds")

    async def one_wins(self, seen: str, change: Change) -> None:
        """Of some at once who saw the same. Who saw something else is always too late; who does not say, never."""
        at_once = [Deferred.fromCoroutine(change(number, {seen})) for number in range(AT_ONCE)]
        outcomes = await DeferredList(at_once, consumeErrors=True)
        failures = [result for succeeded, result in outcomes if not succeeded]
        self.assertEqual([failure.type for failure in failures], [Outdated] * (AT_ONCE - 1))
        await self.assertFailure(Deferred.fromCoroutine(change(AT_ONCE, OLD)), Outdated)
        self.assertTrue(await change(AT_ONCE + 1, None))

    async def test_streams(self) -> None:
        def change(number: int, versions: Any) -> Any:
            return self.streams.update(
                self.stream.id, streams.StreamChange(title=f"By {number}"), versions=versions
            )

        await self.one_wins(streams.version(self.stream), change)

    async def test_a_stream_that_is_deleted(self) -> None:
        seen = streams.version(self.stream)
        delete = self.streams.delete
        await self.assertFailure(Deferred.fromCoroutine(delete(self.stream.id, versions=OLD)), Outdated)
        self.assertIsNotNone(await self.streams.find("birds"))
        self.assertTrue(await delete(self.stream.id, versions={seen}))
        self.assertFalse(await delete(self.stream.id, versions={seen}))

    async def test_users(self) -> None:
        async def change(number: int, versions: Any) -> Any:
            changed = {"email": f"ada{number}@example.com"}
            return await self.database.transaction(_change_user, self.owner.id, changed, START, versions)

        await self.one_wins(users.version(self.owner), change)

    async def test_keys(self) -> None:
        stored = keys.StreamKeys(self.database, self.clock)
        key = await stored.add(self.stream.id, "digest", b"")

        def change(number: int, versions: Any) -> Any:
            return stored.change(self.stream.id, key.id, {"name": f"by {number}"}, versions=versions)

        await self.one_wins(keys.version(key), change)

    async def test_recordings(self) -> None:
        stored = recordings.Recordings(self.database, self.clock)
        one = recordings.Recording(
            id=new_id(),
            stream_id=self.stream.id,
            owner_id=self.owner.id,
            title="Birds",
            path="birds/birds.mp4",
            state="complete",
            started_at=utc(self.clock),
        )
        await stored.add(one)

        def change(number: int, versions: Any) -> Any:
            return stored.rename(one.id, f"By {number}", versions=versions)

        await self.one_wins(recordings.version(one), change)

    async def test_what_is_not_there_is_no_other_version(self) -> None:
        stored = recordings.Recordings(self.database, self.clock)
        self.assertFalse(await stored.rename(new_id(), "Owls", versions=OLD))
        self.assertFalse(await stored.rename("x", "Owls", versions=OLD))
        missing = keys.StreamKeys(self.database, self.clock)
        self.assertIsNone(await missing.change(self.stream.id, new_id(), {}, versions=OLD))


def _change_user(user_id: str, changed: Any, now: Any, versions: Any) -> Any:
    return users.change_user(user_id, changed, now, SERVER, versions=versions)
