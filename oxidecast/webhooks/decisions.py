"""Asking an address of the operator's whether somebody may publish or play.

The one idea: there are three answers. No (401, 403, or `"allow": false`) refuses. Yes in so many words (`"allow":
true`) opens even what is private. Any other success only means that nothing is held against it: the server's own rules
decide, so that an endpoint which answers 200 to everything opens no private stream. All else is a failure, and the
setting `on_failure` says what that means: nothing held against it, or no.
"""

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from oxidecast.interfaces import PlayRequest, Refused
from oxidecast.webhooks.client import Answer, Poster, Undelivered
from oxidecast.webhooks.events import described, event
from oxidecast.webhooks.settings import DeciderSettings
from oxidecast.webhooks.signature import key_of

AT_ONCE = 20
"""Questions on their way to one address."""

MOST_WAITING = 1000
"""Questions that wait for their turn; those beyond are failures at once. Ten thousand viewers who come in the same
second would otherwise be ten thousand timers, for answers that come too late."""

REMEMBERED_FOR = 10.0
"""Seconds for which an answer about a player counts: pages ask several times while a player starts."""
MOST_REMEMBERED = 10_000
"""About 5 MB."""

LONGEST_SENTENCE = 200
"""Characters of a reason that are shown."""

_AWAY = "Whether this is allowed cannot be found out at the moment: try again later."
_NO = "This is not allowed here."


class Verdict(NamedTuple):
    """No `Refused`, but one of the other answers."""

    allowed: bool = False
    """Said in so many words."""
    stream: str = ""
    """The name or id of the stream that is meant."""
    failed: bool = False


class _Reply(msgspec.Struct):
    """What an answer's body may hold; other fields are for others."""

    allow: bool | None = None
    stream: str = ""
    reason: str = ""


class Decider:
    """One address that is asked. `counts` are by outcome: `allowed`, `refused`, and `failed`."""

    log = Logger()

    def __init__(self, name: str, settings: DeciderSettings, poster: Poster, clock: IReactorTime) -> None:
        self.counts: Counter[str] = Counter()
        self._name = name
        self._settings = settings
        self._poster = poster
        self._key = key_of(settings.secret)
        self._clock = clock
        self._slots = DeferredSemaphore(AT_ONCE)
        self._ill = False

    async def ask(self, type: str, data: Mapping[str, Any], secret: str) -> Verdict:
        """Raises Refused. `secret` is the key or token in question: no sentence that holds it is shown."""
        try:
            answer = await self._exchange(type, data)
            verdict = _read(answer, secret)
        except Undelivered as problem:
            self.counts["failed"] += 1
            self._say_ill(str(problem))
            if self._settings.on_failure == "deny":
                raise Refused("unavailable", _AWAY) from None
            return Verdict(failed=True)
        except Refused:
            self.counts["refused"] += 1
            self._well()
            raise
        self.counts["allowed"] += 1
        self._well()
        return verdict

    async def _exchange(self, type: str, data: Mapping[str, Any]) -> Answer:
        if len(self._slots.waiting) >= MOST_WAITING:
            raise Undelivered("too many questions wait already")
        deadline = self._clock.seconds() + self._settings.timeout
        turn: Deferred[Any] = self._slots.acquire()
        turn.addTimeout(self._settings.timeout, self._clock, onTimeoutCancel=_no_turn)
        await turn
        try:
            now = self._clock.seconds()
            question = event(type, now, data)
            left = max(deadline - now, 0.001)
            return await self._poster.post(question.headers(now, self._key), question.body, left)
        finally:
            self._slots.release()

    def _say_ill(self, reason: str) -> None:
        if not self._ill:
            self._ill = True
            self.log.warn(
                "webhooks.{name}: nobody decides, so on_failure ({rule}) does: {reason}",
                name=self._name,
                rule=self._settings.on_failure,
                reason=reason,
            )

    def _well(self) -> None:
        if self._ill:
            self._ill = False
            self.log.info("webhooks.{name}: it decides again", name=self._name)


class PlayDecider:
    """The address that is asked about players; each question once in a while."""

    def __init__(self, decider: Decider, clock: IReactorTime, send_token: bool) -> None:
        self.counts = decider.counts
        self._decider = decider
        self._clock = clock
        self._send_token = send_token
        self._known: OrderedDict[tuple[str, ...], tuple[float, Verdict | Refused]] = OrderedDict()
        self._asking: dict[tuple[str, ...], list[Deferred[Verdict | Refused]]] = {}

    async def ask(self, stream: Any, request: PlayRequest) -> Verdict:
        """Raises Refused. Who asks the same while the answer is on its way gets that answer."""
        token = hashlib.sha256(request.token.encode("utf-8", "surrogatepass")).hexdigest()
        question = (stream.id, request.protocol, request.address, token)
        until, known = self._known.get(question, (0.0, None))
        if known is None or until <= self._clock.seconds():
            waiter: Deferred[Verdict | Refused] = Deferred()
            waiters = self._asking.setdefault(question, [])
            waiters.append(waiter)
            if len(waiters) == 1:
                # Not tied to who came first: it may go away while others wait.
                Deferred.fromCoroutine(self._find_out(question, stream, request)).addErrback(
                    self._broken, question
                )
            known = await waiter
        if isinstance(known, Refused):
            raise Refused(known.code, known.sentence)
        return known

    async def _find_out(self, question: tuple[str, ...], stream: Any, request: PlayRequest) -> None:
        data = {
            "stream": described(stream),
            "protocol": request.protocol,
            "address": request.address,
            **({"token": request.token} if self._send_token else {}),
        }
        answer: Verdict | Refused
        try:
            answer = await self._decider.ask("play.requested", data, request.token)
        except Refused as refused:
            answer = refused
        failed = answer.code == "unavailable" if isinstance(answer, Refused) else answer.failed
        if not failed:
            self._known.pop(question, None)
            self._known[question] = (self._clock.seconds() + REMEMBERED_FOR, answer)
            if len(self._known) > MOST_REMEMBERED:
                self._known.popitem(last=False)
        self._tell(question, answer)

    def _broken(self, failure: Failure, question: tuple[str, ...]) -> None:
        self._decider.log.failure("webhooks.on_play: asking broke", failure=failure)
        self._tell(question, Refused("unavailable", _AWAY))

    def _tell(self, question: tuple[str, ...], answer: Verdict | Refused) -> None:
        for waiter in self._asking.pop(question, ()):
            if not waiter.called:
                waiter.callback(answer)


def _no_turn(result: object, timeout: float) -> Failure:
    return Failure(Undelivered(f"its turn did not come within {timeout:g} s"))


def _read(answer: Answer, secret: str) -> Verdict:
    """What an answer means. Raises Refused, or Undelivered for one that means nothing."""
    reply = _Reply()
    if answer.status in (401, 403):
        try:
            reply = msgspec.json.decode(answer.body, type=_Reply)
        except (msgspec.DecodeError, RecursionError):
            pass  # A page for people, most likely: the status says enough.
        raise Refused("refused", _sentence(reply.reason, secret))
    if not 200 <= answer.status < 300:
        raise Undelivered(f"it answered {answer.status}")
    if not answer.whole:
        raise Undelivered("its answer is too long, or broke off")
    if answer.body.strip():
        try:
            reply = msgspec.json.decode(answer.body, type=_Reply)
        except (msgspec.DecodeError, RecursionError):
            raise Undelivered("its answer is not the JSON that is asked for") from None
    if reply.allow is False:
        raise Refused("refused", _sentence(reply.reason, secret))
    return Verdict(reply.allow is True, reply.stream)


def _sentence(reason: str, secret: str) -> str:
    """A reason that can be shown: one line, not long, and without the secret."""
    plain = " ".join("".join(char if char.isprintable() else " " for char in reason).split())
    if not plain or (secret and secret in plain):
        return _NO
    return plain[:LONGEST_SENTENCE]
