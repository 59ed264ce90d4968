"""Passwords: argon2id, in threads of their own, few enough that logins never starve live media."""

import base64
import secrets
import unicodedata
from collections import Counter
from collections.abc import Callable
from threading import Event
from typing import Any, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from twisted.internet.defer import Deferred
from twisted.python.threadpool import ThreadPool

from oxidecast.accounts.errors import InvalidAccount, Overloaded, TooManyAttempts
from oxidecast.accounts.limits import site_of

SHORTEST = 8
LONGEST = 1024
"""Characters. Hashing reads all of a password, so it must end somewhere; no passphrase gets here."""
MAXIMUM_WAITING = 32
"""Checks waiting at once: at a tenth to a fifth of a second each, whoever is behind these has given up."""
MAXIMUM_OF_SITE = 8
"""Of these, for one IPv4 address or IPv6 /48, what is being checked counted: half a second to a second of work, which
leaves room for others."""
KEPT_FREE = 16
"""Places beyond these for what strangers do not ask for: who has logged in from there before does so in spite of them,
and an administrator makes accounts."""
HASHER = PasswordHasher(time_cost=3, memory_cost=65_536, parallelism=1)
"""RFC 9106, 4, second recommended option, with one lane: a login must not take all cores at once."""

T = TypeVar("T")


class Passwords:
    """Hashes and verifies in `threads`, which the caller starts and stops; its size bounds cores and memory
    (64 MiB for each). `address` is whose wish it is, when a stranger may have it; None for administrators and commands,
    and for those who are known there."""

    def __init__(self, reactor: Any, threads: ThreadPool, hasher: PasswordHasher = HASHER) -> None:
        self._reactor = reactor
        self._threads = threads
        self._hasher = hasher
        self._waiting = 0
        self._of_site: Counter[str] = Counter()
        self.no_password = _hash_of_nothing(hasher)
        """A hash that no password has, and that takes as long to say so as any: for unknown users, and for accounts
        that have none."""

    async def hash(self, password: str, address: str | None = None) -> str:
        """Raises InvalidAccount for a password that is too short or too long, Overloaded, and TooManyAttempts when its
        network has too many waiting."""
        if not SHORTEST <= len(password) <= LONGEST:
            raise InvalidAccount("password", f"must have {SHORTEST} to {LONGEST} characters")
        return await self._in_thread(lambda: self._hasher.hash(_bytes(password)), address)

    async def verify(self, password: str, hashed: str | None, address: str | None = None) -> bool:
        """Whether the password is the one that was hashed. None stands for an unknown user: it takes as long,
        and is False. Raises Overloaded, and TooManyAttempts when its network has too many waiting."""
        if len(password) > LONGEST:
            return False
        return await self._in_thread(lambda: self._verify(password, hashed), address)

    def is_outdated(self, hashed: str) -> bool:
        """Whether a hash was made with other costs than today's."""
        return self._hasher.check_needs_rehash(hashed)

    def _verify(self, password: str, hashed: str | None) -> bool:
        try:
            return self._hasher.verify(hashed or self.no_password, _bytes(password)) and hashed is not None
        except (VerificationError, InvalidHashError):
            return False

    async def _in_thread(self, work: Callable[[], T], address: str | None = None) -> T:
        """Who goes away is not waited for, and what it asked for is not begun; what was begun counts until it is done:
        else whoever hangs up at once could have any number in the queue."""
        site = site_of(address) if address is not None else None
        if self._waiting >= MAXIMUM_WAITING + (KEPT_FREE if site is None else 0):
            raise Overloaded
        if site is not None:
            if self._of_site[site] >= MAXIMUM_OF_SITE:
                raise TooManyAttempts(1.0)
            self._of_site[site] += 1
        self._waiting += 1
        gone = Event()
        wanted: Deferred[T] = Deferred(lambda _: gone.set())

        def done(succeeded: bool, result: Any) -> None:
            self._reactor.callFromThread(self._done, wanted, result, site)

        self._threads.callInThreadWithCallback(done, lambda: None if gone.is_set() else work())
        return await wanted

    def _done(self, wanted: "Deferred[T]", result: Any, site: str | None) -> None:
        self._waiting -= 1
        if site is not None:
            self._of_site[site] -= 1
            self._of_site += Counter()  # forgets who has none
        if not wanted.called:
            wanted.callback(result)  # a Failure makes it fail


def _bytes(password: str) -> bytes:
    # Keyboards differ in how they compose accents.
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")


def _hash_of_nothing(hasher: PasswordHasher) -> str:
    """A well-formed hash with the costs of real ones, that no password has."""
    salt, digest = (
        base64.b64encode(secrets.token_bytes(size)).decode().rstrip("=")
        for size in (hasher.salt_len, hasher.hash_len)
    )
    costs = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    return f"$argon2id$v=19${costs}${salt}${digest}"
