"""Who may do what how often: one token bucket for each network, or user, and class of doing.

The one idea: a class has a name (`api`, `auth`, `media`, `websocket`, `publish`, `failed_keys`), and who serves it
asks by that name. Bursts and rates are the settings' `{class}_burst` and `{class}_rate`; each class remembers at most
`MAXIMUM_BUCKETS`. Nothing waits: who has no token left is told when there will be one.
"""

from collections import Counter
from math import ceil

from twisted.internet.interfaces import IReactorTime

from oxidecast.accounts.limits import TokenBuckets, network_of
from oxidecast.formats.addresses import Networks
from oxidecast.settings.sections import RateLimitSettings

CLASSES = ("api", "auth", "media", "websocket", "publish", "failed_keys")


class Admission:
    """The buckets."""

    def __init__(self, clock: IReactorTime, settings: RateLimitSettings) -> None:
        self.limited: Counter[str] = Counter(dict.fromkeys(CLASSES, 0))
        """How often somebody was told to wait, by class."""
        self._clock = clock
        self._limits: dict[str, tuple[int, float]] = {}
        self._buckets: dict[str, TokenBuckets | None] = {}
        self._exempt = Networks()
        self.reload(settings)

    def reload(self, settings: RateLimitSettings) -> None:
        """Take over the settings. Classes that did not change keep what they know."""
        self._exempt = Networks(settings.exempt)
        for kind in CLASSES:
            limit = getattr(settings, f"{kind}_burst"), getattr(settings, f"{kind}_rate")
            if self._limits.get(kind) != limit:
                self._limits[kind] = burst, rate = limit
                self._buckets[kind] = TokenBuckets(self._clock, burst, 1.0 / rate) if burst else None

    def limits(self, kind: str) -> bool:
        """Whether there is a limit."""
        return self._buckets[kind] is not None

    def take(self, kind: str, address: str, user: str | None = None) -> int:
        """Take a token of the address' network, or of the user who calls from there: 0, or whole seconds to wait, in
        which case none was taken. Exempt networks never wait."""
        buckets = self._buckets[kind]
        if buckets is None or (self._exempt and address in self._exempt):
            return 0
        key = network_of(address) if user is None else ("user", user)
        wait = buckets.wait(key)
        if wait > 0.0:
            self.limited[kind] += 1
            return ceil(wait)
        buckets.take(key)
        return 0

    def give_back(self, kind: str, address: str) -> None:
        """What the token was taken for did not count."""
        buckets = self._buckets[kind]
        if buckets is not None:
            buckets.give(network_of(address))
