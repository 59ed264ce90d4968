"""How often something may be tried: token buckets, in bounded memory."""

from collections import OrderedDict
from collections.abc import Hashable
from ipaddress import IPv6Address

from twisted.internet.interfaces import IReactorTime

from oxidecast.formats import addresses

MAXIMUM_BUCKETS = 50_000
"""About 10 MB. Beyond, the bucket that was used longest ago is forgotten."""
NEIGHBOURS = 4
"""An address may try so many times what it may for one account: people behind one address log in too."""


class TokenBuckets:
    """A bucket for each key: full at first, `burst` tokens, one more every `refill` seconds."""

    def __init__(
        self, clock: IReactorTime, burst: float, refill: float, maximum: int = MAXIMUM_BUCKETS
    ) -> None:
        self._clock = clock
        self._burst = burst
        self._refill = refill
        self._maximum = maximum
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def wait(self, key: Hashable) -> float:
        """Seconds until a token is there; 0 when one is. Takes nothing."""
        return max(0.0, (1.0 - self._level(key)) * self._refill)

    def take(self, key: Hashable) -> None:
        """Take a token; the bucket never holds less than none."""
        self._buckets[key] = (max(0.0, self._level(key) - 1.0), self._clock.seconds())
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._maximum:
            self._buckets.popitem(last=False)

    def give(self, key: Hashable) -> None:
        """Put a token back."""
        level = self._level(key) + 1.0
        if level >= self._burst:
            self._buckets.pop(key, None)
        else:
            self._buckets[key] = (level, self._clock.seconds())

    def refill(self, key: Hashable) -> None:
        """Make the bucket full."""
        self._buckets.pop(key, None)

    def _level(self, key: Hashable) -> float:
        level, since = self._buckets.get(key, (self._burst, 0.0))
        # A clock that was set back must not empty a bucket.
        return min(self._burst, level + max(0.0, self._clock.seconds() - since) / self._refill)


class LoginThrottle:
    """Limits logins by address, and by address and account together.

    There is no limit by account alone: anybody could use it to lock the rightful owner out. What an
    attacker with many addresses can try is bounded by the threads that check passwords.
    """

    def __init__(self, clock: IReactorTime, attempts: int, refill: float) -> None:
        self._pairs = TokenBuckets(clock, attempts, refill)
        self._addresses = TokenBuckets(clock, attempts * NEIGHBOURS, refill / NEIGHBOURS)

    def attempt(self, address: str, username: str) -> float:
        """Count an attempt; answers 0, or the seconds to wait, in which case nothing was counted."""
        network = network_of(address)
        pair = (network, username.lower())
        wait = max(self._pairs.wait(pair), self._addresses.wait(network))
        if wait == 0.0:
            self._pairs.take(pair)
            self._addresses.take(network)
        return wait

    def succeeded(self, address: str, username: str) -> None:
        """The owner mistyped before; that is forgotten now."""
        self._pairs.refill((network_of(address), username.lower()))


def network_of(address: str) -> str:
    """What one subscriber holds: an IPv4 address, or an IPv6 /64. Text that is no address stands for
    itself."""
    parsed = addresses.address(address)
    if parsed is None:
        return address[:64]
    if isinstance(parsed, IPv6Address):
        return f"{IPv6Address(int(parsed) >> 64 << 64)}/64"
    return str(parsed)
