"""The public keys of an outside issuer, fetched from where it publishes them (JWKS, RFC 7517, 5).

The one idea: whoever asks for a key gets it from memory, or waits a few seconds at most. Keys that have grown old are
fetched anew behind the caller's back, and go on counting for a while when the issuer cannot be reached. A name that is
not known makes us look again, but not often: anybody can invent names.
"""

from collections.abc import Mapping
from typing import Any

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import rsa
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers

from oxidecast.accounts.signing import LEAST_RSA, Key

FRESH = 600.0
"""Seconds after which the keys are fetched anew: what an issuer takes back counts about so long."""
OLDEST = 86_400.0
"""Seconds that keys count while they cannot be fetched: an outage of the issuer, not the end of it."""
INTERVAL = 30.0
"""Seconds between two fetches, whatever the tokens name that come meanwhile."""
FETCH_TIMEOUT = 5.0
"""Seconds for a fetch from beginning to end: somebody may be waiting to watch."""
LARGEST_SET = 262_144
"""Bytes. A key with its chain of certificates has 5 KB, a set few keys."""
MOST_KEYS = 100
LARGEST_RSA = 8192
"""Bits. A signature by a longer one takes milliseconds to check."""
ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)
"""All of public keys: a secret that is published is none."""


def parse_keys(document: bytes) -> dict[str, Key]:
    """The keys of a JWK set that can check signatures, by name. What we cannot use is left out, as RFC 7517, 5 says.
    Raises ValueError for what is no such set."""
    try:
        listed = msgspec.json.decode(document, type=dict[str, Any]).get("keys")
    except RecursionError:
        raise ValueError("the document is nested too deeply") from None
    if not isinstance(listed, list):
        raise ValueError("the document has no list of keys")
    keys = [_key(jwk) for jwk in listed[:MOST_KEYS] if isinstance(jwk, dict)]
    return {key.kid: key for key in keys if key is not None}


def _key(jwk: Mapping[str, Any]) -> Key | None:
    kid = jwk.get("kid")
    if not isinstance(kid, str) or jwk.get("use", "sig") != "sig" or "d" in jwk:
        return None
    try:
        parsed = jwt.PyJWK(dict(jwk))
    except Exception:  # It raises whatever its parts do, NotImplementedError too.
        return None
    key = parsed.key
    if parsed.algorithm_name not in ALGORITHMS:
        return None
    if isinstance(key, rsa.RSAPublicKey) and not LEAST_RSA <= key.key_size <= LARGEST_RSA:
        return None
    return Key(kid, parsed.algorithm_name, key)


class RemoteKeys:
    """The keys at one address. `agent` is an IAgent that follows no redirects."""

    log = Logger()

    def __init__(self, url: str, clock: Any, agent: Any) -> None:
        self._url = url
        self._clock = clock
        self._agent = agent
        self._keys: dict[str, Key] = {}
        self._fetched = self._asked = float("-inf")
        self._fetching: Deferred[None] | None = None
        self._waiting: list[Deferred[None]] = []
        self._closed = False

    async def find(self, kid: str) -> Key | None:
        """The key of that name, after `FETCH_TIMEOUT` at the latest."""
        if not self._within(self._fetched, OLDEST):
            self._keys = {}
        if kid not in self._keys:
            if self._refresh():
                waiting: Deferred[None] = Deferred()
                self._waiting.append(waiting)
                await waiting
        elif not self._within(self._fetched, FRESH):
            self._refresh()
        return self._keys.get(kid)

    def close(self) -> None:
        """Fetch no more."""
        self._closed = True
        if self._fetching is not None:
            self._fetching.cancel()

    def _within(self, since: float, seconds: float) -> bool:
        # A clock that was set back must not stretch anything.
        return 0.0 <= float(self._clock.seconds()) - since < seconds

    def _refresh(self) -> bool:
        """Fetch, unless that was tried lately; whether a fetch is under way."""
        if self._fetching is None and not self._closed and not self._within(self._asked, INTERVAL):
            self._asked = self._clock.seconds()
            body = Deferred.fromCoroutine(self._body())
            body.addTimeout(FETCH_TIMEOUT, self._clock)
            self._fetching = body.addCallbacks(self._take, self._miss)
            self._fetching.addBoth(self._done)
        return self._fetching is not None

    def _take(self, body: bytes) -> None:
        try:
            self._keys = parse_keys(body)
        except ValueError as error:
            self.log.warn("{url} does not hold keys: {error}", url=self._url, error=error)
        else:
            self._fetched = self._clock.seconds()

    def _miss(self, failure: Failure) -> None:
        if not self._closed:
            reason = failure.getErrorMessage() or type(failure.value).__name__
            if failure.check(TimeoutError):
                reason = f"they did not come within {FETCH_TIMEOUT:g} s"
            self.log.warn("the keys at {url} cannot be fetched: {reason}", url=self._url, reason=reason)

    def _done(self, result: Any) -> Any:
        self._fetching = None
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(None)
        return result

    async def _body(self) -> bytes:
        headers = Headers({"Accept": ["application/json, application/jwk-set+json"]})
        response = await self._agent.request(b"GET", self._url.encode(), headers)
        body = _Body()
        response.deliverBody(body)
        document: bytes = await body.done
        if response.code != 200:
            raise ValueError(f"the answer is {response.code}")
        return document


class _Body(Protocol):
    """Collects a body, as far as it may go."""

    def __init__(self) -> None:
        self.done: Deferred[bytes] = Deferred(lambda _: self._cut())
        self._received = bytearray()

    def dataReceived(self, data: bytes) -> None:
        if self.done.called:
            return
        self._received += data
        if len(self._received) > LARGEST_SET:
            self.done.errback(ValueError(f"the answer is longer than {LARGEST_SET} bytes"))
            self._cut()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.done.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.done.callback(bytes(self._received))
        else:
            self.done.errback(reason)

    def _cut(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()
