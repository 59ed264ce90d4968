"""Accounts as pages and commands use them: log in, stay logged in, register, change."""

import hashlib
import math
import re
import secrets
from datetime import datetime, timedelta

import msgspec
from twisted.internet.interfaces import IReactorTime

from oxidecast.accounts.errors import BadCredentials, InvalidAccount, InvalidToken, TooManyAttempts
from oxidecast.accounts.limits import LoginThrottle
from oxidecast.accounts.passwords import Passwords
from oxidecast.accounts.tokens import AccessClaims, Tokens
from oxidecast.database.interface import Body, IDatabase
from oxidecast.database.records import utc
from oxidecast.database.refresh_tokens import insert_token, revoke_all, revoke_family, rotate_token
from oxidecast.database.users import Role, User, Users, replace_password

_USERNAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{2,49}", re.ASCII)
_EMAIL = re.compile(r"[^@\s\0]{1,64}@[^@\s\0]{1,190}")
LONGEST_REFRESH_TOKEN = 128
"""Characters; ours have 43."""


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """What a login gives: an access token for `expires_in` seconds, and a refresh token for the next one."""

    user: User
    access_token: str
    refresh_token: str
    expires_in: int

    def __repr__(self) -> str:
        return f"Login({self.user!r})"


class Accounts:
    """Every method may raise DatabaseUnavailable."""

    def __init__(
        self,
        database: IDatabase,
        clock: IReactorTime,
        passwords: Passwords,
        tokens: Tokens,
        throttle: LoginThrottle,
        refresh_lifetime: float,
    ) -> None:
        self.users = Users(database, clock)
        self._database = database
        self._clock = clock
        self._passwords = passwords
        self._tokens = tokens
        self.throttle = throttle
        self._refresh_lifetime = timedelta(seconds=refresh_lifetime)

    async def login(self, username: str, password: str, address: str) -> Login:
        """Raises TooManyAttempts, BadCredentials and Overloaded. An unknown user takes as long as a known
        one."""
        wait = self.throttle.attempt(address, username[:100])
        if wait > 0:
            raise TooManyAttempts(wait)
        user = await self.users.by_username(username) if _USERNAME.fullmatch(username) else None
        right = await self._passwords.verify(password, user.password_hash if user is not None else None)
        if user is None or not right or user.disabled:
            raise BadCredentials
        self.throttle.succeeded(address, username)
        if self._passwords.is_outdated(user.password_hash):
            await self.users.renew_hash(user.id, await self._passwords.hash(password))
        await self.users.logged_in(user.id)
        refresh_token = secrets.token_urlsafe(32)
        now = utc(self._clock)
        await self._database.transaction(
            insert_token, user.id, _digest(refresh_token), now, now + self._refresh_lifetime
        )
        return self._login(user, refresh_token)

    async def refresh(self, refresh_token: str) -> Login:
        """A new pair of tokens for a refresh token, which is used up. Raises InvalidToken; a token that was
        used before ends its login altogether."""
        successor = secrets.token_urlsafe(32)
        now = utc(self._clock)
        rotation = await self._database.transaction(
            rotate_token, _digest(refresh_token), _digest(successor), now, now + self._refresh_lifetime
        )
        if rotation.outcome != "rotated" or rotation.user_id is None:
            raise InvalidToken(expired=rotation.outcome == "expired")
        user = await self.users.by_id(rotation.user_id)
        if user is None:
            raise InvalidToken
        return self._login(user, successor)

    async def logout(self, refresh_token: str) -> None:
        """End the login of a refresh token; an unknown one is no error."""
        await self._database.transaction(revoke_family, _digest(refresh_token), utc(self._clock))

    async def bearer(self, access_token: str) -> User:
        """Whose access token this is, as the account is now. Raises InvalidToken, also for a disabled
        account, and for a token from before the last change of the password."""
        claims = self._tokens.verify_access(access_token)
        user = await self.users.by_id(claims.sub)
        if user is None or user.disabled or _is_outlived(claims, user):
            raise InvalidToken
        return user

    async def create(
        self, username: str, password: str, role: Role = "viewer", email: str | None = None
    ) -> User:
        """Raises InvalidAccount, Conflict when the name or address is taken, and Overloaded."""
        if not _USERNAME.fullmatch(username):
            raise InvalidAccount(
                "username", "must be 3 to 50 letters, digits, dots, dashes, underscores and at signs"
            )
        if email is not None and not _EMAIL.fullmatch(email):
            raise InvalidAccount("email", "is not an e-mail address")
        return await self.users.create(username, await self._passwords.hash(password), role, email=email)

    async def set_password(self, user_id: str, password: str) -> bool:
        """Change a password and end the account's logins. Answers whether there is such an account."""
        hashed = await self._passwords.hash(password)
        return await self._database.transaction(_change_password, user_id, hashed, utc(self._clock))

    async def set_disabled(self, user_id: str, disabled: bool) -> bool:
        """Disable an account and end its logins, or enable it. Answers whether there is such an account."""
        changed = await self.users.set_disabled(user_id, disabled)
        if disabled:
            await self._database.transaction(revoke_all, user_id, utc(self._clock))
        return changed

    def _login(self, user: User, refresh_token: str) -> Login:
        return Login(
            user=user,
            access_token=self._tokens.access(user),
            refresh_token=refresh_token,
            expires_in=int(self._tokens.access_lifetime),
        )


def _change_password(user_id: str, password_hash: str, now: datetime) -> Body[bool]:
    changed = yield from replace_password(user_id, password_hash, now)
    yield from revoke_all(user_id, now)
    return changed


def _is_outlived(claims: AccessClaims, user: User) -> bool:
    """Whether a token is from before the last change of the password.

    Tokens say their time in whole seconds, rounded down, so the change is rounded down too: who logs in within the
    second of the change is let in, at the price that tokens of that second's beginning live on.
    """
    begin = user.tokens_valid_from
    return begin is not None and claims.iat < math.floor(begin.timestamp())


def _digest(token: str) -> str:
    # 256 random bits need no key and no salt.
    return hashlib.sha256(token[:LONGEST_REFRESH_TOKEN].encode("utf-8", "surrogatepass")).hexdigest()
