"""How often a login may be tried: a few times at once, and then after waits that double.

The one idea: what is limited is an address together with the account that it tries, so that nobody is locked out by
what others do. An account that is attacked from many addresses is stricter with those that it does not know: each has
one try before it waits, which is enough for its owner on a new machine, and little for each of the attacker's.

Who has to wait is told so at once; nothing is held open. All memory is bounded: who was heard of longest ago goes.
"""

from collections import OrderedDict
from collections.abc import Hashable

from twisted.internet.interfaces import IReactorTime

from oxidecast.accounts.limits import network_of

LONGEST_WAIT = 300.0
"""Seconds. Who has forgotten a password waits no longer for the next try; who guesses has 12 an hour."""
QUIET = 3600.0
"""Seconds without a failure after which all are forgotten: long enough that coming back for the tries which are free is
no faster than going on at the longest wait."""
NEIGHBOURS = 4
"""An address may fail so many times as often as for one account: people behind one address log in too."""
CROWD = 10
"""An account is under attack from when it was failed with so many times as often as one address may."""
MAXIMUM_KEPT = 50_000
"""Entries of each kind, about 10 MB. To push one out, so many passwords have to be checked, which takes hours."""
LONGEST_NAME = 100
"""Characters of a username that are kept; no account has more than 50."""


class Backoff:
    """Failures by key: the first `free` cost nothing, each further one a wait twice as long as the last."""

    def __init__(self, clock: IReactorTime, maximum: int = MAXIMUM_KEPT) -> None:
        self._clock = clock
        self._maximum = maximum
        self._failures: OrderedDict[Hashable, tuple[int, float]] = OrderedDict()
        self.free = 0
        self.first = 0.0

    def __len__(self) -> int:
        return len(self._failures)

    def count(self, key: Hashable) -> int:
        """The failures that are not forgotten."""
        count, last = self._failures.get(key, (0, 0.0))
        return count if self._clock.seconds() - last < QUIET else 0

    def wait(self, key: Hashable, free: int | None = None) -> float:
        """Seconds until the next try; `free` in place of the usual number."""
        beyond = self.count(key) - (self.free if free is None else free)
        if beyond < 0:
            return 0.0
        wait = min(self.first * 2.0 ** min(beyond, 64), max(LONGEST_WAIT, self.first))
        # A clock that was set back must not lengthen a wait.
        return max(0.0, wait - max(0.0, self._clock.seconds() - self._failures[key][1]))

    def failed(self, key: Hashable) -> None:
        self._failures[key] = (self.count(key) + 1, self._clock.seconds())
        self._failures.move_to_end(key)
        if len(self._failures) > self._maximum:
            self._failures.popitem(last=False)

    def undo(self, key: Hashable) -> None:
        """The last one was none."""
        count, last = self._failures.pop(key, (0, 0.0))
        if count > 1:
            self._failures[key] = (count - 1, last)

    def forget(self, key: Hashable) -> None:
        self._failures.pop(key, None)


class LoginThrottle:
    """`attempts` that fail are free for an address and an account; the first wait is `refill` seconds."""

    def __init__(
        self, clock: IReactorTime, attempts: int, refill: float, maximum: int = MAXIMUM_KEPT
    ) -> None:
        self._pairs = Backoff(clock, maximum)
        self._networks = Backoff(clock, maximum)
        self._accounts = Backoff(clock, maximum)
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()
        """Networks with the accounts that logged in from there, the latest last."""
        self._maximum = maximum
        self.limit(attempts, refill)

    def limit(self, attempts: int, refill: float) -> None:
        """Other numbers; nothing is forgotten."""
        self._pairs.free, self._pairs.first = attempts, refill
        self._networks.free, self._networks.first = attempts * NEIGHBOURS, refill / NEIGHBOURS
        self._crowd = attempts * CROWD

    def attempt(self, address: str, username: str) -> float:
        """Count an attempt, as one that fails until `succeeded` or `undo` says otherwise, so that many at once do not
        pass; answers 0, or the seconds to wait, in which case nothing was counted."""
        network, account = pair = _pair(address, username)
        attacked = self._accounts.count(account) >= self._crowd and pair not in self._known
        wait = max(self._pairs.wait(pair, 1 if attacked else None), self._networks.wait(network))
        if wait == 0.0:
            self._pairs.failed(pair)
            self._networks.failed(network)
            self._accounts.failed(account)
        return wait

    def succeeded(self, address: str, username: str) -> None:
        """The owner mistyped before; that is forgotten now, of this address and account. What the address tried with
        other accounts is not: an attacker may have one of its own."""
        network, account = pair = _pair(address, username)
        self._pairs.forget(pair)
        self._networks.undo(network)
        self._accounts.undo(account)
        self._known[pair] = None
        self._known.move_to_end(pair)
        if len(self._known) > self._maximum:
            self._known.popitem(last=False)

    def undo(self, address: str, username: str) -> None:
        """An attempt was none: no password was looked at."""
        network, account = pair = _pair(address, username)
        self._pairs.undo(pair)
        self._networks.undo(network)
        self._accounts.undo(account)


def _pair(address: str, username: str) -> tuple[str, str]:
    return network_of(address), username[:LONGEST_NAME].lower()
