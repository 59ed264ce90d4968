from datetime import timedelta

from twisted.internet.defer import Deferred

from oxidecast.database import Conflict
from oxidecast.database.keys import StreamKeys
from oxidecast.database.streams import Streams
from tests.database.support import START, DatabaseCase, both_engines


@both_engines
class StreamKeysTable(DatabaseCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.keys = StreamKeys(self.database, self.clock)
        self.owner = await self.someone()
        self.stream = await Streams(self.database, self.clock).create(self.owner.id, "Birds")

    async def test_a_key_is_found_with_its_stream(self) -> None:
        made = await self.keys.add(self.stream.id, "digest", b"\0sealed", "studio")
        found = await self.keys.find("digest")
        assert found is not None
        self.assertEqual((found.key, found.stream, found.owner_disabled), (made, self.stream, False))
        self.assertEqual((made.sealed, made.name, made.created_at), (b"\0sealed", "studio", START))

    async def test_an_unknown_digest_is_none(self) -> None:
        self.assertIs(await self.keys.find("digest"), None)

    async def test_a_key_needs_a_stream(self) -> None:
        await self.assertFailure(Deferred.fromCoroutine(self.keys.add("x", "digest", b"")), Conflict)

    async def test_a_revoked_key_is_not_found(self) -> None:
        made = await self.keys.add(self.stream.id, "digest", b"")
        self.assertFalse(await self.keys.revoke("another stream", made.id))
        self.assertTrue(await self.keys.revoke(self.stream.id, made.id))
        self.assertFalse(await self.keys.revoke(self.stream.id, made.id))
        self.assertIs(await self.keys.find("digest"), None)
        self.assertEqual(await self.keys.valid(self.stream.id), [])

    async def test_a_replaced_key_is_valid_until_it_expires(self) -> None:
        await self.keys.add(self.stream.id, "old", b"", "studio")
        self.clock.advance(1)
        new = await self.keys.replace_newest(self.stream.id, "new", b"", START + timedelta(seconds=11))
        self.assertEqual(new.name, "studio")
        self.assertIsNot(await self.keys.find("old"), None)
        self.assertEqual([key.digest for key in await self.keys.valid(self.stream.id)], ["new", "old"])
        self.clock.advance(10)
        self.assertIs(await self.keys.find("old"), None)
        self.assertIsNot(await self.keys.find("new"), None)

    async def test_replacing_again_does_not_lengthen_a_life(self) -> None:
        old = await self.keys.add(self.stream.id, "old", b"")
        await self.database.execute(
            "UPDATE stream_keys SET expires_at = :at", {"at": START + timedelta(seconds=5)}
        )
        await self.keys.replace_newest(self.stream.id, "new", b"", START + timedelta(hours=1))
        valid = {key.id: key.expires_at for key in await self.keys.valid(self.stream.id)}
        self.assertEqual(valid[old.id], START + timedelta(seconds=5))

    async def test_a_disabled_owner_is_said_so(self) -> None:
        await self.keys.add(self.stream.id, "digest", b"")
        await self.disable(self.owner)
        found = await self.keys.find("digest")
        assert found is not None
        self.assertTrue(found.owner_disabled)

    async def test_its_use_is_noted(self) -> None:
        made = await self.keys.add(self.stream.id, "digest", b"")
        await self.keys.used(made.id, "2001:db8::1")
        [key] = await self.keys.valid(self.stream.id)
        self.assertEqual((key.last_used_at, key.last_used_from), (START, "2001:db8::1"))

    async def test_where_it_was_used_from_is_an_address_or_nothing(self) -> None:
        made = await self.keys.add(self.stream.id, "digest", b"")
        for address, kept in (
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("fe80::1%eth0", "fe80::1"),
            ("", None),
            (None, None),
        ):
            await self.keys.used(made.id, address)
            [key] = await self.keys.valid(self.stream.id)
            self.assertEqual(key.last_used_from, kept)

    async def test_keys_go_with_their_stream(self) -> None:
        await self.keys.add(self.stream.id, "digest", b"")
        await Streams(self.database, self.clock).delete(self.stream.id)
        self.assertEqual(await self.database.query("SELECT * FROM stream_keys"), [])
