"""The way of events to one endpoint: a bounded queue, one post at a time, tried again with growing pauses.

The one idea: the endpoint is well or ill, not the event. Pauses grow with failures in a row, whichever events they
were, and one line in the log says that it is ill, another that it is well again. An event is posted when the one before
it was delivered or given up, so they arrive in order; an answer that is lost makes one arrive twice, with the same id.
"""

import random
from collections import Counter, deque
from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import stringToDatetime
from twisted.web.http_headers import Headers

from oxidecast.webhooks.client import Poster, Undelivered
from oxidecast.webhooks.events import Event

QUEUE = 500
"""Events that wait: at 20 KB the most, 10 MB. Beyond it the oldest that waits is dropped."""

TIMEOUT = 10.0
"""Seconds for one post and its answer."""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds before the second try, doubled with each failure; a restart of a receiver is missed by a minute at most."""

MOST_TRIES = 15
"""Answers (5xx, 429) after which an event is given up: some ten minutes. One that makes its receiver fail must not keep
the others for ever. Tries without any answer do not count: then no event would have fared better."""

LONGEST_AGE = 3600.0
"""Seconds after which an event is given up: nobody acts on a stream that started an hour ago."""

LONGEST_RETRY_AFTER = 300.0
"""Seconds that a receiver can ask to be left alone (`Retry-After`)."""

FLUSH = 1.5
"""Seconds for what waits when the server stops, which gives all of its services two."""

_AGAIN = frozenset({408, 429})
"""Answers below 500 that are tried again: Request Timeout, Too Many Requests."""


class Courier:
    """All events of one endpoint. `counts` are by result: `delivered`, `failed` (tries that are tried again),
    `refused` (an answer that trying again does not change), `given_up` and `dropped`."""

    log = Logger()

    def __init__(
        self,
        name: str,
        poster: Poster,
        key: bytes,
        clock: IReactorTime,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.name = name
        self.queue: deque[Event] = deque()
        """What waits; the one on its way is its first."""
        self.counts: Counter[str] = Counter()
        self._poster = poster
        self._key = key
        self._clock = clock
        self._uniform = uniform
        self._failures = 0
        self._ill = False
        self._busy = False
        self._working: Deferred[None] | None = None
        self._pause: Deferred[None] | None = None
        self._stopping = False

    def send(self, event: Event) -> None:
        """Post it when its turn comes."""
        if len(self.queue) >= QUEUE:
            del self.queue[1]  # the first is on its way
            self.counts["dropped"] += 1
        self.queue.append(event)
        if not self._busy:
            self._busy = True
            self._working = Deferred.fromCoroutine(self._work())
            self._working.addErrback(self._broken)

    async def stop(self) -> None:
        """Try once more what waits, for FLUSH seconds at most."""
        self._stopping = True
        if self._pause is not None:
            self._pause.callback(None)
        if self._busy and self._working is not None:
            await self._working.addTimeout(FLUSH, self._clock, onTimeoutCancel=lambda result, after: None)

    async def _work(self) -> None:
        try:
            while self.queue:
                await self._deliver(self.queue[0])
                self.queue.popleft()
                if self._stopping and self._failures:
                    break
        finally:
            self._busy = False
            if self._stopping and self.queue:
                self.counts["given_up"] += len(self.queue)
                self.log.warn(
                    "webhook {name}: {count} events were not delivered before the server stopped",
                    name=self.name,
                    count=len(self.queue),
                )
                self.queue.clear()

    async def _deliver(self, event: Event) -> None:
        answers = 0
        while self._clock.seconds() - event.at <= LONGEST_AGE:
            least = 0.0
            try:
                answer = await self._poster.post(
                    event.headers(self._clock.seconds(), self._key), event.body, TIMEOUT
                )
            except Undelivered as problem:
                reason = str(problem)
            else:
                if 200 <= answer.status < 300:
                    self._well()
                    return
                answers += 1
                reason = f"it answered {answer.status}"
                if answer.status < 500 and answer.status not in _AGAIN:
                    self.counts["refused"] += 1
                    self._say_ill(f"{reason}, which is not tried again")
                    return
                least = retry_after(answer.headers, self._clock.seconds())
            self._failures += 1
            self._say_ill(reason)
            if self._stopping or answers >= MOST_TRIES:
                break
            self.counts["failed"] += 1
            await self._rest(max(least, self._backoff()))
        self.counts["given_up"] += 1

    def _well(self) -> None:
        self.counts["delivered"] += 1
        self._failures = 0
        if self._ill:
            self._ill = False
            self.log.info("webhook {name}: events are delivered again", name=self.name)

    def _say_ill(self, reason: str) -> None:
        if not self._ill:
            self._ill = True
            self.log.warn("webhook {name}: events are not delivered: {reason}", name=self.name, reason=reason)

    def _backoff(self) -> float:
        # The exponent is bounded because an outage of a week has many failures.
        longest = min(FIRST_PAUSE * 2 ** min(self._failures - 1, 10), LONGEST_PAUSE)
        return self._uniform(longest / 2, longest)

    async def _rest(self, seconds: float) -> None:
        self._pause = Deferred()
        timer = self._clock.callLater(seconds, self._pause.callback, None)
        try:
            await self._pause
        finally:
            self._pause = None
            if timer.active():
                timer.cancel()

    def _broken(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self.log.failure("webhook {name}: posting events broke", failure=failure, name=self.name)


def retry_after(headers: Headers, now: float) -> float:
    """Seconds that the answer asks to wait (RFC 9110, 10.2.3: seconds or a date), bounded; 0 when it does not."""
    text = (headers.getRawHeaders(b"retry-after") or [b""])[-1].strip()
    if text.isdigit() and len(text) < 10:
        return min(float(text), LONGEST_RETRY_AFTER)
    try:
        return min(max(float(stringToDatetime(text)) - now, 0.0), LONGEST_RETRY_AFTER)
    except (ValueError, IndexError, KeyError, OverflowError):
        return 0.0
