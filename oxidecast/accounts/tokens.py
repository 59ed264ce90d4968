"""Access and playback tokens: JWTs (RFC 7519), checked without the database.

Both kinds name their audience, so that neither is accepted where the other belongs. Both name an account, whose tokens
may have been ended since: `Accounts` knows. Times come from the clock that is given, not from the library's own.
"""

import secrets
from collections.abc import Mapping
from typing import Any, TypeVar

import jwt
import msgspec
from twisted.internet.interfaces import IReactorTime

from oxidecast.accounts.errors import InvalidToken
from oxidecast.accounts.limits import network_of
from oxidecast.accounts.settings import ISSUER
from oxidecast.accounts.signing import Keyring
from oxidecast.database.users import User

API = "oxidecast-api"
PLAYBACK = "oxidecast-playback"
LONGEST_TOKEN = 8192
"""Characters; ours have about 400, or 700 where an RSA key signs. Outside issuers list groups and more."""
PLAYBACK_LIFETIME = 300.0
"""Seconds between asking for an address and opening it; the session that it starts goes on."""


Issuer = tuple[str, int]
"""An account's id, and its `token_generation` when it gave a playback token away."""


class AccessClaims(msgspec.Struct, frozen=True, kw_only=True):
    """What an access token says."""

    sub: str
    """The user's id."""
    username: str
    role: str
    gen: int
    """The account's `token_generation` when it logged in."""
    iat: int
    exp: int
    jti: str


class PlaybackClaims(msgspec.Struct, frozen=True, kw_only=True):
    """What a playback token says."""

    sub: str
    """The id of the stream, or the recording."""
    net: str | None = None
    """The network (`network_of`) that it is for; None for any."""
    by: Issuer | None = None
    """Who gave it away; None where no account did."""
    iat: int
    exp: int
    jti: str


C = TypeVar("C", AccessClaims, PlaybackClaims)


class Tokens:
    """Issues and verifies tokens with the keys of a ring."""

    def __init__(self, keys: Keyring, clock: IReactorTime, access_lifetime: float) -> None:
        self.keys = keys
        self._clock = clock
        self.access_lifetime = access_lifetime

    def access(self, user: User) -> str:
        claims = {
            "sub": user.id,
            "username": user.username,
            "role": user.role,
            "gen": user.token_generation,
        }
        return self._sign(API, "access", claims, self.access_lifetime)

    def seconds(self) -> float:
        """The time by which tokens expire."""
        return self._clock.seconds()

    def playback(
        self,
        subject: str,
        address: str | None = None,
        lifetime: float = PLAYBACK_LIFETIME,
        by: Issuer | None = None,
    ) -> str:
        """For everybody who has it, or only for the network of `address`. `subject` is the id of what it opens."""
        claims: dict[str, Any] = {"sub": subject}
        if address is not None:
            claims["net"] = network_of(address)
        if by is not None:
            claims["by"] = by
        return self._sign(PLAYBACK, "playback", claims, lifetime)

    def verify_access(self, token: str) -> AccessClaims:
        """Raises InvalidToken."""
        return self._verify(token, API, "access", AccessClaims)

    def verify_playback(self, token: str, subject: str, address: str) -> PlaybackClaims:
        """Raises InvalidToken, also for the token of something else, or when it is presented from another network
        than it is for. Whether who gave it away still may is for `Accounts.giver` to say."""
        claims = self._verify(token, PLAYBACK, "playback", PlaybackClaims)
        if claims.sub != subject or claims.net not in (None, network_of(address)):
            raise InvalidToken
        return claims

    def _sign(self, audience: str, kind: str, claims: Mapping[str, Any], lifetime: float) -> str:
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
        key = self.keys.signing
        return jwt.encode(payload, key.signs, key.algorithm, headers={"kid": key.kid})

    def _verify(self, token: str, audience: str, kind: str, claims: type[C]) -> C:
        if len(token) > LONGEST_TOKEN:
            raise InvalidToken
        try:
            key = self.keys.find(jwt.get_unverified_header(token).get("kid"))
            if key is None:
                raise InvalidToken
            decoded = jwt.decode(
                token,
                key.verifies,
                algorithms=[key.algorithm],
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
            payload = msgspec.convert(decoded, claims)
        except (jwt.PyJWTError, ValueError, RecursionError):  # msgspec.ValidationError is a ValueError
            raise InvalidToken from None
        if decoded.get("typ") != kind:
            raise InvalidToken
        if payload.exp <= self._clock.seconds():
            raise InvalidToken(expired=True)
        return payload
