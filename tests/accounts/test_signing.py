"""The keys of tokens: which files hold one, what others get of it, and that no key is taken for another."""

import hashlib
import hmac
import json
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import LogEvent, eventAsText, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.accounts import InvalidToken, Keyring, Tokens, open_keyring
from oxidecast.settings.errors import StartError
from tests.accounts.pem import ec_key, ed_key, private_pem, public_pem, rsa_key
from tests.accounts.support import SECRET
from tests.accounts.test_tokens import ADA
from tests.settings.support import temporary_folder

OLD_SECRET = "another secret that is long enough too"


class SigningCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = temporary_folder(self)
        self.clock = Clock()
        self.clock.advance(1_800_000_000)

    def file(self, content: bytes, name: str = "key.pem", mode: int = 0o600) -> Path:
        file = self.folder / name
        file.write_bytes(content)
        file.chmod(mode)
        return file

    def signing(self, key: Any, *before: Path, secrets: tuple[str, ...] = ()) -> Keyring:
        return open_keyring(SECRET, secrets, self.file(private_pem(key)), before)

    def tokens(self, ring: Keyring) -> Tokens:
        return Tokens(ring, self.clock, 3600.0)


class Files(SigningCase):
    def refused(self, content: bytes | None, words: str, signs: bool = True) -> None:
        file = self.folder / "none.pem" if content is None else self.file(content)
        arguments = (file, ()) if signs else (None, (file,))
        error = self.assertRaises(StartError, open_keyring, SECRET, (), *arguments)
        setting = "auth.signing_key" if signs else "auth.verification_keys"
        self.assertTrue(str(error).startswith(f"{setting}: {file} "), error)
        self.assertIn(words, str(error))

    def test_what_cannot_sign_is_refused_in_one_sentence(self) -> None:
        self.refused(None, "cannot be read: No such file")
        self.refused(b"", "holds no private key in PEM")
        self.refused(b"\0" * 100_000, "holds no private key in PEM")
        self.refused(public_pem(rsa_key()), "holds no private key in PEM")
        self.refused(private_pem(rsa_key(), b"word"), "passphrase")
        self.refused(private_pem(rsa_key(1024)), "1024 bits: it takes 2048 or more")
        self.refused(private_pem(ec_key(ec.SECP384R1)), "another kind")
        self.refused(private_pem(ec_key(ec.SECP256K1)), "another kind")
        self.refused(private_pem(ed_key()), "another kind")

    def test_what_cannot_verify_is_refused_in_one_sentence(self) -> None:
        self.refused(None, "cannot be read", signs=False)
        self.refused(b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "no key", signs=False)
        self.refused(public_pem(rsa_key(1024)), "1024 bits", signs=False)
        self.refused(public_pem(ed_key()), "another kind", signs=False)

    def test_a_directory_is_no_file(self) -> None:
        self.assertRaises(StartError, open_keyring, SECRET, (), self.folder, ())

    def test_nothing_of_a_key_is_shown(self) -> None:
        ring = self.signing(rsa_key(), secrets=(OLD_SECRET,))
        shown = repr([ring.signing, ring.find(ring.signing.kid)])
        for secret in (OLD_SECRET, SECRET.decode(), "PrivateKey"):
            self.assertNotIn(secret, shown)

    def test_a_private_key_that_others_can_read_is_warned_of(self) -> None:
        events: list[LogEvent] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        open_keyring(
            SECRET, (), self.file(private_pem(ec_key())), (self.file(public_pem(rsa_key()), "p", 0o644),)
        )
        self.assertEqual(events, [])
        open_keyring(SECRET, (), self.file(private_pem(ec_key()), mode=0o644), ())
        self.assertIn("chmod 600", eventAsText(events[0]))

    @given(
        st.binary(max_size=300) | st.text(max_size=200).map(lambda t: f"-----BEGIN {t}-----\n{t}\n".encode())
    )
    @settings(max_examples=100, deadline=None)
    def test_anything_else(self, content: bytes) -> None:
        self.setUp()
        file = self.file(content)
        self.assertRaises(StartError, open_keyring, SECRET, (), file, ())
        self.assertRaises(StartError, open_keyring, SECRET, (), None, (file,))


class Algorithms(SigningCase):
    def test_a_key_signs_by_its_own_algorithm_and_says_its_name(self) -> None:
        for key, algorithm in ((rsa_key(), "RS256"), (rsa_key(3072), "RS256"), (ec_key(), "ES256")):
            ring = self.signing(key)
            token = self.tokens(ring).access(ADA)
            self.assertEqual(
                jwt.get_unverified_header(token),
                {"alg": algorithm, "typ": "JWT", "kid": ring.signing.kid},
            )
            self.assertEqual(self.tokens(ring).verify_access(token).sub, ADA.id)

    def test_others_can_check_a_token_by_what_is_published(self) -> None:
        for key in (rsa_key(), ec_key()):
            ring = self.signing(key)
            token = self.tokens(ring).access(ADA)
            published = jwt.PyJWKSet.from_dict({"keys": [dict(one) for one in ring.published]})
            found = published[jwt.get_unverified_header(token)["kid"]]
            options: Any = {"verify_exp": False, "verify_iat": False}
            claims = jwt.decode(token, found, audience="oxidecast-api", issuer="oxidecast", options=options)
            self.assertEqual(claims["username"], "ada")

    def test_only_the_public_half_is_published(self) -> None:
        ring = self.signing(rsa_key(), self.file(private_pem(ec_key()), "old.pem"), secrets=(OLD_SECRET,))
        members = [set(one) for one in ring.published]
        self.assertEqual(members[0], {"crv", "kty", "x", "y", "kid", "use", "alg"})
        self.assertEqual(members[1], {"e", "kty", "n", "kid", "use", "alg"})
        self.assertEqual(len(members), 2)

    def test_a_secret_is_not_published(self) -> None:
        self.assertEqual(open_keyring(SECRET, (), None, ()).published, [])

    def test_the_name_of_a_key_is_its_thumbprint(self) -> None:
        for key in (rsa_key(), ec_key()):
            one = dict(self.signing(key).published[0])
            required = {name: one[name] for name in sorted(one) if name not in ("kid", "use", "alg")}
            digest = hashlib.sha256(json.dumps(required, separators=(",", ":")).encode()).digest()
            self.assertEqual(one["kid"], urlsafe_b64encode(digest).decode().rstrip("="))


class Confusion(SigningCase):
    """A ring that holds one key of each kind."""

    def setUp(self) -> None:
        super().setUp()
        self.elliptic = self.file(public_pem(ec_key()), "ec.pem")
        self.ring = self.signing(rsa_key(), self.elliptic, secrets=(OLD_SECRET,))
        self.kids = {
            "RS256": self.ring.signing.kid,
            "ES256": self.signing(ec_key()).signing.kid,
            "HS256": open_keyring(OLD_SECRET.encode(), (), None, ()).signing.kid,
        }
        self.payload = jwt.decode(self.tokens(self.ring).access(ADA), options={"verify_signature": False})

    def assertInvalid(self, token: str) -> None:
        error = self.assertRaises(InvalidToken, self.tokens(self.ring).verify_access, token)
        self.assertEqual(error.code, "token_invalid")

    def by_hmac(self, secret: bytes, kid: str, algorithm: str = "HS256") -> str:
        """Signed as PyJWT refuses to sign: with what is not a secret."""
        parts = [{"alg": algorithm, "typ": "JWT", "kid": kid}, self.payload]
        said = ".".join(urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
        signature = hmac.digest(secret, said.encode(), "sha256")
        return f"{said}.{urlsafe_b64encode(signature).decode().rstrip('=')}"

    def test_each_key_opens_by_its_own_name(self) -> None:
        for key, algorithm in ((rsa_key(), "RS256"), (ec_key(), "ES256"), (OLD_SECRET, "HS256")):
            token = jwt.encode(self.payload, key, algorithm, {"kid": self.kids[algorithm]})
            self.assertEqual(self.tokens(self.ring).verify_access(token).sub, ADA.id)
        self.assertEqual(self.by_hmac(OLD_SECRET.encode(), self.kids["HS256"]).count("."), 2)
        self.tokens(self.ring).verify_access(self.by_hmac(OLD_SECRET.encode(), self.kids["HS256"]))

    def test_none_opens_by_the_name_of_another(self) -> None:
        for key, algorithm in ((rsa_key(), "RS256"), (ec_key(), "ES256"), (OLD_SECRET, "HS256")):
            for other, kid in self.kids.items():
                if other != algorithm:
                    self.assertInvalid(jwt.encode(self.payload, key, algorithm, {"kid": kid}))

    def test_a_public_key_is_no_secret(self) -> None:
        for key in (rsa_key(), ec_key()):
            pem = public_pem(key)
            for secret in (
                pem,
                pem.strip(),
                pem.replace(b"\n", b""),
                json.dumps(self.ring.published).encode(),
            ):
                for kid in self.kids.values():
                    self.assertInvalid(self.by_hmac(secret, kid))
                    self.assertInvalid(self.by_hmac(secret, kid, "RS256"))

    def test_other_algorithms_of_the_same_key(self) -> None:
        for algorithm in ("RS384", "RS512", "PS256"):
            self.assertInvalid(jwt.encode(self.payload, rsa_key(), algorithm, {"kid": self.kids["RS256"]}))

    def test_no_signature(self) -> None:
        for kid in self.kids.values():
            self.assertInvalid(jwt.encode(self.payload, None, "none", {"kid": kid}))

    def test_what_a_token_says_of_its_own_key_is_not_heard(self) -> None:
        stranger = rsa_key(2048, 1)
        own = {"jwk": {"kty": "oct", "k": "AAAA"}, "jku": "http://127.0.0.1:1/", "x5u": "http://127.0.0.1:1/"}
        for kid in (self.kids["RS256"], "../../dev/null", "x", ""):
            self.assertInvalid(jwt.encode(self.payload, stranger, "RS256", {**own, "kid": kid}))

    def test_names_that_are_none(self) -> None:
        for kid in (None, 1, ["a"], {"a": 1}, True):
            said = {"alg": "RS256", "kid": kid}
            parts = [
                urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
                for part in (said, self.payload)
            ]
            self.assertInvalid(f"{parts[0]}.{parts[1]}.AAAA")


class Rotation(SigningCase):
    def test_a_new_secret_with_the_old_one_listed_ends_no_token(self) -> None:
        before = self.tokens(open_keyring(OLD_SECRET.encode(), (), None, ()))
        token, playback = before.access(ADA), before.playback("s1")
        after = self.tokens(open_keyring(SECRET, (OLD_SECRET,), None, ()))
        after.verify_access(token)
        after.verify_playback(playback, "s1", "192.0.2.1")
        self.assertNotEqual(jwt.get_unverified_header(after.access(ADA)), jwt.get_unverified_header(token))
        self.clock.advance(3600)
        error = self.assertRaises(InvalidToken, after.verify_access, token)
        self.assertEqual(error.code, "token_expired")

    def test_from_a_secret_to_a_key_and_to_another_key(self) -> None:
        first = self.tokens(open_keyring(SECRET, (), None, ())).access(ADA)
        second_ring = self.signing(rsa_key(), secrets=(SECRET.decode(),))
        self.tokens(second_ring).verify_access(first)
        second = self.tokens(second_ring).access(ADA)
        old = self.file(public_pem(rsa_key()), "old.pem")
        third = self.tokens(self.signing(ec_key(), old))
        third.verify_access(second)
        third.verify_access(third.access(ADA))
        self.assertRaises(InvalidToken, third.verify_access, first)

    def test_without_a_list_the_old_ones_end(self) -> None:
        token = self.tokens(open_keyring(SECRET, (), None, ())).access(ADA)
        for after in (open_keyring(OLD_SECRET.encode(), (), None, ()), self.signing(ec_key())):
            self.assertRaises(InvalidToken, self.tokens(after).verify_access, token)

    def test_a_key_that_signs_may_be_listed_too(self) -> None:
        same = self.file(public_pem(ec_key()), "same.pem")
        tokens = self.tokens(self.signing(ec_key(), same))
        tokens.verify_access(tokens.access(ADA))
        self.assertEqual(len(tokens.keys.published), 1)
