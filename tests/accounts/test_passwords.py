from threading import Event

from argon2 import PasswordHasher
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import TestCase

from oxidecast.accounts import InvalidAccount, Overloaded, Passwords, TooManyAttempts
from oxidecast.accounts import passwords as module
from oxidecast.accounts.passwords import KEPT_FREE, MAXIMUM_OF_SITE, MAXIMUM_WAITING
from tests.accounts.support import PASSWORD, QUICK


class Hashing(TestCase):
    def setUp(self) -> None:
        self.threads = ThreadPool(0, 2)
        self.threads.start()
        self.addCleanup(self.threads.stop)
        self.passwords = Passwords(reactor, self.threads, QUICK)

    async def test_the_right_password_is_right(self) -> None:
        hashed = await self.passwords.hash(PASSWORD)
        self.assertTrue(hashed.startswith("$argon2id$"))
        self.assertTrue(await self.passwords.verify(PASSWORD, hashed))

    async def test_others_are_wrong(self) -> None:
        hashed = await self.passwords.hash(PASSWORD)
        for other in ("", PASSWORD + " ", PASSWORD.upper(), "x" * 100_000, "\ud800"):
            self.assertFalse(await self.passwords.verify(other, hashed))

    async def test_accents_may_be_composed_either_way(self) -> None:
        hashed = await self.passwords.hash("caf\u00e9-caf\u00e9")
        self.assertTrue(await self.passwords.verify("cafe\u0301-cafe\u0301", hashed))

    async def test_too_short_and_too_long_are_refused(self) -> None:
        for password in ("", "1234567", "x" * 1025):
            await self.assertFailure(Deferred.fromCoroutine(self.passwords.hash(password)), InvalidAccount)

    async def test_an_unknown_user_has_no_password(self) -> None:
        self.assertFalse(await self.passwords.verify(PASSWORD, None))

    async def test_an_unknown_user_costs_a_full_check(self) -> None:
        seen = []

        class Recording(PasswordHasher):
            def verify(self, hash: str | bytes, password: str | bytes) -> bool:  # type: ignore[override]
                seen.append(str(hash).split("$")[1:4])
                return super().verify(hash, password)  # type: ignore[return-value]

        passwords = Passwords(reactor, self.threads, Recording(1, 64, 1))
        hashed = await passwords.hash(PASSWORD)
        await passwords.verify("wrong password", hashed)
        await passwords.verify("wrong password", None)
        self.assertEqual(seen[0], seen[1])

    async def test_a_hash_that_is_none_is_wrong(self) -> None:
        self.assertFalse(await self.passwords.verify(PASSWORD, "$argon2id$tampered"))

    async def test_other_costs_are_outdated(self) -> None:
        hashed = await self.passwords.hash(PASSWORD)
        self.assertFalse(self.passwords.is_outdated(hashed))
        self.assertTrue(Passwords(reactor, self.threads, PasswordHasher(2, 64, 1)).is_outdated(hashed))

    async def test_too_many_at_once_are_refused(self) -> None:
        self.patch(module, "MAXIMUM_WAITING", 2)
        self.patch(module, "KEPT_FREE", 1)
        waiting = [Deferred.fromCoroutine(self.passwords.hash(PASSWORD)) for _ in range(3)]
        await self.assertFailure(Deferred.fromCoroutine(self.passwords.hash(PASSWORD)), Overloaded)
        await gatherResults(waiting)
        await self.passwords.hash(PASSWORD)


class Fair(TestCase):
    """One thread, and it is busy until `go_on` is set."""

    async def setUp(self) -> None:  # type: ignore[override]
        threads = ThreadPool(0, 1)
        threads.start()
        self.addCleanup(threads.stop)
        self.passwords, begun, self.go_on = Passwords(reactor, threads, QUICK), Event(), Event()
        self.addCleanup(self.go_on.set)

        def slowly() -> bool:
            begun.set()
            return self.go_on.wait(20)

        self.first = Deferred.fromCoroutine(self.passwords._in_thread(slowly))
        await deferToThread(begun.wait, 20)

    def check(self, address: str | None) -> Deferred[bool]:
        return Deferred.fromCoroutine(self.passwords.verify(PASSWORD, None, address))

    async def test_one_site_has_few_places_and_others_have_theirs(self) -> None:
        for network in ("192.0.2.1", "2001:db8:1:{}::1"):
            waiting = [self.check(network.format(one)) for one in range(MAXIMUM_OF_SITE)]
            await self.assertFailure(self.check(network.format("ffff")), TooManyAttempts)
            waiting += [self.check("192.0.2.2"), self.check("2001:db8:2::1")]
            self.go_on.set()
            self.assertEqual(await gatherResults(waiting), [False] * len(waiting))
            self.assertFalse(await self.check(network.format("ffff")))
        self.assertEqual((await self.first, len(self.passwords._of_site)), (True, 0))

    async def test_an_administrator_has_places_when_strangers_fill_the_rest(self) -> None:
        waiting = [self.check(f"192.0.2.{one}") for one in range(MAXIMUM_WAITING - 1)]
        await self.assertFailure(self.check("203.0.113.1"), Overloaded)
        made = [Deferred.fromCoroutine(self.passwords.hash(PASSWORD)) for _ in range(KEPT_FREE)]
        await self.assertFailure(self.check(None), Overloaded)
        self.go_on.set()
        await gatherResults([*waiting, *made])

    async def test_who_hangs_up_makes_no_room_for_more(self) -> None:
        looked_at: list[str | None] = []
        self.patch(self.passwords, "_verify", lambda password, hashed: looked_at.append(hashed))
        for _ in range(MAXIMUM_OF_SITE):
            gone = self.check("192.0.2.1")
            gone.cancel()
            await self.assertFailure(gone, CancelledError)
        await self.assertFailure(self.check("192.0.2.1"), TooManyAttempts)
        self.go_on.set()
        while self.passwords._waiting:
            await deferLater(reactor, 0.01)
        self.assertEqual(looked_at, [], "what nobody waits for is not begun")
        self.assertFalse(await self.check("192.0.2.1"))
        self.assertEqual(looked_at, [None])


class Abandoned(TestCase):
    async def test_who_hangs_up_makes_no_room_for_more(self) -> None:
        """The work that was asked for is still in the queue: any number of it would be."""
        threads = ThreadPool(0, 1)
        threads.start()
        self.addCleanup(threads.stop)
        passwords, begun, go_on = Passwords(reactor, threads, QUICK), Event(), Event()
        self.patch(module, "MAXIMUM_WAITING", 3)
        self.patch(module, "KEPT_FREE", 0)

        def slowly() -> bool:
            begun.set()
            return go_on.wait(20)

        first = Deferred.fromCoroutine(passwords._in_thread(slowly))
        await deferToThread(begun.wait, 20)
        asked = [Deferred.fromCoroutine(passwords.verify(PASSWORD, None)) for _ in range(2)]
        for one in asked:
            one.cancel()
            await self.assertFailure(one, CancelledError)
        await self.assertFailure(Deferred.fromCoroutine(passwords.verify(PASSWORD, None)), Overloaded)
        go_on.set()
        self.assertTrue(await first)
        while passwords._waiting:
            await deferLater(reactor, 0.01)
        self.assertFalse(await passwords.verify(PASSWORD, None))
