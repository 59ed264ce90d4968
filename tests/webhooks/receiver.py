"""A receiver of webhooks: a real HTTP server on 127.0.0.1, which notes what is posted, and answers as it is told to."""

import datetime
import ipaddress
import json
from collections.abc import Callable
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.internet import reactor, ssl
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHostResolution
from twisted.internet.task import deferLater
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from zope.interface import implementer

from oxidecast.webhooks.client import Undelivered

SECRET = "a-secret-of-an-endpoint-that-is-long-enough"


class Posted(NamedTuple):
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Receiver(Resource):
    """`answers` are used up one by one, the last for good: a status, a body, further headers; None is no answer."""

    isLeaf = True

    def __init__(self, *answers: tuple[int, bytes, dict[str, str]] | None) -> None:
        super().__init__()
        self.answers = list(answers) or [(204, b"", {})]
        self.posts: list[Posted] = []
        self.port = 0
        self.held: list[Any] = []
        """Requests that were not answered."""

    def render(self, request: Any) -> Any:
        headers = {
            name.decode().lower(): values[-1].decode()
            for name, values in request.requestHeaders.getAllRawHeaders()
        }
        self.posts.append(Posted(request.uri.decode(), headers, request.content.read()))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is None:
            self.held.append(request)
            return NOT_DONE_YET
        status, body, more = answer
        request.setResponseCode(status)
        for name, value in more.items():
            request.setHeader(name, value)
        return body

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def listen(self, case: Any, tls: Any = None) -> "Receiver":
        site = Site(self)
        site.noisy = False
        listening = (
            reactor.listenSSL(0, site, tls, interface="127.0.0.1")
            if tls is not None
            else reactor.listenTCP(0, site, interface="127.0.0.1")
        )
        self.port = listening.getHost().port
        case.addCleanup(listening.stopListening)
        return self

    async def wait(self, count: int, seconds: float = 10) -> list[Posted]:
        """The posts, once there are so many."""
        await true(lambda: len(self.posts) >= count, seconds)
        return self.posts


async def true(look: Callable[[], bool], seconds: float = 10) -> None:
    """Wait until it is."""
    deadline = reactor.seconds() + seconds
    while not look():
        if reactor.seconds() > deadline:
            raise AssertionError(f"not within {seconds:g} s")
        await deferLater(reactor, 0.01)


class Names:
    """The reactor with a name service of the test's: `answers` are used up one by one, the last for good."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self.connected: list[str] = []
        self.nameResolver = self

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)

    def connectTCP(self, host: str, port: int, *args: Any, **more: Any) -> Any:
        self.connected.append(host)
        return reactor.connectTCP(host, port, *args, **more)

    def resolveHostName(
        self, receiver: Any, hostName: str, portNumber: int = 0, *more: Any, **others: Any
    ) -> Any:
        self.asked.append(hostName)
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

        @implementer(IHostResolution)
        class Resolution:
            name = hostName

            def cancel(self) -> None: ...

        resolution = Resolution()
        receiver.resolutionBegan(resolution)
        for address in found:
            receiver.addressResolved(IPv4Address("TCP", address, portNumber))
        receiver.resolutionComplete()
        return resolution


class Certificate:
    """A certificate that vouches for itself, for a name or an address."""

    def __init__(self, name: str) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.datetime.now(datetime.UTC)
        try:
            alternative: Any = x509.IPAddress(ipaddress.ip_address(name))
        except ValueError:
            alternative = x509.DNSName(name)
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        pem = made.public_bytes(serialization.Encoding.PEM)
        self.own = ssl.PrivateCertificate.loadPEM(
            pem
            + key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        self.trusted = ssl.Certificate.loadPEM(pem)


class Scripted:
    """Stands for a Poster where the time is the test's: what it is to answer comes from the test."""

    def __init__(self) -> None:
        self.posts: list[tuple[dict[str, str], bytes]] = []
        self.waiting: list[Deferred[Any]] = []

    async def post(self, headers: dict[str, str], body: bytes, within: float) -> Any:
        self.posts.append((dict(headers), body))
        answer: Deferred[Any] = Deferred()
        self.waiting.append(answer)
        return await answer

    def close(self) -> None:
        """Let go of those who wait, and of those who then get their turn."""
        while self.waiting:
            answer = self.waiting.pop()
            if not answer.called:
                answer.errback(Undelivered("the test is over"))
