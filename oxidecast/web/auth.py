"""`/auth`: logging in, staying logged in, and registering where that is allowed."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from oxidecast.accounts.accounts import Accounts, Login
from oxidecast.accounts.errors import (
    BadCredentials,
    InvalidAccount,
    InvalidToken,
    Overloaded,
    TooManyAttempts,
)
from oxidecast.accounts.settings import AuthSettings
from oxidecast.database.errors import Conflict
from oxidecast.database.users import User
from oxidecast.web.api import ApiError, Call, Reply, Route, unauthorised


class Credentials(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    username: Annotated[str, Meta(max_length=100)]
    password: Annotated[str, Meta(max_length=1024)]


class Registration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    username: Annotated[str, Meta(min_length=3, max_length=50)]
    password: Annotated[str, Meta(min_length=8, max_length=1024)]
    email: str | None = None


class Refresh(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    refresh_token: Annotated[str, Meta(max_length=1024)]


class UserView(msgspec.Struct, frozen=True):
    """A user as the API shows one."""

    id: str
    username: str
    email: str | None
    role: str
    created_at: datetime


def user_view(user: User) -> UserView:
    return UserView(user.id, user.username, user.email, user.role, user.created_at)


class AuthRoutes:
    """The handlers."""

    def __init__(self, accounts: Accounts, settings: AuthSettings) -> None:
        self.settings = settings
        self._accounts = accounts

    def routes(self) -> Sequence[Route]:
        return (
            Route("POST", "/auth/login", self.login, anonymous=True),
            Route("POST", "/auth/register", self.register, anonymous=True),
            Route("POST", "/auth/refresh", self.refresh, anonymous=True),
            Route("POST", "/auth/logout", self.logout, anonymous=True),
        )

    async def login(self, call: Call) -> dict[str, Any]:
        body = call.body(Credentials)
        try:
            login = await self._accounts.login(body.username, body.password, call.address)
        except TooManyAttempts as error:
            raise ApiError(429, error.code, str(error), [("Retry-After", str(error.retry_after))])
        except Overloaded as error:
            raise ApiError(503, error.code, str(error), [("Retry-After", "1")])
        except BadCredentials as error:
            raise unauthorised(str(error), error.code)
        return _tokens(login)

    async def register(self, call: Call) -> Reply:
        if not self.settings.open_registration:
            raise ApiError(403, "registration_closed", "Registration is closed: ask an administrator.")
        body = call.body(Registration)
        try:
            user = await self._accounts.create(body.username, body.password, "viewer", body.email)
        except InvalidAccount as error:
            raise ApiError(422, "invalid", str(error), fields={error.field: error.rule})
        except Conflict as error:
            raise ApiError(409, "taken", str(error))
        except Overloaded as error:
            raise ApiError(503, error.code, str(error), [("Retry-After", "1")])
        return Reply(user_view(user), 201)

    async def refresh(self, call: Call) -> dict[str, Any]:
        try:
            return _tokens(await self._accounts.refresh(call.body(Refresh).refresh_token))
        except InvalidToken as error:
            raise unauthorised(str(error), error.code)

    async def logout(self, call: Call) -> None:
        await self._accounts.logout(call.body(Refresh).refresh_token)


def _tokens(login: Login) -> dict[str, Any]:
    return {
        "access_token": login.access_token,
        "refresh_token": login.refresh_token,
        "token_type": "Bearer",
        "expires_in": login.expires_in,
        "user": user_view(login.user),
    }
