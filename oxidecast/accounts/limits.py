"""How often something may be tried: token buckets, in bounded memory."""

from collections import OrderedDict
from collections.abc import Hashable
from ipaddress import IPv6Address

from twisted.internet.interfaces import IReactorTime

from oxidecast.formats import addresses

MAXIMUM_BUCKETS = 50_000
"""About 10 MB. Beyond, the bucket that was used longest ago is forgotten."""

SITE = 48
"""Bits that addresses of one IPv6 site have in common."""


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

    def limit(self, burst: float, refill: float) -> None:
        """Other numbers; nothing is forgotten."""
        self._burst, self._refill = burst, refill

    def wait(self, key: Hashable) -> float:
        """Seconds until a token is there; 0 when one is. Takes nothing."""
        return max(0.0, (1.0 - self._level(key)) * self._refill)

    def take(self, key: Hashable) -> None:
        """Take a token; the bucket never holds less than none."""
        self._buckets[key] = (max(0.0, self._level(key) - 1.0), self._clock.seconds())
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._maximum:
            self._buckets.popitem(last=False)

    def give(self, key: Hashable, tokens: int = 1) -> None:
        """Put tokens back."""
        level = self._level(key) + tokens
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


def network_of(address: str, prefix: int = 64) -> str:
    """What one subscriber holds: an IPv4 address, or an IPv6 /64; with another `prefix` the IPv6 network around it of
    that length. Text that is no address stands for itself."""
    parsed = addresses.address(address)
    if parsed is None:
        return address[:64]
    if isinstance(parsed, IPv6Address):
        return f"{IPv6Address(int(parsed) >> 128 - prefix << 128 - prefix)}/{prefix}"
    return str(parsed)


def site_of(address: str) -> str:
    """The most that a customer is usually given: an IPv4 address, or an IPv6 /48 (RFC 6177, 2), which is 65,536
    networks of `network_of`."""
    return network_of(address, SITE)
