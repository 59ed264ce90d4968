"""Access and playback tokens, and every way to forge one that the field knows."""

import base64
import json

import jwt
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.accounts import InvalidToken, Keyring, Tokens, secret_key
from oxidecast.database.users import User
from tests.accounts.support import SECRET
from tests.database.support import START

HOME = "192.0.2.1"
ADA = User(
    id="1",
    username="ada",
    email=None,
    role="streamer",
    password_hash="",
    disabled=False,
    created_at=START,
    updated_at=START,
    last_login_at=None,
    token_generation=7,
)


class TokensCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(START.timestamp())
        self.tokens = self.made(SECRET)

    def made(self, secret: bytes, *before: bytes) -> Tokens:
        ring = Keyring(secret_key(secret), *(secret_key(old) for old in before))
        return Tokens(ring, self.clock, 3600.0)

    def assertInvalid(self, token: str, code: str = "token_invalid") -> None:
        error = self.assertRaises(InvalidToken, self.tokens.verify_access, token)
        self.assertEqual(error.code, code)

    def forged(self, secret: bytes | None = SECRET, algorithm: str = "HS256", **changes: object) -> str:
        genuine = self.tokens.access(ADA)
        payload = jwt.decode(genuine, options={"verify_signature": False})
        payload.update(changes)
        payload = {key: value for key, value in payload.items() if value is not None}
        headers = {"kid": jwt.get_unverified_header(genuine)["kid"]}
        return jwt.encode(payload, secret, algorithm, headers)


class Access(TokensCase):
    def test_a_token_says_whose_it_is(self) -> None:
        claims = self.tokens.verify_access(self.tokens.access(ADA))
        self.assertEqual((claims.sub, claims.username, claims.role, claims.gen), ("1", "ada", "streamer", 7))
        self.assertEqual(claims.exp - claims.iat, 3600)

    def test_two_tokens_differ(self) -> None:
        self.assertNotEqual(self.tokens.access(ADA), self.tokens.access(ADA))

    def test_it_ends(self) -> None:
        token = self.tokens.access(ADA)
        self.clock.advance(3599)
        self.tokens.verify_access(token)
        self.clock.advance(1)
        self.assertInvalid(token, "token_expired")

    def test_the_helper_forges_what_is_accepted_when_nothing_is_changed(self) -> None:
        self.tokens.verify_access(self.forged())

    def test_another_secret(self) -> None:
        self.assertInvalid(self.forged(secret=b"another secret that is long enough too"))
        self.assertInvalid(self.made(SECRET + b"!").access(ADA))

    def test_another_audience_issuer_kind(self) -> None:
        for changes in ({"aud": "x"}, {"aud": ["oxidecast-api"]}, {"iss": "x"}, {"typ": "playback"}):
            self.assertInvalid(self.forged(**changes))

    def test_missing_and_mistyped_claims(self) -> None:
        for claim in ("sub", "aud", "iss", "typ", "exp", "iat", "jti", "username", "role", "gen"):
            self.assertInvalid(self.forged(**{claim: None}))
            if claim not in {"aud", "iss"}:
                self.assertInvalid(self.forged(**{claim: {"a": 1}}))

    def test_no_algorithm_and_others(self) -> None:
        self.assertInvalid(self.forged(secret=None, algorithm="none"))
        self.assertInvalid(self.forged(secret=SECRET * 2, algorithm="HS512"))

    def test_a_changed_payload(self) -> None:
        head, payload, signature = self.tokens.access(ADA).split(".")
        claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
        claims["role"] = "admin"
        changed = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
        self.assertInvalid(f"{head}.{changed}.{signature}")

    def test_another_key_id(self) -> None:
        payload = jwt.decode(self.tokens.access(ADA), options={"verify_signature": False})
        self.assertInvalid(jwt.encode(payload, SECRET, "HS256", {"kid": "x"}))
        self.assertInvalid(jwt.encode(payload, SECRET, "HS256"))

    def test_a_token_that_is_too_long_is_not_even_parsed(self) -> None:
        self.assertInvalid("a" * 5000)

    @given(
        st.text(max_size=200)
        | st.lists(st.binary(max_size=60), min_size=3, max_size=3).map(
            lambda parts: ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)
        )
    )
    @settings(max_examples=150, deadline=None)
    def test_anything_else(self, text: str) -> None:
        self.setUp()
        self.assertInvalid(text)


class Playback(TokensCase):
    def test_it_opens_its_stream_only(self) -> None:
        token = self.tokens.playback("s1")
        self.assertEqual(self.tokens.verify_playback(token, "s1", HOME).sub, "s1")
        self.assertRaises(InvalidToken, self.tokens.verify_playback, token, "s2", HOME)

    def test_it_ends_soon(self) -> None:
        token = self.tokens.playback("s1")
        self.clock.advance(300)
        self.assertRaises(InvalidToken, self.tokens.verify_playback, token, "s1", HOME)

    def test_one_for_an_address_opens_from_its_network_alone(self) -> None:
        for address, same, other in (
            (HOME, (HOME, f"::ffff:{HOME}"), ("192.0.2.2", "", "2001:db8::1")),
            ("2001:db8::1", ("2001:db8::2", "2001:db8:0:0:ffff::%eth0"), ("2001:db8:0:1::1", HOME)),
        ):
            token = self.tokens.playback("s1", address)
            for presented in same:
                self.tokens.verify_playback(token, "s1", presented)
            for presented in other:
                self.assertRaises(InvalidToken, self.tokens.verify_playback, token, "s1", presented)

    def test_one_for_everybody_opens_from_anywhere(self) -> None:
        token = self.tokens.playback("s1")
        for presented in (HOME, "2001:db8::1", ""):
            self.tokens.verify_playback(token, "s1", presented)

    def test_it_says_who_gave_it_away(self) -> None:
        for by in (None, ("1", 7)):
            claims = self.tokens.verify_playback(self.tokens.playback("s1", by=by), "s1", HOME)
            self.assertEqual(claims.by, by)

    def test_neither_kind_passes_for_the_other(self) -> None:
        self.assertInvalid(self.tokens.playback("s1"))
        self.assertRaises(InvalidToken, self.tokens.verify_playback, self.tokens.access(ADA), "1", HOME)
