"""`/users`: the accounts, for administrators."""

from collections.abc import Sequence
from typing import Any, get_args

import msgspec
from msgspec import UNSET, UnsetType

from oxidecast.accounts.accounts import Accounts
from oxidecast.accounts.errors import InvalidAccount
from oxidecast.accounts.roles import Permission, may
from oxidecast.database.errors import Conflict
from oxidecast.database.users import LastAdmin, Role, Sort, User, version
from oxidecast.streams.info import is_stream_id
from oxidecast.web.api import PAGING, ApiError, Call, Page, Query, Reply, Route, invalid, not_found
from oxidecast.web.auth import create_account
from oxidecast.web.consequences import Consequences
from oxidecast.web.fields import Email, Password, Time, Username
from oxidecast.web.tags import etag, expected


class NewUser(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of what may be left out, null says that it is."""

    username: Username
    password: Password
    role: Role | None = None
    email: Email | None = None


class UserChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is left out stays. For an address null says that there is none, for all else that it is left out."""

    role: Role | None = None
    email: Email | UnsetType | None = UNSET
    password: Password | None = None
    disabled: bool | None = None


class AccountView(msgspec.Struct, frozen=True):
    """A user as administrators see one."""

    id: str
    username: str
    email: str | None
    role: str
    created_at: Time
    disabled: bool
    updated_at: Time
    last_login_at: Time | None


class UserRoutes:
    """The handlers."""

    def __init__(self, accounts: Accounts, consequences: Consequences) -> None:
        self._accounts = accounts
        self._consequences = consequences

    def routes(self) -> Sequence[Route]:
        needs = Permission.MANAGE_USERS
        filters = (
            Query("q", str, "A part of the username."),
            Query("role", Role, "Only accounts of this role."),
            Query("disabled", bool, "Only those that are disabled, or only those that are not."),
            Query("sort", Sort, "By what; with a dash the other way round. created by default."),
        )
        return (
            Route(
                "GET",
                "/users",
                self.list,
                needs=needs,
                answer=Page[AccountView],
                query=(*PAGING, *filters),
            ),
            Route(
                "POST",
                "/users",
                self.create,
                needs=needs,
                body=NewUser,
                answer=AccountView,
                status=201,
                refusals=(409,),
                gives_up=True,
            ),
            Route("GET", "/users/{user}", self.show, needs=needs, answer=AccountView),
            Route(
                "PATCH",
                "/users/{user}",
                self.change,
                needs=needs,
                body=UserChange,
                answer=AccountView,
                refusals=(409,),
                if_match=True,
                gives_up=True,
            ),
            Route("DELETE", "/users/{user}", self.delete, needs=needs, refusals=(409,)),
        )

    async def list(self, call: Call) -> Page[AccountView]:
        """The accounts, oldest first."""
        page, limit = call.paging()
        role: Any = call.choice("role", get_args(Role))
        sort: Any = call.choice("sort", get_args(Sort)) or "created"
        found = await self._accounts.users.page(
            page, limit, role=role, q=call.query("q"), disabled=call.flag("disabled"), sort=sort
        )
        return Page([_view(user) for user in found.items], found.total, page, limit, found.total_pages)

    async def create(self, call: Call) -> Reply:
        """Make an account, of the role viewer unless another is named."""
        body = call.body(NewUser)
        user = await create_account(
            self._accounts, body.username, body.password, body.role or "viewer", body.email, call.actor
        )
        return Reply(_view(user), 201, [("Location", f"/api/v1/users/{user.id}")])

    async def show(self, call: Call) -> Reply:
        """One account."""
        user_id = call.arguments["user"]
        user = await self._accounts.users.by_id(user_id) if is_stream_id(user_id) else None
        if user is None:
            raise not_found("There is no such user.")
        return _tagged(user)

    async def change(self, call: Call) -> Reply:
        """Change an account. A new password ends its logins; disabling ends its logins, keys and live streams. The last
        enabled administrator stays one."""
        user_id, body = call.arguments["user"], call.body(UserChange)
        if not is_stream_id(user_id):
            raise not_found("There is no such user.")
        try:
            user = await self._accounts.change(
                user_id,
                role=body.role,
                email=body.email,
                password=body.password,
                disabled=body.disabled,
                by=call.actor,
                versions=expected(call),
            )
        except InvalidAccount as error:
            raise invalid(error.field, error.rule)
        except LastAdmin as error:
            raise ApiError(409, "last_admin", str(error))
        except Conflict as error:
            raise ApiError(409, "taken", str(error))
        if user is None:
            raise not_found("There is no such user.")
        if user.disabled:
            self._consequences.account_ended(user.id)
        elif not may(user, Permission.PUBLISH):
            self._consequences.account_demoted(user.id)
        return _tagged(user)

    async def delete(self, call: Call) -> None:
        """Delete an account with its streams; who only wants it out disables it. An account that is not there is as
        good as deleted. The last enabled administrator cannot be."""
        user_id = call.arguments["user"]
        if not is_stream_id(user_id):
            return
        try:
            await self._accounts.delete(user_id, call.actor)
        except LastAdmin as error:
            raise ApiError(409, "last_admin", str(error))
        self._consequences.account_ended(user_id)


def _tagged(user: User) -> Reply:
    return Reply(_view(user), headers=[etag(version(user))])


def _view(user: User) -> AccountView:
    return AccountView(
        id=user.id,
        username=user.username,
        email=user.email,
        role=user.role,
        created_at=user.created_at,
        disabled=user.disabled,
        updated_at=user.updated_at,
        last_login_at=user.last_login_at,
    )
