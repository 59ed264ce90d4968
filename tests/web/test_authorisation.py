"""Who may do what: every route of the API, asked by everybody, of a public and of a private stream.

A status tells whether the caller was let in: who was may still hear 404 (nothing is live here) or 409. A route that is
not in the table fails the test, so that none is added without a thought.
"""

import base64
import hmac
import json
from typing import Any

import jwt
import msgspec
from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.server import Site
from twisted.web.static import Data

from oxidecast.accounts.signing import secret_key
from oxidecast.accounts.tokens import API, PLAYBACK, Tokens
from oxidecast.web.recordings import MEDIA_TYPE
from tests.accounts.pem import ec_key, jwk, private_pem, public_pem, rsa_key
from tests.accounts.test_jwks import document
from tests.web.recorded import recorded
from tests.web.test_api import LOGIN, ApiCase, _Past

SECRET = "a secret that signed tokens before"
WHO = ("anonymous", "viewer", "streamer", "other owner", "owner", "admin")

ALL_200 = (200, 200, 200, 200, 200, 200)
ADMINS = (401, 403, 403, 403, 403, 200)
OWNERS = (401, 403, 403, 403, 200, 200)
HIDDEN = (401, 404, 404, 404, 200, 200)
"""Of a private stream those who do not own it do not learn by managing it that it is there."""
PRIVATE = (401, 403, 403, 403, 200, 200)

ONE = "/streams/{stream}"
RECORDING = "/recordings/{recording}"
TITLE = {"title": "Another"}

# What is asked, and by whom with which status: of a public stream, and of a private one where that differs.
TABLE: dict[tuple[str, str], tuple[Any, tuple[int, ...], tuple[int, ...] | None]] = {
    ("POST", "/auth/login"): ({"username": "nobody", "password": "wrong wrong"}, (401,) * 6, None),
    ("POST", "/auth/register"): ({"username": "somebody", "password": "long enough"}, (403,) * 6, None),
    ("POST", "/auth/refresh"): ({"refresh_token": "x"}, (401,) * 6, None),
    ("POST", "/auth/logout"): (None, ALL_200, None),
    ("GET", "/users"): (None, ADMINS, None),
    ("POST", "/users"): ({"username": "made", "password": "long enough"}, (*ADMINS[:5], 201), None),
    ("GET", "/users/{user}"): (None, ADMINS, None),
    ("PATCH", "/users/{user}"): ({"role": "admin"}, ADMINS, None),
    ("DELETE", "/users/{user}"): (None, ADMINS, None),
    ("GET", "/streams"): (None, ALL_200, None),
    ("POST", "/streams"): (TITLE, (401, 403, 201, 201, 201, 201), None),
    ("GET", "/ingests"): (None, ALL_200, None),
    ("GET", "/stats"): (None, ADMINS, None),
    ("GET", "/audit"): (None, ADMINS, None),
    ("GET", ONE): (None, ALL_200, PRIVATE),
    ("PUT", ONE): (TITLE, OWNERS, HIDDEN),
    ("PATCH", ONE): (TITLE, OWNERS, HIDDEN),
    ("DELETE", ONE): (None, OWNERS, HIDDEN),
    ("POST", f"{ONE}/start"): (None, OWNERS, HIDDEN),
    ("POST", f"{ONE}/stop"): (None, OWNERS, HIDDEN),
    ("GET", f"{ONE}/url"): (None, ALL_200, PRIVATE),
    ("GET", f"{ONE}/stats"): (None, OWNERS, HIDDEN),
    ("GET", f"{ONE}/sessions"): (None, OWNERS, HIDDEN),
    ("GET", f"{ONE}/viewers"): (None, OWNERS, HIDDEN),
    ("GET", f"{ONE}/metrics"): (None, OWNERS, HIDDEN),
    ("GET", f"{ONE}/key"): (None, OWNERS, HIDDEN),
    ("DELETE", f"{ONE}/key"): (None, OWNERS, HIDDEN),
    ("POST", f"{ONE}/key/rotate"): (None, OWNERS, HIDDEN),
    ("GET", f"{ONE}/keys"): (None, OWNERS, HIDDEN),
    ("POST", f"{ONE}/keys"): (None, (*OWNERS[:4], 201, 201), (*HIDDEN[:4], 201, 201)),
    ("PATCH", f"{ONE}/keys/{{key}}"): ({"name": "studio"}, OWNERS, HIDDEN),
    ("DELETE", f"{ONE}/keys/{{key}}"): (None, OWNERS, HIDDEN),
    ("POST", f"{ONE}/join"): ({"connection_type": "hls"}, (404,) * 6, (401, 403, 403, 403, 404, 404)),
    ("DELETE", f"{ONE}/leave"): ({"viewer_id": "x"}, ALL_200, None),
    ("POST", "/viewers/{viewer}/heartbeat"): (None, (404,) * 6, None),
    ("DELETE", "/viewers/{viewer}"): (None, ALL_200, None),
    ("GET", f"{ONE}/outputs"): (None, OWNERS, HIDDEN),
    ("GET", f"{ONE}/outputs/{{output}}"): (None, OWNERS, HIDDEN),
    ("PUT", f"{ONE}/outputs/{{output}}"): ({}, OWNERS, HIDDEN),
    ("GET", "/recordings"): (None, (401, 200, 200, 200, 200, 200), None),
    ("GET", RECORDING): (None, HIDDEN, None),
    ("PATCH", RECORDING): (TITLE, HIDDEN, None),
    ("DELETE", RECORDING): (None, HIDDEN, None),
    ("GET", f"{RECORDING}/url"): (None, HIDDEN, None),
    ("GET", f"{RECORDING}/file"): (None, HIDDEN, None),
}


class AuthorisationCase(ApiCase):
    async def everybody(self) -> None:
        """`self.tokens` by who, and what there is to ask for."""
        self.environ["OXIDECAST_RATE_LIMIT_LOGIN_ATTEMPTS"] = "1000"
        await self.start()
        self.accounts = self.server.foundation.accounts
        self.tokens = {
            "anonymous": "",
            "viewer": await self.token("viewer"),
            "streamer": await self.token("streamer"),
            "other owner": await self.token("streamer", "other"),
            "owner": await self.token("streamer", "owner"),
            "admin": await self.token("admin"),
        }
        await self.ask("POST", "/api/v1/streams", {"title": "Other"}, self.tokens["other owner"])
        self._made = 0

    async def fresh(self, path: str, private: bool) -> str:
        """A path to things that nobody has touched yet."""
        self._made += 1
        made = {"viewer": "x", "output": "multicast"}
        if "{user}" in path:
            user = await self.accounts.create(f"user{self._made}", "correct horse")
            made["user"] = user.id
        if "{stream}" in path:
            body = {"title": "x", "name": f"s{self._made}", "is_private": private}
            stream = (await self.ask("POST", "/api/v1/streams", body, self.tokens["owner"])).data
            made["stream"] = stream["name"]
            made["key"] = (await self.server.foundation.keys.all(stream["id"]))[0].id
        if "{recording}" in path:
            owner = await self.accounts.bearer(self.tokens["owner"])
            made["recording"] = (await recorded(self.server, owner.id)).id
        return "/api/v1" + path.format(**made)


class TestEverybody(AuthorisationCase):
    timeout = 60

    async def test_every_route_is_thought_of(self) -> None:
        await self.start()
        self.assertEqual({(route.method, route.path) for route in self.server.web.api.routes}, set(TABLE))

    async def test_of_a_public_stream(self) -> None:
        await self.check(private=False)

    async def test_of_a_private_stream(self) -> None:
        await self.check(private=True)

    async def check(self, private: bool) -> None:
        await self.everybody()
        for (method, route), (body, public, hidden) in TABLE.items():
            path = await self.fresh(route, private)
            expected = public if not private or hidden is None else hidden
            got = []
            for who in WHO:
                answer = await self.ask(method, path, body, self.tokens[who])
                if answer.headers["content-type"] != MEDIA_TYPE:
                    self.assertEnvelope(answer, answer.status, answer.code)
                got.append(answer.status)
            self.assertEqual((method, route, tuple(got)), (method, route, expected))


class TestTokensThatAreNone(AuthorisationCase):
    """Of a server that signs with an RSA key, accepts what a secret and a P-256 key signed before, and knows an outside
    issuer: all that an administrator's access token is not."""

    timeout = 60

    async def everybody(self) -> None:
        file, old = self.folder / "token-key.pem", self.folder / "old-key.pem"
        file.write_bytes(private_pem(rsa_key()))
        file.chmod(0o600)
        old.write_bytes(public_pem(ec_key()))
        root = Resource()
        root.putChild(b"keys", Data(document(jwk(rsa_key(2048, 1), "outside")), "application/json"))
        site = Site(root)
        site.noisy = False
        port = reactor.listenTCP(0, site, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        url = f"http://127.0.0.1:{port.getHost().port}/keys"
        self.environ |= {
            "OXIDECAST_AUTH_SIGNING_KEY": str(file),
            "OXIDECAST_AUTH_VERIFICATION_KEYS": json.dumps([str(old)]),
            "OXIDECAST_AUTH_PREVIOUS_JWT_SECRETS": json.dumps([SECRET]),
            "OXIDECAST_AUTH_ISSUERS": json.dumps(
                [{"issuer": "outside", "jwks_url": url, "audience": "oxidecast"}]
            ),
        }
        await super().everybody()

    async def forged(self) -> dict[str, str]:
        foundation, token = self.server.foundation, self.tokens["admin"]
        admin = await self.accounts.bearer(token)
        claims = msgspec.structs.asdict(foundation.tokens.verify_access(token))
        claims |= {"iss": "oxidecast", "aud": API, "typ": "access"}
        outside = {"iss": "outside", "aud": "oxidecast", "preferred_username": admin.username}
        ring = foundation.tokens.keys
        kids = {
            "RS256": ring.signing.kid,
            "HS256": secret_key(SECRET.encode()).kid,
            "ES256": next(str(one["kid"]) for one in ring.published if one["kty"] == "EC"),
        }
        keys: dict[str, Any] = {"RS256": rsa_key(), "HS256": SECRET, "ES256": ec_key()}
        login = await self.ask("POST", LOGIN, {"username": "a-admin", "password": "correct horse"})

        def signed(changes: Any, algorithm: str = "RS256", kid: str = "", key: Any = None) -> str:
            key = keys[algorithm] if key is None else key
            return jwt.encode({**claims, **changes}, key, algorithm, headers={"kid": kid or kids[algorithm]})

        def foreign(changes: Any, kid: str = "outside", key: Any = None) -> str:
            return signed({**outside, **changes}, kid=kid, key=key or rsa_key(2048, 1))

        # Genuine ones by these means, or the others prove nothing.
        for good in (signed({}), signed({}, "HS256"), signed({}, "ES256"), foreign({})):
            self.assertEqual((await self.accounts.bearer(good)).id, admin.id)
        past: Any = _Past(foundation.reactor)
        return {
            "expired": Tokens(ring, past, 60).access(admin),
            "refresh token": login.data["refresh_token"],
            "playback token": foundation.tokens.playback(admin.id),
            "wrong audience": signed({"aud": PLAYBACK}),
            "several audiences": signed({"aud": [API, PLAYBACK]}),
            "another kind": signed({"typ": "playback"}),
            "another issuer": signed({"iss": "somebody"}),
            "no signature": jwt.encode(claims, None, "none", {"kid": kids["RS256"]}),
            "another algorithm of the key": signed({}, "RS256").replace(
                signed({}, "RS256").partition(".")[0], signed({}, "HS256").partition(".")[0]
            ),
            "RSA key as a secret": by_hmac(public_pem(rsa_key()), kids["RS256"], claims),
            "P-256 key as a secret": by_hmac(public_pem(ec_key()), kids["ES256"], claims),
            "secret under a key's name": by_hmac(SECRET.encode(), kids["RS256"], claims),
            "key under the secret's name": signed({}, kid=kids["HS256"]),
            "unknown key": signed({}, kid="unknown"),
            "another key": signed({}, key=rsa_key(2048, 1)),
            "the secret that is generated": jwt.encode(
                claims, foundation.secrets.jwt, "HS256", {"kid": secret_key(foundation.secrets.jwt).kid}
            ),
            "an earlier login": signed({"gen": -1}),
            "unknown user": signed({"sub": "00000000-0000-4000-8000-000000000000"}),
            "outside, expired": foreign({"exp": claims["iat"] - 3600}),
            "outside, wrong audience": foreign({"aud": API}),
            "outside, unknown user": foreign({"preferred_username": "nobody"}),
            "outside, by our key": foreign({}, key=rsa_key()),
            "outside, by our key's name": foreign({}, ring.signing.kid, rsa_key()),
            "outside, as a secret": by_hmac(public_pem(rsa_key(2048, 1)), "outside", {**claims, **outside}),
            "ours by the outside key": signed({}, kid="outside", key=rsa_key(2048, 1)),
        }

    async def test_they_open_nothing(self) -> None:
        await self.everybody()
        forged = await self.forged()
        anonymous = {(one.method, one.path): one.anonymous for one in self.server.web.api.routes}
        for (method, route), (body, public, _) in TABLE.items():
            path = await self.fresh(route, private=False)
            expected = public[0] if anonymous[method, route] else 401
            for name, token in forged.items():
                answer = await self.ask(method, path, body, token)
                self.assertEqual((method, route, name, answer.status), (method, route, name, expected))


def by_hmac(secret: bytes, kid: str, claims: Any) -> str:
    """Signed as PyJWT refuses to: with what is no secret."""
    parts = [{"alg": "HS256", "typ": "JWT", "kid": kid}, claims]
    said = ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts
    )
    signature = hmac.digest(secret, said.encode(), "sha256")
    return f"{said}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"
