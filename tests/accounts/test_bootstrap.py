"""The first start, also when it is interrupted."""

import stat

from twisted.internet.defer import Deferred, gatherResults

from oxidecast.accounts import FirstSteps, KeyAuthenticator, KeySafe, bootstrap
from oxidecast.database import DatabaseUnavailable
from oxidecast.database.streams import Streams
from oxidecast.database.users import User, Users
from oxidecast.settings.private import write_private_once
from tests.accounts.support import SECRET, AccountsCase
from tests.database.support import both_engines
from tests.settings.support import temporary_folder


@both_engines
class FirstStart(AccountsCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.folder = temporary_folder(self)
        self.password_file = self.folder / "admin-password"

    async def start(self, safe: KeySafe | None = None) -> FirstSteps:
        return await bootstrap(self.database, self.clock, self.passwords, safe or self.safe, self.folder)

    async def admin(self) -> User:
        user = await Users(self.database, self.clock).by_username("admin")
        assert user is not None
        return user

    async def test_there_is_an_admin_with_the_password_of_the_file(self) -> None:
        await self.start()
        admin = await self.admin()
        self.assertEqual(admin.role, "admin")
        password = self.password_file.read_text().strip()
        self.assertTrue(await self.passwords.verify(password, admin.password_hash))
        self.assertEqual(stat.S_IMODE(self.password_file.stat().st_mode), 0o600)

    async def test_the_key_that_is_shown_publishes_to_the_stream_that_is_shown(self) -> None:
        steps = await self.start()
        assert steps.key is not None and steps.stream is not None
        grant = await KeyAuthenticator(self.database, self.clock, self.safe).authenticate_publish(steps.key)
        self.assertEqual(grant.stream, steps.stream)
        self.assertEqual(steps.stream.owner_id, (await self.admin()).id)

    async def test_the_next_start_changes_nothing(self) -> None:
        first, password = await self.start(), self.password_file.read_text()
        second = await self.start()
        self.assertEqual((first.is_first_start, second.is_first_start), (True, False))
        self.assertEqual((first.stream, first.key), (second.stream, second.key))
        self.assertEqual(self.password_file.read_text(), password)

    async def test_a_password_file_that_was_removed_is_not_made_again(self) -> None:
        await self.start()
        self.password_file.unlink()
        await self.start()
        self.assertFalse(self.password_file.exists())

    async def test_a_stream_that_was_deleted_is_not_made_again(self) -> None:
        steps = await self.start()
        assert steps.stream is not None
        await Streams(self.database, self.clock).delete(steps.stream.id)
        again = await self.start()
        self.assertEqual((again.stream, again.key), (None, None))

    async def test_interrupted_after_the_file_it_keeps_the_password(self) -> None:
        write_private_once(self.password_file, "written before the power cut\n")
        await self.start()
        admin = await self.admin()
        self.assertTrue(await self.passwords.verify("written before the power cut", admin.password_hash))

    async def test_interrupted_in_the_database_it_starts_from_nothing(self) -> None:
        await self.database.execute("ALTER TABLE stream_keys RENAME TO elsewhere")
        await self.assertFailure(Deferred.fromCoroutine(self.start()), Exception)
        self.assertEqual(await self.database.query("SELECT * FROM users"), [])
        self.assertEqual(await self.database.query("SELECT * FROM streams"), [])
        await self.database.execute("ALTER TABLE elsewhere RENAME TO stream_keys")
        self.assertTrue((await self.start()).is_first_start)

    async def test_two_that_start_at_once_make_one(self) -> None:
        steps = await gatherResults([Deferred.fromCoroutine(self.start()) for _ in range(2)])
        self.assertEqual(sorted(step.is_first_start for step in steps), [False, True])
        self.assertEqual(steps[0].key, steps[1].key)
        self.assertEqual(len(await self.database.query("SELECT * FROM users")), 1)

    async def test_of_two_machines_that_start_at_once_one_has_the_password(self) -> None:
        other = temporary_folder(self)
        starts = [
            bootstrap(self.database, self.clock, self.passwords, self.safe, folder)
            for folder in (self.folder, other)
        ]
        steps = await gatherResults([Deferred.fromCoroutine(start) for start in starts])
        files = [step.password_file for step in steps if step.password_file.exists()]
        self.assertEqual(files, [step.password_file for step in steps if step.is_first_start])
        admin = await self.admin()
        self.assertTrue(await self.passwords.verify(files[0].read_text().strip(), admin.password_hash))

    async def test_with_another_server_secret_the_key_is_not_shown(self) -> None:
        await self.start()
        steps = await self.start(KeySafe(SECRET + b"!"))
        self.assertIsNot(steps.stream, None)
        self.assertIs(steps.key, None)

    async def test_without_a_database_it_says_so(self) -> None:
        await self.database.close()
        await self.assertFailure(Deferred.fromCoroutine(self.start()), DatabaseUnavailable)

    async def test_the_key_is_not_in_the_representation(self) -> None:
        steps = await self.start()
        self.assertNotIn(str(steps.key), repr(steps))
