"""Whose an outside token is, and every outside token that is nobody's."""

import base64
import hmac
import json
from typing import Any

import jwt
import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.accounts import Accounts, InvalidToken, Keyring, LoginThrottle, Tokens, secret_key
from oxidecast.accounts.jwks import parse_keys
from oxidecast.accounts.outsiders import LEEWAY, Outsider, Outsiders
from oxidecast.accounts.settings import AuthSettings, IssuerSettings
from oxidecast.accounts.signing import Key
from oxidecast.database.audit import AuditLog
from oxidecast.database.users import User
from oxidecast.foundation import configure
from oxidecast.settings.errors import StartError
from tests.accounts.pem import ec_key, jwk, public_pem, rsa_key
from tests.accounts.support import PASSWORD, SECRET, AccountsCase
from tests.accounts.test_jwks import document
from tests.database.support import START, both_engines
from tests.settings.support import temporary_folder

ISSUER = "https://login.example.com/realms/main"
KEYS = parse_keys(document(jwk(rsa_key(), "r"), jwk(ec_key(), "e")))
PUBLIC = IssuerSettings(issuer=ISSUER, jwks_url="https://login.example.com/keys", audience="oxidecast")


class Published:
    """Keys that are there."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def find(self, kid: str) -> Key | None:
        self.asked.append(kid)
        return KEYS.get(kid)

    def close(self) -> None:
        pass


def payload(**changes: Any) -> dict[str, Any]:
    now = int(START.timestamp())
    claims = {
        "iss": ISSUER,
        "aud": "oxidecast",
        "sub": "u-1",
        "preferred_username": "ada",
        "iat": now,
        "exp": now + 300,
        **changes,
    }
    return {name: value for name, value in claims.items() if value is not None}


def token(key: Any = None, algorithm: str = "RS256", headers: Any = None, **changes: Any) -> str:
    """A genuine one, but for the changes; None takes a claim away."""
    said = {"kid": "e" if algorithm == "ES256" else "r", **(headers or {})}
    secret = key if key is not None else ec_key() if algorithm == "ES256" else rsa_key()
    return jwt.encode(payload(**changes), secret, algorithm, said)


class Verifying(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(START.timestamp())
        self.keys = Published()
        self.outsider = self.made(PUBLIC)

    def made(self, settings: IssuerSettings) -> Outsider:
        database: Any = None
        keys: Any = self.keys
        return Outsider(settings, keys, database, self.clock, "")

    def verify(self, text: str) -> Deferred[Any]:
        return Deferred.fromCoroutine(self.outsider.verify(text))

    def assertGood(self, text: str) -> None:
        self.assertEqual(self.successResultOf(self.verify(text))["iss"], ISSUER)

    def assertBad(self, text: str, code: str = "token_invalid") -> None:
        self.assertEqual(self.failureResultOf(self.verify(text), InvalidToken).value.code, code)

    def test_genuine_ones(self) -> None:
        for good in (
            token(),
            token(algorithm="ES256"),
            token(aud=["another", "oxidecast"]),
            token(headers={"typ": "at+jwt"}),
            token(headers={"typ": "application/at+JWT"}),
            token(iat=START.timestamp() + LEEWAY - 0.5),
        ):
            self.assertGood(good)

    def test_another_audience_or_issuer(self) -> None:
        for changes in (
            {"aud": "another"},
            {"aud": ["another"]},
            {"aud": []},
            {"iss": f"{ISSUER}/"},
            {"iss": "x"},
        ):
            self.assertBad(token(**changes))

    def test_its_time(self) -> None:
        now = START.timestamp()
        self.assertGood(token(exp=now - LEEWAY + 1))
        self.assertBad(token(exp=now - LEEWAY), "token_expired")
        self.assertBad(token(nbf=now + LEEWAY + 1))
        self.assertBad(token(iat=now + LEEWAY + 1))
        self.assertBad(token(exp="tomorrow"))
        self.assertBad(token(exp=float("nan")), "token_expired")
        self.assertBad(token(iat=float("nan")))

    def test_missing_and_mistyped_claims(self) -> None:
        for claim in ("iss", "aud", "sub", "exp", "iat"):
            self.assertBad(token(**{claim: None}))
        for subject in ("", "x" * 256, "a\0b", "é", "\ud800"):
            self.assertBad(token(sub=subject))

    def test_other_algorithms_than_the_keys(self) -> None:
        for algorithm in ("RS384", "PS256"):
            self.assertBad(token(algorithm=algorithm))
        self.assertBad(token(rsa_key(), headers={"kid": "e"}))
        self.assertBad(jwt.encode(payload(), None, "none", {"kid": "r"}))
        for kid in "re":
            self.assertBad(jwt.encode(payload(), SECRET, "HS256", {"kid": kid}))

    def test_a_public_key_is_no_secret(self) -> None:
        parts = [{"alg": "HS256", "typ": "JWT", "kid": "r"}, payload()]
        said = ".".join(
            base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts
        )
        signature = hmac.digest(public_pem(rsa_key()), said.encode(), "sha256")
        self.assertBad(f"{said}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}")

    def test_another_key_or_none(self) -> None:
        self.assertBad(token(rsa_key(2048, 1)))
        self.assertBad(token(headers={"kid": "unknown"}))
        self.assertBad(jwt.encode(payload(), rsa_key(), "RS256"))

    def test_where_a_token_says_its_keys_are_nobody_looks(self) -> None:
        own = {
            "jku": "https://evil.example/",
            "x5u": "https://evil.example/",
            "jwk": jwk(rsa_key(2048, 1), "r"),
        }
        self.assertBad(token(rsa_key(2048, 1), headers=own))
        self.assertEqual(self.keys.asked, ["r"])

    def test_tokens_for_other_uses(self) -> None:
        for kind in ("logout+jwt", "secevent+jwt", "dpop+jwt", "JOSE"):
            self.assertBad(token(headers={"typ": kind}))

    @given(
        st.text(max_size=100)
        | st.lists(st.binary(max_size=40), min_size=3, max_size=3).map(
            lambda parts: ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)
        )
    )
    @settings(max_examples=100, deadline=None)
    def test_anything_else(self, text: str) -> None:
        self.setUp()
        self.assertBad(text)
        outsiders = Outsiders({ISSUER: self.outsider}, [])
        self.assertIs(outsiders.of(text), None)

    @given(
        st.dictionaries(
            st.sampled_from(("sub", "aud", "exp", "iat", "nbf", "typ")),
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats()
            | st.text(max_size=9)
            | st.lists(st.text(max_size=3), max_size=2),
        )
    )
    @settings(max_examples=100, deadline=None)
    def test_odd_claims_that_are_signed(self, changes: dict[str, Any]) -> None:
        self.setUp()
        body = json.dumps({**payload(), **changes}).encode()
        text = jwt.api_jws.encode(body, rsa_key(), "RS256", {"kid": "r"})
        verified = self.verify(text)
        verified.addErrback(lambda failure: failure.trap(InvalidToken))
        self.successResultOf(verified)


class OutsiderCase(AccountsCase):
    settings = PUBLIC

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        keys: Any = Published()
        self.outsider = Outsider(self.settings, keys, self.database, self.clock, self.passwords.no_password)
        self.accounts = Accounts(
            self.database,
            self.clock,
            self.passwords,
            Tokens(Keyring(secret_key(SECRET)), self.clock, 3600.0),
            LoginThrottle(self.clock, 3, 10.0),
            86_400.0,
            Outsiders({ISSUER: self.outsider}, []),
        )

    async def who(self, **claims: Any) -> User | None:
        try:
            return await self.accounts.bearer(token(**claims))
        except InvalidToken:
            return None

    async def assertNobody(self, **claims: Any) -> None:
        self.assertIs(await self.who(**claims), None)

    async def count(self) -> int:
        return (await self.accounts.users.page()).total


@both_engines
class Named(OutsiderCase):
    """`create = false`: the token names an account."""

    async def test_the_account_of_that_name(self) -> None:
        ada = await self.accounts.create("ada", PASSWORD, "streamer")
        for name in ("ada", "Ada"):
            self.assertEqual(await self.who(preferred_username=name, sub=name), ada)

    async def test_nobody_is_made(self) -> None:
        await self.assertNobody()
        self.assertEqual(await self.count(), 0)

    async def test_a_disabled_account_is_nobody(self) -> None:
        await self.disable(await self.accounts.create("ada", PASSWORD))
        await self.assertNobody()

    async def test_names_that_are_none(self) -> None:
        await self.accounts.create("ada", PASSWORD)
        for name in (None, "", 1, ["ada"], {"ada": 1}, "ad", "ada\0", "\ud800ada", "a" * 1000, "'; --"):
            await self.assertNobody(preferred_username=name)

    async def test_our_own_tokens_are_as_ever(self) -> None:
        await self.accounts.create("ada", PASSWORD)
        login = await self.accounts.login("ada", PASSWORD, "192.0.2.1")
        self.assertEqual((await self.accounts.bearer(login.access_token)).username, "ada")


@both_engines
class ByAddress(OutsiderCase):
    settings = msgspec.structs.replace(PUBLIC, account_claim="email")

    async def test_one_that_is_verified_names_its_account(self) -> None:
        ada = await self.accounts.create("ada", PASSWORD, email="ada@example.com")
        self.assertEqual(await self.who(email="Ada@example.com", email_verified=True), ada)

    async def test_one_that_is_not_names_nobody(self) -> None:
        await self.accounts.create("ada", PASSWORD, email="ada@example.com")
        for verified in (None, False, "true", 1):
            await self.assertNobody(email="ada@example.com", email_verified=verified)

    async def test_an_account_without_one_is_not_found(self) -> None:
        await self.accounts.create("ada", PASSWORD)
        for email in (None, "", "ada", "\ud800@example.com", "a\0@example.com"):
            await self.assertNobody(email=email, email_verified=True)


@both_engines
class Created(OutsiderCase):
    """`create = true`: an account is made for who comes first."""

    settings = msgspec.structs.replace(PUBLIC, create=True)

    async def test_it_is_a_viewer_and_found_again(self) -> None:
        first = await self.who()
        assert first is not None
        self.assertEqual((first.username, first.role), ("ada", "viewer"))
        self.assertEqual(await self.who(), first)
        self.assertEqual(await self.who(preferred_username="renamed"), first)
        self.assertEqual(await self.count(), 1)

    async def test_who_had_it_made_is_written_down(self) -> None:
        await self.who()
        [entry] = (await AuditLog(self.database, self.clock).page()).items
        self.assertEqual(
            (entry.actor, entry.action, entry.target), (f"issuer:{ISSUER}", "user.create", "user:ada")
        )

    async def test_no_password_opens_it(self) -> None:
        await self.who()
        for password in ("", self.passwords.no_password, PASSWORD):
            login = Deferred.fromCoroutine(self.accounts.login("ada", password, "192.0.2.1"))
            await self.assertFailure(login, Exception)

    async def test_a_name_that_is_taken_here_is_not_given_away(self) -> None:
        await self.accounts.create("ada", PASSWORD, "admin")
        await self.assertNobody()
        await self.assertNobody(preferred_username="ADA")
        self.assertEqual(await self.count(), 1)

    async def test_another_person_of_the_same_name_there_is_nobody(self) -> None:
        await self.who()
        await self.assertNobody(sub="u-2")

    async def test_two_calls_at_once_make_one(self) -> None:
        users = await gatherResults([Deferred.fromCoroutine(self.who()) for _ in range(4)])
        self.assertEqual({user.id for user in users if user is not None}, {(await self.who()).id})  # type: ignore[union-attr]
        self.assertEqual(await self.count(), 1)
        self.assertNotIn(None, users)

    async def test_one_that_was_disabled_here_stays_out(self) -> None:
        user = await self.who()
        assert user is not None
        await self.accounts.set_disabled(user.id, True)
        await self.assertNobody()
        await self.accounts.set_disabled(user.id, False)
        self.assertIsNot(await self.who(), None)

    async def test_names_that_cannot_be(self) -> None:
        for name in (None, "", "ad", "a b c", "é" * 5, "x" * 51, ["ada"]):
            await self.assertNobody(preferred_username=name)
        self.assertEqual(await self.count(), 0)

    async def test_a_role_that_is_given_here_stays(self) -> None:
        user = await self.who(groups=["admins"])
        assert user is not None
        await self.accounts.change(user.id, role="streamer")
        again = await self.who(groups=["admins"])
        assert again is not None
        self.assertEqual(again.role, "streamer")


@both_engines
class Roles(OutsiderCase):
    settings = msgspec.structs.replace(
        PUBLIC,
        create=True,
        role_claim="realm_access.roles",
        roles={"team": "streamer", "boss": "admin", "guest": "viewer"},
    )

    async def role(self, said: Any, **claims: Any) -> str | None:
        user = await self.who(realm_access={"roles": said}, **claims)
        return user.role if user is not None else None

    async def test_the_highest_that_the_groups_stand_for(self) -> None:
        await self.accounts.create("root", PASSWORD, "admin")
        for said, role in (
            (["guest", "boss", "team"], "admin"),
            (["team", "other"], "streamer"),
            ("team", "streamer"),
            (["other"], "viewer"),
            ([], "viewer"),
            (None, "viewer"),
            ({"boss": 1}, "viewer"),
            ([["boss"], 1, None], "viewer"),
        ):
            self.assertEqual((said, await self.role(said)), (said, role))
            self.assertEqual((await self.accounts.users.by_username("ada")).role, role)  # type: ignore[union-attr]

    async def test_a_claim_may_have_dots_in_its_name(self) -> None:
        user = await self.who(**{"realm_access.roles": ["team"]})
        assert user is not None
        self.assertEqual(user.role, "streamer")

    async def test_the_last_administrator_stays_one(self) -> None:
        self.assertEqual(await self.role(["boss"]), "admin")
        self.assertEqual(await self.role(["guest"]), "admin")

    async def test_one_that_is_disabled_is_not_raised(self) -> None:
        user = await self.who()
        assert user is not None
        await self.accounts.set_disabled(user.id, True)
        self.assertIs(await self.role(["boss"]), None)
        self.assertEqual((await self.accounts.users.by_id(user.id)).role, "viewer")  # type: ignore[union-attr]


class Settings(SynchronousTestCase):
    def test_as_a_file_says_them(self) -> None:
        file = temporary_folder(self) / "my.toml"
        text = (
            f'[[auth.issuers]]\nissuer = "{ISSUER}"\njwks_url = "https://login.example.com/keys"\n'
            'audience = "oxidecast"\ncreate = true\nrole_claim = "groups"\nroles = { "team" = "streamer" }\n'
        )
        file.write_text(text)
        [issuer] = configure(file, {}).settings.of(AuthSettings).issuers
        self.assertEqual((issuer.issuer, issuer.roles), (ISSUER, {"team": "streamer"}))
        file.write_text(text.replace("https:", "http:"))
        error = self.assertRaises(StartError, configure, file, {})
        self.assertIn("jwks_url", str(error))
        self.assertNotIn("login.example.com", str(error))

    def refused(self, words: str, **changes: Any) -> None:
        values = {**msgspec.to_builtins(PUBLIC), **changes}
        error = self.assertRaises(msgspec.ValidationError, msgspec.convert, values, IssuerSettings)
        self.assertIn(words, str(error))

    def test_where_keys_may_be_fetched_from(self) -> None:
        for url in (
            "http://login.example.com/keys",
            "http://127.0.0.1.example.com/",
            "ftp://login.example.com/",
            "file:///etc/passwd",
            "https://user:word@login.example.com/",
            "https:///keys",
            "https://login.example.com:port/",
            "https://login.example.com/a b",
            "https://é.example/",
            "keys",
        ):
            self.refused("jwks_url must be an https:// address", jwks_url=url)
        for url in (
            "http://127.0.0.1:8080/keys",
            "http://localhost/",
            "http://[::1]:1/",
            "https://x.example:8443/",
        ):
            msgspec.structs.replace(PUBLIC, jwks_url=url).__post_init__()
        msgspec.structs.replace(PUBLIC, jwks_url="http://x.example/", allow_http=True).__post_init__()

    def test_what_does_not_go_together(self) -> None:
        self.refused("issuer must not be", issuer="oxidecast")
        self.refused("goes with create", role_claim="groups")
        self.refused("account_claim", create=True, account_claim="email")
        self.refused("", roles={"team": "king"}, create=True)
        twice = {"issuers": [msgspec.to_builtins(PUBLIC)] * 2}
        error = self.assertRaises(msgspec.ValidationError, msgspec.convert, twice, AuthSettings)
        self.assertIn("issuers must differ", str(error))

    def test_old_secrets_are_as_long_as_new_ones_and_not_shown(self) -> None:
        values = {"previous_jwt_secrets": ["short"]}
        error = self.assertRaises(msgspec.ValidationError, msgspec.convert, values, AuthSettings)
        self.assertIn("previous_jwt_secrets must be at least 32 bytes", str(error))
        self.assertNotIn("s" * 32, repr(AuthSettings(previous_jwt_secrets=("s" * 32,))))
