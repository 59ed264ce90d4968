"""`/auth`: logging in, staying logged in, and registering where that is allowed."""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from oxidecast.accounts.accounts import Accounts, Login
from oxidecast.accounts.errors import (
    BadCredentials,
    InvalidAccount,
    InvalidToken,
    TooManyAttempts,
)
from oxidecast.accounts.settings import AuthSettings
from oxidecast.database.audit import Actor
from oxidecast.database.errors import Conflict
from oxidecast.database.users import Role, User
from oxidecast.web.api import ApiError, Call, Reply, Route, invalid, unauthorised
from oxidecast.web.failed_logins import FailedLogins
from oxidecast.web.fields import Email, Password, Time, Username


class Credentials(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    username: Annotated[str, Meta(max_length=100)]
    password: Annotated[str, Meta(max_length=1024)]


class Registration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    username: Username
    password: Password
    email: Email | None = None


class Refresh(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    refresh_token: Annotated[str, Meta(max_length=1024)]


class Logout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    refresh_token: Annotated[str, Meta(max_length=1024)] | None = None


class UserView(msgspec.Struct, frozen=True):
    """A user as the API shows one."""

    id: str
    username: str
    email: str | None
    role: str
    created_at: Time


def user_view(user: User) -> UserView:
    return UserView(user.id, user.username, user.email, user.role, user.created_at)


class LoginView(msgspec.Struct, frozen=True):
    """What a login gives: an access token for `expires_in` seconds, and the refresh token for the next one."""

    access_token: str
    refresh_token: str
    expires_in: int
    user: UserView
    token_type: str = "Bearer"


class AuthRoutes:
    """The handlers."""

    def __init__(self, accounts: Accounts, settings: AuthSettings, failures: FailedLogins) -> None:
        self.settings = settings
        self._accounts = accounts
        self._failures = failures

    def routes(self) -> Sequence[Route]:
        return (
            Route(
                "POST",
                "/auth/login",
                self.login,
                anonymous=True,
                body=Credentials,
                answer=LoginView,
                refusals=(401, 429),
                gives_up=True,
            ),
            Route(
                "POST",
                "/auth/register",
                self.register,
                anonymous=True,
                body=Registration,
                answer=UserView,
                status=201,
                refusals=(403, 409),
                limit="auth",
                gives_up=True,
            ),
            Route(
                "POST",
                "/auth/refresh",
                self.refresh,
                anonymous=True,
                body=Refresh,
                answer=LoginView,
                refusals=(401,),
                limit="auth",
            ),
            Route(
                "POST",
                "/auth/logout",
                self.logout,
                anonymous=True,
                body=Logout,
                body_optional=True,
                limit="auth",
            ),
        )

    async def login(self, call: Call) -> LoginView:
        """Log in. Limited by address, and by address and account together."""
        body = call.body(Credentials)
        try:
            login = await self._accounts.login(body.username, body.password, call.address)
        except TooManyAttempts as error:
            self._failures.add(call.address, body.username)
            raise _too_many(error)
        except BadCredentials as error:
            self._failures.add(call.address, body.username)
            raise unauthorised(str(error), error.code)
        return _view(login)

    async def register(self, call: Call) -> Reply:
        """Make an account of the role viewer, where the settings allow that to everybody."""
        if not self.settings.open_registration:
            raise ApiError(403, "registration_closed", "Registration is closed: ask an administrator.")
        body = call.body(Registration)
        user = await create_account(
            self._accounts,
            body.username,
            body.password,
            "viewer",
            body.email,
            call.actor,
            "user.register",
            call.address,
        )
        return Reply(user_view(user), 201)

    async def refresh(self, call: Call) -> LoginView:
        """A new pair of tokens for a refresh token, which is used up. One that was used before ends its login."""
        try:
            return _view(await self._accounts.refresh(call.body(Refresh).refresh_token, call.address))
        except InvalidToken as error:
            raise unauthorised(str(error), error.code)

    async def logout(self, call: Call) -> None:
        """End the login that the refresh token belongs to. Without one there is nothing to end: the client forgets its
        access token, which expires by itself."""
        token = call.optional_body(Logout).refresh_token
        if token is not None:
            await self._accounts.logout(token, call.address)


async def create_account(
    accounts: Accounts,
    username: str,
    password: str,
    role: Role,
    email: str | None,
    by: Actor,
    action: str = "user.create",
    address: str | None = None,
) -> User:
    """`address` is where it is asked for from, when anybody may. Raises ApiError for what the account cannot be."""
    try:
        return await accounts.create(username, password, role, email, by=by, action=action, address=address)
    except InvalidAccount as error:
        raise invalid(error.field, error.rule)
    except Conflict as error:
        raise ApiError(409, "taken", str(error))
    except TooManyAttempts as error:
        raise _too_many(error)


def _too_many(error: TooManyAttempts) -> ApiError:
    return ApiError(429, error.code, str(error), [("Retry-After", str(error.retry_after))])


def _view(login: Login) -> LoginView:
    return LoginView(login.access_token, login.refresh_token, login.expires_in, user_view(login.user))
