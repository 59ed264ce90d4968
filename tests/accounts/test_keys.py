from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.accounts import KeySafe, KeyUnreadable, PublishKeys
from oxidecast.database import Conflict
from oxidecast.database.streams import Streams
from tests.accounts.support import SECRET, AccountsCase
from tests.database.support import both_engines

SAFE = KeySafe(SECRET)


class Safe(SynchronousTestCase):
    def test_a_key_is_eight_groups_of_four_and_differs_each_time(self) -> None:
        keys = {SAFE.new() for _ in range(100)}
        self.assertEqual(len(keys), 100)
        for key in keys:
            self.assertRegex(key, r"\A[0-9a-hjkmnp-tv-z]{4}(-[0-9a-hjkmnp-tv-z]{4}){7}\Z")

    def test_it_is_found_however_it_is_copied(self) -> None:
        key = SAFE.new()
        for copy in (key.upper(), key.replace("-", ""), f" {key}\n", key.replace("0", "O").replace("1", "l")):
            self.assertEqual(SAFE.digest(copy), SAFE.digest(key))

    def test_what_cannot_be_a_key_has_no_digest(self) -> None:
        key = SAFE.new()
        for text in ("", key[:-1], key + "0", "u" * 32, "é" * 32, "٣" * 32, "../" * 20, "x" * 10_000):
            self.assertIs(SAFE.digest(text), None)

    def test_the_digest_depends_on_the_server_secret(self) -> None:
        key = SAFE.new()
        self.assertNotEqual(SAFE.digest(key), KeySafe(SECRET + b"!").digest(key))

    def test_a_sealed_key_opens(self) -> None:
        key = SAFE.new()
        sealed = SAFE.seal(key, "stream")
        self.assertNotIn(key.encode(), sealed)
        self.assertEqual(SAFE.open(sealed, "stream"), key)

    def test_it_opens_with_this_secret_and_for_this_stream_only(self) -> None:
        sealed = SAFE.seal(SAFE.new(), "stream")
        self.assertRaises(KeyUnreadable, SAFE.open, sealed, "another")
        self.assertRaises(KeyUnreadable, KeySafe(SECRET + b"!").open, sealed, "stream")

    def test_a_tampered_one_does_not_open(self) -> None:
        sealed = SAFE.seal(SAFE.new(), "stream")
        for at in range(len(sealed)):
            broken = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
            self.assertRaises(KeyUnreadable, SAFE.open, broken, "stream")

    @given(st.binary(max_size=80))
    @settings(max_examples=100, deadline=None)
    def test_any_other_bytes_do_not_open(self, data: bytes) -> None:
        self.assertRaises(KeyUnreadable, SAFE.open, data, "stream")

    @given(st.text(max_size=200))
    @settings(max_examples=100, deadline=None)
    def test_any_text_has_a_digest_or_none(self, text: str) -> None:
        digest = SAFE.digest(text)
        self.assertTrue(digest is None or len(digest) == 64)


class OwnersKeysCase(AccountsCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.keys = PublishKeys(self.database, self.clock, self.safe)
        owner = await self.someone()
        self.stream = await Streams(self.database, self.clock).create(owner.id, "Birds")


@both_engines
class OwnersKeys(OwnersKeysCase):
    async def test_the_owner_is_shown_a_key_again(self) -> None:
        made = await self.keys.create(self.stream.id, "studio")
        self.assertEqual(await self.keys.newest(self.stream.id), made)
        self.assertNotIn(made.text, repr(made))

    async def test_a_stream_without_keys_has_no_newest(self) -> None:
        self.assertIs(await self.keys.newest(self.stream.id), None)

    async def test_an_unknown_stream_can_have_none(self) -> None:
        await self.assertFailure(Deferred.fromCoroutine(self.keys.create("x")), Conflict)

    async def test_several_are_listed_newest_first(self) -> None:
        for name in ("studio", "field"):
            await self.keys.create(self.stream.id, name)
            self.clock.advance(1)
        self.assertEqual([key.name for key in await self.keys.all(self.stream.id)], ["field", "studio"])

    async def test_rotation_ends_the_old_key_at_once(self) -> None:
        old = await self.keys.create(self.stream.id)
        self.clock.advance(1)
        new = await self.keys.rotate(self.stream.id)
        self.assertNotEqual(old.text, new.text)
        self.assertEqual(await self.keys.all(self.stream.id), [new])

    async def test_rotation_with_an_overlap_keeps_it_so_long(self) -> None:
        await self.keys.create(self.stream.id)
        self.clock.advance(1)
        await self.keys.rotate(self.stream.id, 60)
        self.assertEqual(len(await self.keys.all(self.stream.id)), 2)
        self.clock.advance(60)
        self.assertEqual(len(await self.keys.all(self.stream.id)), 1)

    async def test_rotation_makes_the_first_key_where_there_is_none(self) -> None:
        made = await self.keys.rotate(self.stream.id)
        self.assertEqual(await self.keys.newest(self.stream.id), made)

    async def test_a_revoked_key_is_gone(self) -> None:
        made = await self.keys.create(self.stream.id)
        self.assertTrue(await self.keys.revoke(self.stream.id, made.id))
        self.assertEqual(await self.keys.all(self.stream.id), [])


class AtRest(OwnersKeysCase):
    async def test_no_key_is_in_the_database_files(self) -> None:
        made = await self.keys.create(self.stream.id)
        await self.database.close()
        data = self.file.read_bytes()
        self.assertNotIn(made.text.encode(), data)
        self.assertNotIn(made.text.replace("-", "").encode(), data)
