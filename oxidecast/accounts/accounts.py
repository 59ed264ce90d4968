"""Accounts as pages and commands use them: log in, stay logged in, register, change."""

import hashlib
import secrets
from datetime import datetime, timedelta

import msgspec
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime

from oxidecast.accounts.errors import (
    BadCredentials,
    InvalidAccount,
    InvalidToken,
    Overloaded,
    TooManyAttempts,
)
from oxidecast.accounts.names import is_email, is_username
from oxidecast.accounts.outsiders import Outsiders
from oxidecast.accounts.passwords import Passwords
from oxidecast.accounts.throttle import LoginThrottle
from oxidecast.accounts.tokens import PlaybackClaims, Tokens
from oxidecast.database.audit import ANONYMOUS, SERVER, Actor, note
from oxidecast.database.errors import DatabaseUnavailable
from oxidecast.database.interface import Body, IDatabase, Value
from oxidecast.database.records import Versions, utc
from oxidecast.database.refresh_tokens import (
    Rotation,
    insert_token,
    revoke_all,
    revoke_family,
    rotate_token,
)
from oxidecast.database.users import Role, User, Users, actor, change_user, delete_user, find_user, target

LONGEST_REFRESH_TOKEN = 128
"""Characters; ours have 43."""

PATIENCE = 1.0
"""Seconds that a playback token waits for the database: it answers in milliseconds, or is away."""


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """What a login gives: an access token for `expires_in` seconds, and a refresh token for the next one."""

    user: User
    access_token: str
    refresh_token: str
    expires_in: int

    def __repr__(self) -> str:
        return f"Login({self.user!r})"


class Accounts:
    """Every method may raise DatabaseUnavailable. Every change is written to the audit log, as done by `by`, or from
    `address` by whose login it is."""

    def __init__(
        self,
        database: IDatabase,
        clock: IReactorTime,
        passwords: Passwords,
        tokens: Tokens,
        throttle: LoginThrottle,
        refresh_lifetime: float,
        outsiders: Outsiders | None = None,
    ) -> None:
        self.users = Users(database, clock)
        self._database = database
        self._clock = clock
        self._passwords = passwords
        self._tokens = tokens
        self.throttle = throttle
        self._refresh_lifetime = timedelta(seconds=refresh_lifetime)
        self._outsiders = outsiders

    async def login(self, username: str, password: str, address: str) -> Login:
        """Raises TooManyAttempts, BadCredentials and Overloaded. An unknown user takes as long as a known
        one."""
        wait = self.throttle.attempt(address, username)
        if wait > 0:
            raise TooManyAttempts(wait)
        try:
            user = await self.known(username)
            hashed = user.password_hash if user is not None else None
            known = self.throttle.knows(address, username)
            right = await self._passwords.verify(password, hashed, None if known else address)
        except (Overloaded, TooManyAttempts, DatabaseUnavailable):
            self.throttle.undo(address, username)  # no password was tried
            raise
        if user is None or not right or user.disabled:
            raise BadCredentials
        self.throttle.succeeded(address, username)
        if self._passwords.is_outdated(user.password_hash):
            await self.users.renew_hash(user, await self._passwords.hash(password))
        refresh_token = secrets.token_urlsafe(32)
        now = utc(self._clock)
        begun = await self._database.transaction(
            _begin, user, _digest(refresh_token), now, now + self._refresh_lifetime, address
        )
        if not begun:
            raise BadCredentials  # what was right when it was looked at is so no more
        await self.users.logged_in(user.id)
        return self._login(user, refresh_token)

    async def refresh(self, refresh_token: str, address: str | None = None) -> Login:
        """A new pair of tokens for a refresh token, which is used up. Raises InvalidToken; a token that was
        used before ends its login altogether."""
        successor = secrets.token_urlsafe(32)
        now = utc(self._clock)
        rotation = await self._database.transaction(
            _rotate,
            _digest(refresh_token),
            _digest(successor),
            now,
            now + self._refresh_lifetime,
            address,
        )
        if rotation.outcome != "rotated" or rotation.user_id is None:
            raise InvalidToken(expired=rotation.outcome == "expired")
        user = await self.users.by_id(rotation.user_id)
        if user is None or user.token_generation != rotation.generation:
            raise InvalidToken
        if address is not None:
            self.throttle.seen(address, user.username)  # the throttle knows nobody after a restart
        return self._login(user, successor)

    async def logout(self, refresh_token: str, address: str | None = None) -> None:
        """End the login of a refresh token; an unknown one is no error."""
        await self._database.transaction(_end, _digest(refresh_token), utc(self._clock), address)

    async def known(self, username: str) -> User | None:
        """The account of a name as somebody typed it."""
        return await self.users.by_username(username) if is_username(username) else None

    async def bearer(self, access_token: str) -> User:
        """Whose access token this is, ours or an outside issuer's, as the account is now. Raises InvalidToken, also for
        a disabled account, and for a token of ours from before its password was changed or it was disabled."""
        if self._outsiders is not None and (outsider := self._outsiders.of(access_token)) is not None:
            return await outsider.account(access_token)
        claims = self._tokens.verify_access(access_token)
        user = await self.users.by_id(claims.sub)
        if user is None or user.disabled or user.token_generation != claims.gen:
            raise InvalidToken
        return user

    async def giver(self, claims: PlaybackClaims) -> User | None:
        """The account that gave a playback token away, as it is now; None where no account did. Raises InvalidToken
        when its tokens have ended since, and DatabaseUnavailable also when that takes longer than viewers wait."""
        if claims.by is None:
            return None
        user_id, generation = claims.by
        asked = Deferred.fromCoroutine(self.users.by_id(user_id))
        try:
            user = await asked.addTimeout(PATIENCE, self._clock)
        except TimeoutError:
            raise DatabaseUnavailable("The database takes too long to say whose token this is.") from None
        if user is None or user.disabled or user.token_generation != generation:
            raise InvalidToken
        return user

    async def create(
        self,
        username: str,
        password: str,
        role: Role = "viewer",
        email: str | None = None,
        *,
        by: Actor = SERVER,
        action: str = "user.create",
        address: str | None = None,
    ) -> User:
        """`address` is where it is asked for from, when anybody may. Raises InvalidAccount, Conflict when the name or
        address is taken, Overloaded, and TooManyAttempts."""
        if not is_username(username):
            raise InvalidAccount(
                "username", "must be 3 to 50 letters, digits, dots, dashes, underscores and at signs"
            )
        _check_email(email)
        hashed = await self._passwords.hash(password, address)
        return await self.users.create(username, hashed, role, email=email, by=by, action=action)

    async def change(
        self,
        user_id: str,
        *,
        role: Role | None = None,
        email: str | msgspec.UnsetType | None = msgspec.UNSET,
        password: str | None = None,
        disabled: bool | None = None,
        by: Actor = SERVER,
        versions: Versions = None,
    ) -> User | None:
        """Change what is given (None means no address, and no change of anything else). A new password, and disabling,
        end the account's logins. The account after it, None when there is none. Raises InvalidAccount, Outdated when
        its version is none of `versions`, Conflict when the address is taken, LastAdmin, and Overloaded."""
        changed: dict[str, Value] = {}
        if role is not None:
            changed["role"] = role
        if email is not msgspec.UNSET:
            _check_email(email)
            changed["email"] = email
        if disabled is not None:
            changed["disabled"] = disabled
        if password is not None:
            changed["password_hash"] = await self._passwords.hash(password)
        return await self._database.transaction(_change, user_id, changed, utc(self._clock), by, versions)

    async def set_password(self, user_id: str, password: str, by: Actor = SERVER) -> bool:
        """Change a password and end the account's logins. Answers whether there is such an account."""
        return await self.change(user_id, password=password, by=by) is not None

    async def set_disabled(self, user_id: str, disabled: bool, by: Actor = SERVER) -> bool:
        """Disable an account and end its logins, or enable it. Answers whether there is such an account. Raises
        LastAdmin."""
        return await self.change(user_id, disabled=disabled, by=by) is not None

    async def delete(self, user_id: str, by: Actor = SERVER) -> bool:
        """Delete an account with its streams. Answers whether it was there. Raises LastAdmin."""
        return await self._database.transaction(delete_user, user_id, utc(self._clock), by)

    def _login(self, user: User, refresh_token: str) -> Login:
        return Login(
            user=user,
            access_token=self._tokens.access(user),
            refresh_token=refresh_token,
            expires_in=int(self._tokens.access_lifetime),
        )


def _begin(user: User, digest: str, now: datetime, expires_at: datetime, address: str | None) -> Body[bool]:
    begun = yield from insert_token(user.id, user.token_generation, digest, now, expires_at)
    if begun:
        yield from note(actor(user, address), "login", target(user.username), now)
    return begun


def _rotate(
    digest: str, successor: str, now: datetime, expires_at: datetime, address: str | None
) -> Body[Rotation]:
    rotation = yield from rotate_token(digest, successor, now, expires_at)
    if rotation.outcome == "reused" and rotation.user_id is not None:
        # Once: its family is revoked now. By whom is not known: the owner and a thief both have had it.
        user = yield from find_user(rotation.user_id)
        name = target(user.username) if user is not None else ""
        yield from note(Actor(ANONYMOUS, None, address), "login.reuse", name, now)
    return rotation


def _end(digest: str, now: datetime, address: str | None) -> Body[None]:
    user_id = yield from revoke_family(digest, now)
    user = (yield from find_user(user_id)) if user_id is not None else None
    if user is not None:
        yield from note(actor(user, address), "logout", target(user.username), now)


def _change(
    user_id: str, changed: dict[str, Value], now: datetime, by: Actor, versions: Versions
) -> Body[User | None]:
    ends_logins = "password_hash" in changed or changed.get("disabled") is True
    user = yield from change_user(user_id, changed, now, by, ends_tokens=ends_logins, versions=versions)
    if ends_logins and user is not None:
        yield from revoke_all(user_id, now)
    return user


def _check_email(email: str | None) -> None:
    if email is not None and not is_email(email):
        raise InvalidAccount("email", "is not an e-mail address")


def _digest(token: str) -> str:
    # 256 random bits need no key and no salt.
    return hashlib.sha256(token[:LONGEST_REFRESH_TOKEN].encode("utf-8", "surrogatepass")).hexdigest()
