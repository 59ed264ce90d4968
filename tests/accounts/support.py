"""A database with the first start behind it, and passwords that are quick to hash."""

from argon2 import PasswordHasher
from twisted.internet import reactor
from twisted.python.threadpool import ThreadPool

from oxidecast.accounts.keys import KeySafe
from oxidecast.accounts.passwords import Passwords
from tests.database.support import DatabaseCase

QUICK = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
SECRET = b"a secret of the server that is long enough"
PASSWORD = "correct horse battery staple"


class AccountsCase(DatabaseCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        threads = ThreadPool(0, 2)
        threads.start()
        self.addCleanup(threads.stop)
        self.threads = threads
        self.passwords = Passwords(reactor, threads, QUICK)
        self.safe = KeySafe(SECRET)
