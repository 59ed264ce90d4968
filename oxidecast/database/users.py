"""Who may do what: the accounts."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

import msgspec
from twisted.internet.interfaces import IReactorTime

from oxidecast.database.audit import SERVER, Actor, note
from oxidecast.database.changes import note_change
from oxidecast.database.errors import Conflict
from oxidecast.database.interface import Body, IDatabase, Value
from oxidecast.database.records import (
    Page,
    Versions,
    contains,
    is_id,
    new_id,
    record,
    require_version,
    utc,
    version_of,
    window,
)

Role = Literal["admin", "streamer", "viewer"]
Sort = Literal["created", "-created", "username", "-username"]

_ORDERS: Mapping[Sort, str] = {
    "created": "created_at, id",
    "-created": "created_at DESC, id",
    "username": "lower(username)",
    "-username": "lower(username) DESC",
}

_COLUMNS = (
    "id, username, email, role, password_hash, disabled, created_at, updated_at, last_login_at,"
    " token_generation"
)


class User(msgspec.Struct, frozen=True, kw_only=True):
    """An account. `password_hash` leaves this Struct for nothing but verification."""

    id: str
    username: str
    email: str | None
    role: Role
    password_hash: str
    disabled: bool
    created_at: datetime
    updated_at: datetime
    last_login_at: datetime | None
    token_generation: int
    """Access tokens of another one do not count."""

    def __repr__(self) -> str:
        return f"User({self.username!r}, {self.role!r})"


def version(user: User) -> str:
    """A word that is another one whenever something of what administrators can change is."""
    return version_of(user.role, user.email, user.disabled, user.token_generation)


class LastAdmin(Conflict):
    """Without this account nobody could manage the others."""

    def __init__(self) -> None:
        super().__init__("This is the last enabled administrator.")


class Users:
    """The users table. Usernames and e-mail addresses are unique without regard to case."""

    def __init__(self, database: IDatabase, clock: IReactorTime) -> None:
        self._database = database
        self._clock = clock

    async def create(
        self,
        username: str,
        password_hash: str,
        role: Role,
        *,
        email: str | None = None,
        by: Actor = SERVER,
        action: str = "user.create",
    ) -> User:
        """Raises Conflict when the username or the address is taken."""
        return await self._database.transaction(
            _create, username, password_hash, role, email, utc(self._clock), by, action
        )

    async def by_id(self, user_id: str) -> User | None:
        return await self._one("id = :value", user_id) if is_id(user_id) else None

    async def by_username(self, username: str) -> User | None:
        return await self._one("lower(username) = lower(:value)", username)

    async def page(
        self,
        page: int = 1,
        limit: int = 20,
        *,
        role: Role | None = None,
        q: str | None = None,
        disabled: bool | None = None,
        sort: Sort = "created",
    ) -> Page[User]:
        """Oldest first, unless said otherwise. `q` finds parts of usernames."""
        conditions, params = ["true"], dict[str, Value]()
        if role is not None:
            conditions.append("role = :role")
            params["role"] = role
        if q:
            conditions.append("lower(username) LIKE :q ESCAPE '\\'")
            params["q"] = contains(q)
        if disabled is not None:
            conditions.append("disabled = :disabled")
            params["disabled"] = disabled
        where = " AND ".join(conditions)
        rows = await self._database.query(f"SELECT count(*) AS total FROM users WHERE {where}", params)
        count, offset = window(page, limit)
        found = await self._database.query(
            f"SELECT {_COLUMNS} FROM users WHERE {where} ORDER BY {_ORDERS[sort]} LIMIT :limit OFFSET :offset",
            {**params, "limit": count, "offset": offset},
        )
        return Page([record(row, User) for row in found], rows[0]["total"], max(page, 1), count)

    async def by_email(self, email: str) -> User | None:
        return await self._one("lower(email) = lower(:value)", email)

    async def by_outside(self, issuer: str, subject: str) -> User | None:
        """The account that was made for somebody of an outside issuer."""
        rows = await self._database.query(
            f"SELECT {_COLUMNS} FROM users WHERE outside_issuer = :issuer AND outside_subject = :subject",
            {"issuer": issuer, "subject": subject},
        )
        return record(rows[0], User) if rows else None

    async def renew_hash(self, user: User, password_hash: str) -> bool:
        """Another hash of the same password, which ends no login. False when the password was changed meanwhile."""
        changed = await self._database.execute(
            "UPDATE users SET password_hash = :renewed, updated_at = :now"
            " WHERE id = :id AND password_hash = :verified",
            {
                "id": user.id,
                "verified": user.password_hash,
                "renewed": password_hash,
                "now": utc(self._clock),
            },
        )
        return changed == 1

    async def logged_in(self, user_id: str) -> None:
        await self._database.execute(
            "UPDATE users SET last_login_at = :now WHERE id = :id", {"id": user_id, "now": utc(self._clock)}
        )

    async def _one(self, condition: str, value: str) -> User | None:
        rows = await self._database.query(f"SELECT {_COLUMNS} FROM users WHERE {condition}", {"value": value})
        return record(rows[0], User) if rows else None


def find_user(user_id: str) -> Body[User | None]:
    """A step of a transaction."""
    rows = yield f"SELECT {_COLUMNS} FROM users WHERE id = :id", {"id": user_id}
    return record(rows[0], User) if rows else None


def target(username: str) -> str:
    """A user as the audit log names one."""
    return f"user:{username}"


def actor(user: User, address: str | None = None) -> Actor:
    """A user who does something."""
    return Actor(user.username, user.id, address)


def change_user(
    user_id: str,
    changed: Mapping[str, Value],
    now: datetime,
    by: Actor,
    *,
    ends_tokens: bool = False,
    versions: Versions = None,
) -> Body[User | None]:
    """A step of a transaction: other values, by column, and whether the access tokens of before end. The user after it,
    None when there is none. Raises Outdated when its version is none of `versions`, LastAdmin, and Conflict when the
    e-mail address is taken."""
    if not is_id(user_id):
        return None
    before = yield from find_user(user_id)
    if before is not None:
        require_version(version(before), versions)
    if changed.get("disabled") or changed.get("role", "admin") != "admin":
        yield from _keep_an_admin(user_id)
    columns = "".join(f"{column} = :{column}, " for column in changed)  # names from the code
    if ends_tokens:
        columns += "token_generation = token_generation + 1, "
    rows = yield (
        f"UPDATE users SET {columns}updated_at = :now WHERE id = :id RETURNING {_COLUMNS}",
        {**changed, "id": user_id, "now": now},
    )
    if not rows or before is None:
        return None
    user = record(rows[0], User)
    for action, details in _told(before, user):
        yield from note(by, action, target(user.username), now, {"id": user_id, **details})
    if "disabled" in changed or "role" in changed:
        yield from note_change(now, user_id=user_id)
    return user


def _told(before: User, after: User) -> list[tuple[str, dict[str, str]]]:
    """What became of an account, by action."""
    told: list[tuple[str, dict[str, str]]] = []
    if before.role != after.role:
        told.append(("user.role", {"role": after.role, "before": before.role}))
    if before.disabled != after.disabled:
        told.append(("user.disable" if after.disabled else "user.enable", {}))
    if before.password_hash != after.password_hash:
        told.append(("user.password", {}))
    if before.email != after.email:
        told.append(("user.email", {}))
    return told


def delete_user(user_id: str, now: datetime, by: Actor) -> Body[bool]:
    """Delete an account with its streams and logins. Answers whether it was there. Raises LastAdmin."""
    if not is_id(user_id):
        return False
    yield from _keep_an_admin(user_id)
    streams = yield "DELETE FROM streams WHERE owner_id = :id RETURNING id", {"id": user_id}
    rows = yield "DELETE FROM users WHERE id = :id RETURNING username", {"id": user_id}
    for row in rows:
        details = {"id": user_id, "streams": len(streams)}
        yield from note(by, "user.delete", target(row["username"]), now, details)
        yield from note_change(now, user_id=user_id)
    return bool(rows)


def _create(
    username: str,
    password_hash: str,
    role: Role,
    email: str | None,
    now: datetime,
    by: Actor,
    action: str,
) -> Body[User]:
    user = yield from insert_user(username, password_hash, role, email, now)
    yield from note(by, action, target(username), now, {"id": user.id, "role": role})
    return user


def _keep_an_admin(user_id: str) -> Body[None]:
    # A change locks the rows in every engine, which a look does not: of two administrators who demote each other at
    # once, the second finds itself the last.
    rows = yield (
        "UPDATE users SET updated_at = updated_at WHERE role = 'admin' AND NOT disabled RETURNING id",
        {},
    )
    if {str(row["id"]) for row in rows} == {user_id}:
        raise LastAdmin


def insert_user(
    username: str,
    password_hash: str,
    role: Role,
    email: str | None,
    now: datetime,
    outside: tuple[str, str] | None = None,
) -> Body[User]:
    """A step of a transaction: `user = yield from insert_user(...)`. `outside` is the issuer, and who it is there, for
    whom the account is made."""
    issuer, subject = outside or (None, None)
    rows = yield (
        "INSERT INTO users (id, username, email, role, password_hash, disabled, created_at, updated_at,"
        " outside_issuer, outside_subject)"
        " VALUES (:id, :username, :email, :role, :password_hash, false, :now, :now, :issuer, :subject)"
        f" RETURNING {_COLUMNS}",
        {
            "id": new_id(),
            "username": username,
            "email": email,
            "role": role,
            "password_hash": password_hash,
            "now": now,
            "issuer": issuer,
            "subject": subject,
        },
    )
    return record(rows[0], User)
