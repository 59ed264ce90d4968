"""How often a login may be tried: a few times at once, and then after waits that double.

The one idea: what is limited is an address together with the account that it tries, so that nobody is locked out by
what others do. Two things are limited besides, and an address that has logged in to the account before (`_known`) is
held up by neither:

* A network with all accounts that it tries, and IPv6 neighbours together, in wider networks that may fail oftener,
  since one attacker may have 65,536 of a /64.
* An account that is attacked: all whom it does not know have one try together every few seconds, in turn, so that any
  number of addresses is no faster. Its owner on a new machine is a stranger like them: nothing but the password tells
  them apart. But a turn that was told is kept, so the owner waits `GAP` for each site (`site_of`) that asked
  before, and `turns.LONGEST_TURN` at most. Only more sites than have room in that, 720, make it a matter of luck.

Who has to wait is told so at once; nothing is held open. All memory is bounded: who was heard of longest ago goes.
"""

from collections import OrderedDict
from collections.abc import Hashable

from twisted.internet.interfaces import IReactorTime

from oxidecast.accounts.limits import SITE, TokenBuckets, network_of, site_of
from oxidecast.accounts.turns import Turns

LONGEST_WAIT = 300.0
"""Seconds. Who has forgotten a password waits no longer for the next try; who guesses has 12 an hour."""
QUIET = 3600.0
"""Seconds without a failure after which all are forgotten: long enough that coming back for the tries which are free is
no faster than going on at the longest wait."""
NEIGHBOURS = 4
"""An address may fail so many times as often as for one account: people behind one address log in too."""
NETWORKS = ((64, 1), (56, 4), (SITE, 16))
"""IPv6 networks, by their bits, and how many times as often as the first they may fail; an IPv4 address is one by
itself. What is used up comes back one by one, so that failing now and then, as a crowd of honest people does, never
adds up."""
CROWD = 10
"""An account is under attack from when it was failed with so many times as often as one address may."""
GAP = 5.0
"""Seconds between the tries of strangers at an account that is attacked: 12 a minute. Longer ones let fewer attackers
fill all turns."""
KNOWN_NETWORKS = 8
"""Of an account, the latest: at home, at work, under way. Fewer than all, so that nobody's push out another's."""
MAXIMUM_KEPT = 50_000
"""Entries of each kind, about 10 MB. To push one out, so many passwords have to be checked, which takes hours; or for a
turn, seventy accounts attacked from as many sites as have turns."""
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
        self._accounts = Backoff(clock, maximum)
        self._networks = [
            (bits, times, TokenBuckets(clock, 1.0, LONGEST_WAIT / times, maximum)) for bits, times in NETWORKS
        ]
        self._turns = Turns(clock, maximum)
        self._known: OrderedDict[str, OrderedDict[str, None]] = OrderedDict()
        """Accounts with the networks that logged in to them, the latest last."""
        self._maximum = maximum
        self.limit(attempts, refill)

    def limit(self, attempts: int, refill: float) -> None:
        """Other numbers; nothing is forgotten."""
        self._pairs.free, self._pairs.first = attempts, refill
        for _, times, buckets in self._networks:
            buckets.limit(attempts * NEIGHBOURS * times, LONGEST_WAIT / times)
        self._crowd = attempts * CROWD

    def attempt(self, address: str, username: str) -> float:
        """Count an attempt, as one that fails until `succeeded` or `undo` says otherwise, so that many at once do not
        pass; answers 0, or the seconds to wait, in which case nothing was counted."""
        account = (pair := _pair(address, username))[1]
        stranger = not self._is_known(pair)
        attacked = stranger and self._accounts.count(account) >= self._crowd
        wait = self._pairs.wait(pair, 1 if attacked else None)
        if stranger:
            for bits, _, buckets in self._networks:
                wait = max(wait, buckets.wait(network_of(address, bits)))
        if wait == 0.0 and attacked:
            wait = self._turns.ask(account, site_of(address), GAP)
        if wait == 0.0:
            self._pairs.failed(pair)
            self._accounts.failed(account)
            if stranger:
                for bits, _, buckets in self._networks:
                    buckets.take(network_of(address, bits))
        return wait

    def knows(self, address: str, username: str) -> bool:
        """Whether the account was logged in to from there."""
        return self._is_known(_pair(address, username))

    def succeeded(self, address: str, username: str) -> None:
        """The owner mistyped before; that is forgotten now, of this address and account. What the address tried with
        other accounts is not: an attacker may have one of its own."""
        pair = _pair(address, username)
        self._uncount(address, pair, max(1, self._pairs.count(pair)))
        self._pairs.forget(pair)
        self.seen(address, username)

    def seen(self, address: str, username: str) -> None:
        """Who has the account is at this address."""
        network, account = _pair(address, username)
        networks = self._known.setdefault(account, OrderedDict())
        networks[network] = None
        networks.move_to_end(network)
        if len(networks) > KNOWN_NETWORKS:
            networks.popitem(last=False)
        self._known.move_to_end(account)
        if len(self._known) > self._maximum:
            self._known.popitem(last=False)

    def undo(self, address: str, username: str) -> None:
        """An attempt was none: no password was looked at."""
        pair = _pair(address, username)
        self._uncount(address, pair, 1)
        self._pairs.undo(pair)
        if self._accounts.count(pair[1]) >= self._crowd and not self._is_known(pair):
            self._turns.give_back(pair[1], site_of(address))

    def _uncount(self, address: str, pair: tuple[str, str], times: int) -> None:
        for _ in range(times):
            self._accounts.undo(pair[1])
        if not self._is_known(pair):
            for bits, _, buckets in self._networks:
                buckets.give(network_of(address, bits), times)

    def _is_known(self, pair: tuple[str, str]) -> bool:
        return pair[0] in self._known.get(pair[1], ())


def _pair(address: str, username: str) -> tuple[str, str]:
    return network_of(address), username[:LONGEST_NAME].lower()
