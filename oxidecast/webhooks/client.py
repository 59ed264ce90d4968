"""Posting to one address: bounded in time and size, and never to an address that is not allowed.

The one idea: the guard stands in the reactor's place. Twisted's agent resolves names and makes connections through it,
so nothing is connected to that has not been looked at in that very call; a name that means something else a moment
later gains nothing. Redirects are not followed: they are answers like others.
"""

from collections.abc import Mapping
from io import BytesIO
from typing import Any, NamedTuple, cast

from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet import error, interfaces
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, BrowserLikePolicyForHTTPS, FileBodyProducer, ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IPolicyForHTTPS
from zope.interface import implementer

import oxidecast
from oxidecast.webhooks.addresses import refusal

CONNECT_TIMEOUT = 5.0
"""Seconds for one address; a name may have several."""

LARGEST_ANSWER = 16_384
"""Bytes of an answer's body that are read: a decision is a few hundred."""


class Undelivered(Exception):
    """There was no answer. The text says why, and never holds the address that was posted to."""


class Forbidden(Exception):
    """The address must not be connected to."""


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: Headers
    body: bytes
    whole: bool
    """False when the body was longer than LARGEST_ANSWER, or broke off."""


@implementer(interfaces.IReactorTCP, interfaces.IReactorTime, interfaces.IReactorPluggableNameResolver)
class GuardedReactor:
    """The reactor as far as one request needs it."""

    def __init__(self, reactor: Any, allow_private: bool) -> None:
        self._reactor = reactor
        self._allow_private = allow_private
        self._connectors: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None
    ) -> Any:
        reason = refusal(host, self._allow_private)
        if reason is not None:
            raise Forbidden(f"it {reason}")
        connector = self._reactor.connectTCP(host, port, factory, timeout, bindAddress)
        self._connectors.append(connector)
        return connector

    def close(self) -> None:
        """Cut what is still open, whatever the other side does."""
        for connector in self._connectors:
            if connector.state == "connected":
                connector.transport.abortConnection()
            elif connector.state == "connecting":
                connector.stopConnecting()


@implementer(IAgentEndpointFactory, interfaces.IStreamClientEndpoint)
class _Way:
    """The way to one URL's host, through a guard. `tls` is None for plain HTTP."""

    def __init__(self, guarded: GuardedReactor, tls: Any) -> None:
        self._guarded = guarded
        self._tls = tls
        self._endpoint: Any = None

    def endpointForURI(self, uri: URI) -> "_Way":
        host = uri.host.decode("ascii")
        self._endpoint = HostnameEndpoint(self._guarded, host, uri.port, timeout=CONNECT_TIMEOUT)
        if self._tls is not None:
            self._endpoint = wrapClientTLS(self._tls, self._endpoint)
        return self

    def connect(self, factory: Any) -> Deferred[Any]:
        factory.noisy = False  # or each post would be two lines of the log
        connecting: Deferred[Any] = self._endpoint.connect(factory)
        return connecting


class _Body(Protocol):
    """The beginning of a body."""

    def __init__(self) -> None:
        self.done: Deferred[tuple[bytes, bool]] = Deferred()
        self._received = b""

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        if len(self._received) > LARGEST_ANSWER:
            self._finish(False)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._finish(reason.check(ResponseDone) is not None)

    def _finish(self, whole: bool) -> None:
        if not self.done.called:
            self.done.callback((self._received[:LARGEST_ANSWER], whole))


class Poster:
    """Posts JSON to one URL, each time by a connection of its own."""

    def __init__(
        self, reactor: Any, url: str, allow_private: bool, policy: IPolicyForHTTPS | None = None
    ) -> None:
        self._reactor = reactor
        self._url = url.encode("ascii")
        uri = URI.fromBytes(self._url)
        self._host = uri.host.decode("ascii")
        self._allow_private = allow_private
        self._tls: Any = None
        if uri.scheme == b"https":
            # Made once: it reads the certificates that the system trusts.
            self._tls = (policy or BrowserLikePolicyForHTTPS()).creatorForNetloc(uri.host, uri.port)

    async def post(self, headers: Mapping[str, str], body: bytes, within: float) -> Answer:
        """The answer, whatever its status. Raises Undelivered after `within` seconds, or when there is none."""
        guarded = GuardedReactor(self._reactor, self._allow_private)
        posting = Deferred.fromCoroutine(self._post(guarded, headers, body))
        posting.addTimeout(within, self._reactor, onTimeoutCancel=_too_late)
        try:
            return await posting
        except (Undelivered, CancelledError):
            raise
        except Exception as problem:
            raise Undelivered(f"{self._host} {_words(problem)}") from None
        finally:
            guarded.close()

    async def _post(self, guarded: GuardedReactor, headers: Mapping[str, str], body: bytes) -> Answer:
        agent = Agent.usingEndpointFactory(guarded, _Way(guarded, self._tls))
        sent = Headers(
            {
                "Content-Type": ["application/json"],
                "User-Agent": [f"OxideCast/{oxidecast.__version__}"],
                **{name: [value] for name, value in headers.items()},
            }
        )
        response = await agent.request(b"POST", self._url, sent, FileBodyProducer(BytesIO(body)))
        content = _Body()
        response.deliverBody(content)
        beginning, whole = await content.done
        return Answer(response.code, cast(Headers, response.headers), beginning, whole)


def _too_late(result: object, timeout: float) -> Failure:
    return Failure(Undelivered(f"there was no answer within {timeout:g} s"))


def _words(problem: BaseException) -> str:
    """What went wrong, without anything that the other side or an address could have put into it."""
    inner = getattr(problem, "reasons", None)
    if inner:
        return _words(inner[0].value)
    if isinstance(problem, Forbidden):
        return f"was not connected to, because {problem}; allow_private opens private networks"
    if isinstance(problem, error.DNSLookupError):
        return "is not a name that resolves"
    if isinstance(problem, error.ConnectionRefusedError):
        return "refused the connection"
    if isinstance(problem, error.TimeoutError):
        return "did not take the connection in time"
    if isinstance(problem, SSL.Error | VerificationError):
        return "could not be verified by TLS: its certificate must be valid for its name"
    if isinstance(problem, error.ConnectionLost | error.ConnectionDone | error.ConnectError):
        return "broke the connection off"
    return f"could not be posted to ({type(problem).__name__})"
