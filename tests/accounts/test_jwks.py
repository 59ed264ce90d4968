"""The keys of outside issuers: what of a document counts, and how they are fetched and kept."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor, ssl
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, ResponseDone
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from oxidecast.accounts.jwks import (
    FETCH_TIMEOUT,
    FRESH,
    INTERVAL,
    LARGEST_SET,
    MOST_KEYS,
    OLDEST,
    RemoteKeys,
    parse_keys,
)
from tests.accounts.pem import ec_key, jwk, private_pem, rsa_key

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
MEMBERS = ("kty", "kid", "use", "alg", "crv", "n", "e", "x", "y", "k", "d", "key_ops")


def document(*keys: Any) -> bytes:
    return json.dumps({"keys": keys}).encode()


class Parsing(SynchronousTestCase):
    def test_public_keys_by_name_with_their_algorithm(self) -> None:
        found = parse_keys(
            document(
                jwk(rsa_key(), "a"),
                jwk(rsa_key(), "b", alg="PS256", use="sig"),
                jwk(ec_key(), "c"),
                jwk(ec_key(ec.SECP384R1), "d"),
                {
                    "kty": "OKP",
                    "crv": "Ed25519",
                    "kid": "e",
                    "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
                },
            )
        )
        self.assertEqual(
            {kid: key.algorithm for kid, key in found.items()},
            {"a": "RS256", "b": "PS256", "c": "ES256", "d": "ES384", "e": "EdDSA"},
        )

    def test_what_cannot_be_used_is_left_out(self) -> None:
        secret = {"kty": "oct", "k": "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlY3JldA", "kid": "x"}
        for one in (
            secret,
            {**secret, "alg": "RS256"},
            {**jwk(rsa_key(), "x"), "alg": "HS256"},
            {**jwk(rsa_key(), "x"), "alg": "none"},
            {**jwk(rsa_key(), "x"), "alg": ["RS256"]},
            {**jwk(rsa_key(), "x"), "alg": "RSA-OAEP"},
            {**jwk(rsa_key(), "x"), "use": "enc"},
            {**jwk(rsa_key(), "x"), "n": "AA"},
            {**jwk(rsa_key(), "x"), "n": "_" * 20_000},
            {**jwk(rsa_key(), "x"), "d": "AQAB"},
            jwk(rsa_key(1024), "x"),
            {**jwk(ec_key(), "x"), "crv": "P-999"},
            {**jwk(ec_key(), "x"), "x": "AAAA"},
            {**jwk(rsa_key(), "x"), "kid": 1},
            {key: value for key, value in jwk(rsa_key(), "x").items() if key != "kid"},
            {"kid": "x"},
            "x",
            None,
        ):
            self.assertEqual(parse_keys(document(one)), {}, one)
            self.assertEqual(list(parse_keys(document(one, jwk(ec_key(), "good")))), ["good"])

    def test_what_is_no_document(self) -> None:
        for body in (b"", b"[]", b"{}", b'{"keys": {}}', b"<html>", b"\xff", b'{"keys": [', b"[" * 100_000):
            self.assertRaises(ValueError, parse_keys, body)

    def test_there_are_so_many_keys_and_no_more(self) -> None:
        many = [jwk(ec_key(), str(number)) for number in range(MOST_KEYS + 20)]
        self.assertEqual(len(parse_keys(document(*many))), MOST_KEYS)

    @given(
        st.binary(max_size=100)
        | JSON.map(lambda value: msgspec.json.encode(value))
        | st.lists(
            st.dictionaries(
                st.sampled_from(MEMBERS), JSON | st.sampled_from(("RSA", "EC", "OKP", "oct", "sig"))
            )
        ).map(lambda keys: msgspec.json.encode({"keys": keys}))
    )
    @settings(max_examples=200, deadline=None)
    def test_anything_else_is_a_set_or_a_fault(self, body: bytes) -> None:
        try:
            parse_keys(body)
        except ValueError:
            pass


class Response:
    """An answer of an agent, whose body comes as the test says."""

    def __init__(self, body: bytes, code: int = 200) -> None:
        self.code = code
        self._body = body

    def deliverBody(self, protocol: Any) -> None:
        protocol.dataReceived(self._body)
        protocol.connectionLost(Failure(ResponseDone()))


class KeepingCase(SynchronousTestCase):
    """On a clock, with an agent that answers what the test says."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.answers: list[Any] = []
        self.asked = 0
        self.keys = RemoteKeys("https://issuer.example/keys", self.clock, self)

    def request(self, method: bytes, url: bytes, headers: Any) -> Any:
        self.asked += 1
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            return fail(answer)
        return answer if isinstance(answer, Deferred) else succeed(answer)

    def holds(self, *kids: str) -> Response:
        return Response(document(*(jwk(ec_key(), kid) for kid in kids)))

    def find(self, kid: str) -> Deferred[Any]:
        return Deferred.fromCoroutine(self.keys.find(kid))

    def found(self, kid: str) -> bool:
        return self.successResultOf(self.find(kid)) is not None


class Keeping(KeepingCase):
    def test_a_key_is_fetched_once(self) -> None:
        self.answers = [self.holds("a")]
        self.assertTrue(self.found("a"))
        self.clock.advance(FRESH - 1)
        self.assertTrue(self.found("a"))
        self.assertEqual(self.asked, 1)

    def test_all_who_ask_at_once_wait_for_one_fetch(self) -> None:
        answer: Deferred[Any] = Deferred()
        self.answers = [answer]
        asking = [self.find("a") for _ in range(3)]
        asking[0].cancel()
        self.failureResultOf(asking[0])
        answer.callback(self.holds("a"))
        for one in asking[1:]:
            self.assertIsNot(self.successResultOf(one), None)
        self.assertEqual(self.asked, 1)

    def test_a_new_name_makes_us_look_again_but_not_often(self) -> None:
        self.answers = [self.holds("a"), self.holds("a", "b"), self.holds("a", "b")]
        self.assertTrue(self.found("a"))
        self.clock.advance(INTERVAL)
        self.assertTrue(self.found("b"))
        for number in range(100):
            self.assertFalse(self.found(f"invented{number}"))
        self.assertEqual(self.asked, 2)
        self.clock.advance(INTERVAL)
        self.assertFalse(self.found("invented"))
        self.assertEqual(self.asked, 3)

    def test_old_keys_are_fetched_anew_behind_the_callers_back(self) -> None:
        answer: Deferred[Any] = Deferred()
        self.answers = [self.holds("a"), answer]
        self.found("a")
        self.clock.advance(FRESH)
        self.assertTrue(self.found("a"))
        self.assertEqual(self.asked, 2)
        answer.callback(self.holds("b"))
        self.assertFalse(self.found("a"))
        self.assertTrue(self.found("b"))

    def test_they_count_while_the_issuer_is_away_but_not_for_ever(self) -> None:
        for away in (
            OSError("away"),
            Response(b"", 500),
            Response(b"<html>"),
            Response(b"x" * (LARGEST_SET + 1)),
        ):
            self.setUp()
            self.answers = [self.holds("a"), away, *[OSError("away")] * 99]
            self.found("a")
            self.clock.advance(FRESH)
            self.assertTrue(self.found("a"))
            self.clock.advance(OLDEST - FRESH - 1)
            self.assertTrue(self.found("a"))
            self.clock.advance(1)
            self.assertFalse(self.found("a"))

    def test_an_issuer_that_never_answers_holds_nobody_up_for_long(self) -> None:
        self.answers = [Deferred(), self.holds("a")]
        asking = self.find("a")
        self.assertNoResult(asking)
        self.clock.advance(FETCH_TIMEOUT)
        self.assertIs(self.successResultOf(asking), None)
        self.assertFalse(self.found("a"))  # at once: it is not asked again yet
        self.clock.advance(INTERVAL)
        self.assertTrue(self.found("a"))

    def test_closing_ends_what_is_under_way(self) -> None:
        self.answers = [Deferred()]
        asking = self.find("a")
        self.keys.close()
        self.assertIs(self.successResultOf(asking), None)
        self.assertFalse(self.found("a"))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_clock_that_goes_back_stops_nothing(self) -> None:
        self.answers = [self.holds("a"), self.holds("b")]
        self.found("a")
        self.clock.rightNow -= 500_000
        self.assertTrue(self.found("b"))


class Odd(Resource):
    """An issuer's site."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[bytes] = []

    def render_GET(self, request: Request) -> Any:
        self.asked.append(request.path)
        if request.path == b"/moved":
            request.redirect(b"/keys")
            return b""
        if request.path == b"/endless":
            self._more(request)
            return NOT_DONE_YET
        if request.path == b"/slow":
            request.write(b"{")
            return NOT_DONE_YET
        return document(jwk(ec_key(), "a"))

    def _more(self, request: Request) -> None:
        if not request._disconnected:  # type: ignore[attr-defined]
            request.write(b" " * 65_536)
            reactor.callLater(0, self._more, request)  # type: ignore[attr-defined]


class Fetching(TestCase):
    """By HTTP and HTTPS, from a real server."""

    timeout = 20

    def setUp(self) -> None:
        self.odd = Odd()
        self.site = Site(self.odd)
        self.site.noisy = False

    async def fetched(self, path: str, agent: Any = None, scheme: str = "http", context: Any = None) -> bool:
        listen: Any = reactor
        if context is None:
            port = listen.listenTCP(0, self.site, interface="127.0.0.1")
        else:
            port = listen.listenSSL(0, self.site, context, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        url = f"{scheme}://localhost:{port.getHost().port}{path}"
        keys = RemoteKeys(url, Timed(), agent or Agent(reactor))
        self.addCleanup(keys.close)
        return await Deferred.fromCoroutine(keys.find("a")) is not None

    async def test_keys_come_by_http(self) -> None:
        self.assertTrue(await self.fetched("/keys"))

    async def test_redirects_are_not_followed(self) -> None:
        self.assertFalse(await self.fetched("/moved"))
        self.assertEqual(self.odd.asked, [b"/moved"])

    async def test_a_body_without_end_is_cut(self) -> None:
        self.assertFalse(await self.fetched("/endless"))

    async def test_a_body_that_stops_is_given_up(self) -> None:
        self.assertFalse(await self.fetched("/slow"))

    async def test_a_certificate_that_nobody_vouches_for_is_refused(self) -> None:
        certificate = self_signed()
        self.assertFalse(await self.fetched("/keys", None, "https", certificate.options()))
        self.assertEqual(self.odd.asked, [])

    async def test_keys_come_by_https(self) -> None:
        certificate = self_signed()
        agent = Agent(reactor, BrowserLikePolicyForHTTPS(ssl.trustRootFromCertificates([certificate])))
        self.assertTrue(await self.fetched("/keys", agent, "https", certificate.options()))


class Timed:
    """The reactor, on which fetches end soon."""

    def seconds(self) -> float:
        return float(reactor.seconds())  # type: ignore[attr-defined]

    def callLater(self, delay: float, call: Any, *args: Any) -> Any:
        return reactor.callLater(min(delay, 1.0), call, *args)  # type: ignore[attr-defined]


def self_signed() -> ssl.PrivateCertificate:
    """For localhost."""
    key, name = rsa_key(), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    return ssl.PrivateCertificate.loadPEM(made.public_bytes(Encoding.PEM) + private_pem(key))
