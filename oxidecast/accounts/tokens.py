"""Access and playback tokens: JWTs (RFC 7519) signed by HMAC-SHA256, checked without the database.

Both kinds name their audience, so that neither is accepted where the other belongs. Times come from the
clock that is given, not from the library's own.
"""

import hashlib
import hmac
import secrets
from typing import Any, TypeVar

import jwt
import msgspec
from twisted.internet.interfaces import IReactorTime

from oxidecast.accounts.errors import InvalidToken
from oxidecast.database.users import User

ALGORITHM = "HS256"
ISSUER = "oxidecast"
API = "oxidecast-api"
PLAYBACK = "oxidecast-playback"
LONGEST_TOKEN = 4096
"""Characters; ours have about 400."""
PLAYBACK_LIFETIME = 300.0
"""Seconds between asking for an address and opening it; the session that it starts goes on."""


class AccessClaims(msgspec.Struct, frozen=True, kw_only=True):
    """What an access token says."""

    sub: str
    """The user's id."""
    username: str
    role: str
    iat: int
    exp: int
    jti: str


class PlaybackClaims(msgspec.Struct, frozen=True, kw_only=True):
    """What a playback token says."""

    sub: str
    """The stream's id."""
    iat: int
    exp: int
    jti: str


C = TypeVar("C", AccessClaims, PlaybackClaims)


class Tokens:
    """Issues and verifies tokens with one secret of at least 32 bytes."""

    def __init__(self, secret: bytes, clock: IReactorTime, access_lifetime: float) -> None:
        self._secret = secret
        self._clock = clock
        self.access_lifetime = access_lifetime
        # Names the secret without giving it away, so that a later one can be told apart from it.
        self._kid = hmac.digest(secret, b"oxidecast kid", hashlib.sha256)[:8].hex()

    def access(self, user: User) -> str:
        claims = {"sub": user.id, "username": user.username, "role": user.role}
        return self._sign(API, "access", claims, self.access_lifetime)

    def playback(self, stream_id: str, lifetime: float = PLAYBACK_LIFETIME) -> str:
        return self._sign(PLAYBACK, "playback", {"sub": stream_id}, lifetime)

    def verify_access(self, token: str) -> AccessClaims:
        """Raises InvalidToken."""
        return self._verify(token, API, "access", AccessClaims)

    def verify_playback(self, token: str, stream_id: str) -> PlaybackClaims:
        """Raises InvalidToken, also for the token of another stream."""
        claims = self._verify(token, PLAYBACK, "playback", PlaybackClaims)
        if claims.sub != stream_id:
            raise InvalidToken
        return claims

    def _sign(self, audience: str, kind: str, claims: dict[str, str], lifetime: float) -> str:
        now = int(self._clock.seconds())
        payload: dict[str, Any] = {
            **claims,
            "iss": ISSUER,
            "aud": audience,
            "typ": kind,
            "iat": now,
            "exp": now + max(1, int(lifetime)),
            "jti": secrets.token_urlsafe(12),
        }
        return jwt.encode(payload, self._secret, ALGORITHM, headers={"kid": self._kid})

    def _verify(self, token: str, audience: str, kind: str, claims: type[C]) -> C:
        if len(token) > LONGEST_TOKEN:
            raise InvalidToken
        try:
            decoded = jwt.decode_complete(
                token,
                self._secret,
                algorithms=[ALGORITHM],
                audience=audience,
                issuer=ISSUER,
                options={
                    "require": ["sub", "aud", "iss", "exp", "iat"],
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                    "strict_aud": True,
                },
            )
            payload = msgspec.convert(decoded["payload"], claims)
        except (jwt.PyJWTError, ValueError, RecursionError):  # msgspec.ValidationError is a ValueError
            raise InvalidToken from None
        if decoded["header"].get("kid") != self._kid or decoded["payload"].get("typ") != kind:
            raise InvalidToken
        if payload.exp <= self._clock.seconds():
            raise InvalidToken(expired=True)
        return payload
