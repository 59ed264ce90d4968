"""Whose token an outside issuer's is: OpenID Connect and the like, where people log in elsewhere.

The one idea: an outside token is good for one account here, which must be there and enabled, and may what that account
may. Which one it is depends on the issuer's `create`:

* without it the token names an account that somebody made here, by a claim: the issuer is trusted with all names;
* with it an account is made for who comes first, and is found again by issuer and `sub` alone (OpenID Connect Core,
  5.7). A name that is taken here already is refused, so that nobody becomes somebody else by choosing a name there.

The database is asked at every call, as for our own tokens: disabling the account here is enough.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import jwt
import msgspec
from msgspec import Meta
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.client import Agent

from oxidecast.accounts.errors import InvalidToken
from oxidecast.accounts.jwks import FETCH_TIMEOUT, RemoteKeys
from oxidecast.accounts.names import is_email, is_username
from oxidecast.accounts.settings import IssuerSettings
from oxidecast.accounts.tokens import LONGEST_TOKEN
from oxidecast.database.audit import Actor, note
from oxidecast.database.errors import Conflict
from oxidecast.database.interface import Body, IDatabase
from oxidecast.database.records import utc
from oxidecast.database.users import LastAdmin, Role, User, Users, change_user, insert_user, target

LEEWAY = 30.0
"""Seconds that the issuer's clock may differ from ours (RFC 7519, 4.1.4)."""
KINDS = frozenset({"jwt", "at+jwt", "application/at+jwt"})
"""What a token may call itself (`typ`; RFC 9068, 2.1): issuers sign tokens of other uses with the same keys."""
RANKS: tuple[Role, ...] = ("admin", "streamer", "viewer")

_SUBJECT = re.compile(r"[\x20-\x7e]{1,255}")
"""OpenID Connect Core, 2: at most 255 ASCII characters."""


class _Claims(msgspec.Struct, frozen=True, kw_only=True):
    sub: Annotated[str, Meta(pattern=f"^{_SUBJECT.pattern}$")]
    exp: float
    iat: float
    nbf: float = 0.0


class Outsider:
    """One issuer."""

    log = Logger()

    def __init__(
        self,
        settings: IssuerSettings,
        keys: RemoteKeys,
        database: IDatabase,
        clock: IReactorTime,
        no_password: str,
    ) -> None:
        self._settings = settings
        self._keys = keys
        self._database = database
        self._users = Users(database, clock)
        self._clock = clock
        self._no_password = no_password

    async def account(self, token: str) -> User:
        """The account of a token. Raises InvalidToken and DatabaseUnavailable."""
        claims = await self.verify(token)
        user = await (self._own(claims) if self._settings.create else self._named(claims))
        if user is None or user.disabled:
            issuer = self._settings.issuer
            self.log.debug("a token of {issuer} is for no account that may log in", issuer=issuer)
            raise InvalidToken
        return user

    async def verify(self, token: str) -> Mapping[str, Any]:
        """What a token of this issuer says. Raises InvalidToken."""
        try:
            header = jwt.get_unverified_header(token)
            if str(header.get("typ", "JWT")).lower() not in KINDS or not isinstance(header.get("kid"), str):
                raise InvalidToken
            key = await self._keys.find(header["kid"])
            if key is None:
                raise InvalidToken
            payload: dict[str, Any] = jwt.decode(
                token,
                key.verifies,
                algorithms=[key.algorithm],
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                options={
                    "require": ["sub", "aud", "iss", "exp", "iat"],
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                },
            )
            claims = msgspec.convert(payload, _Claims)
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            raise InvalidToken from None
        now = self._clock.seconds()
        # JSON in Python has NaN, which is neither before nor after: so only what is true lets in.
        if not now < claims.exp + LEEWAY:
            raise InvalidToken(expired=True)
        if not (claims.nbf - LEEWAY <= now and claims.iat - LEEWAY <= now):
            raise InvalidToken
        return payload

    async def _named(self, claims: Mapping[str, Any]) -> User | None:
        """The account that was made here, by its name or its address."""
        name = _text(claims, self._settings.account_claim)
        if self._settings.account_claim != "email":
            return await self._users.by_username(name) if is_username(name) else None
        if claims.get("email_verified") is not True or not is_email(name):
            return None  # anybody can say that an address is theirs
        return await self._users.by_email(name)

    async def _own(self, claims: Mapping[str, Any]) -> User | None:
        """The account that is the token's alone, which is made when it is not there. None when its name is taken."""
        outside = (self._settings.issuer, str(claims["sub"]))
        role = self._role(claims)
        user = await self._users.by_outside(*outside)
        if user is None:
            name = _text(claims, self._settings.account_claim)
            if not is_username(name):
                return None
            try:
                user = await self._database.transaction(
                    _make, name, self._no_password, role or "viewer", utc(self._clock), outside
                )
                self.log.info("an account was made for a user of {issuer}", issuer=outside[0])
            except Conflict:
                user = await self._users.by_outside(*outside)  # two calls at once, or the name is taken
        if user is None or role in (None, user.role) or user.disabled:
            return user
        try:
            by = Actor(f"issuer:{outside[0]}")
            return await self._database.transaction(
                change_user, user.id, {"role": role}, utc(self._clock), by
            )
        except LastAdmin:
            return user

    def _role(self, claims: Mapping[str, Any]) -> Role | None:
        """The highest role that the token's groups stand for; viewer for none of them. None where the issuer does not
        decide it."""
        if not self._settings.role_claim:
            return None
        said = _claim(claims, self._settings.role_claim)
        groups = [said] if isinstance(said, str) else said if isinstance(said, list) else []
        roles = {self._settings.roles.get(group) for group in groups if isinstance(group, str)}
        return next((role for role in RANKS if role in roles), "viewer")


def _make(name: str, no_password: str, role: Role, now: datetime, outside: tuple[str, str]) -> Body[User]:
    user = yield from insert_user(name, no_password, role, None, now, outside)
    by = Actor(f"issuer:{outside[0]}")
    yield from note(by, "user.create", target(name), now, {"id": user.id, "role": role})
    return user


class Outsiders:
    """All issuers of the settings."""

    def __init__(self, outsiders: Mapping[str, Outsider], keys: Sequence[RemoteKeys]) -> None:
        self._outsiders = outsiders
        self._keys = keys

    @classmethod
    def build(
        cls, issuers: Sequence[IssuerSettings], database: IDatabase, reactor: Any, no_password: str
    ) -> "Outsiders":
        """`no_password` is the hash of the accounts that are made: one that no password has."""
        agent = Agent(reactor, connectTimeout=FETCH_TIMEOUT)
        keys = {one.issuer: RemoteKeys(one.jwks_url, reactor, agent) for one in issuers}
        return cls(
            {one.issuer: Outsider(one, keys[one.issuer], database, reactor, no_password) for one in issuers},
            list(keys.values()),
        )

    def of(self, token: str) -> Outsider | None:
        """The issuer that a token says it is of, which nothing has proved yet; None for all that is not known."""
        if not self._outsiders or len(token) > LONGEST_TOKEN:
            return None
        try:
            issuer = jwt.decode(token, options={"verify_signature": False}).get("iss")
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            return None
        return self._outsiders.get(issuer) if isinstance(issuer, str) else None

    def close(self) -> None:
        for keys in self._keys:
            keys.close()


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """A claim of that name, or inside others: `realm_access.roles`."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _text(claims: Mapping[str, Any], name: str) -> str:
    """A claim that is text which a database can hold; "" otherwise."""
    said = _claim(claims, name)
    return said if isinstance(said, str) and said.isprintable() else ""
