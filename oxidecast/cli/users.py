"""`oxidecast user`: accounts, for whoever may read the data directory."""

import argparse
import secrets
from typing import Any

import msgspec

from oxidecast.cli.common import CommandError, new_password, opened, react, say, system_actor, table

COLUMNS = ("NAME", "ROLE", "STATE", "EMAIL", "CREATED", "LAST LOGIN")
ROLES = ("admin", "streamer", "viewer")
RANDOM_BYTES = 18
"""Of a password that is made: 144 bits in 24 characters."""


def arguments(command: Any, actions: Any) -> None:
    """Add what can be done to the parser. `command` makes one of `actions`."""
    add = command(actions, "add", _add, "make an account; its password is asked for, or read from the input")
    add.add_argument("username")
    add.add_argument("--role", choices=ROLES, default="viewer", help="viewer by default")
    add.add_argument("--email", metavar="ADDRESS")
    add.add_argument("--generate", action="store_true", help="make a password, and print it")
    listed = command(actions, "list", _list, "list the accounts")
    listed.add_argument("--json", action="store_true", help="as a JSON array")
    command(actions, "passwd", _passwd, "set a user's password").add_argument("username")
    for name, disabled, help in (
        ("disable", True, "end a user's logins, keys and live streams, and allow no others"),
        ("enable", False, "allow a user again what disabling ended"),
    ):
        switch = command(actions, name, _switch, help)
        switch.add_argument("username")
        switch.set_defaults(disabled=disabled)


def _add(options: argparse.Namespace) -> int:
    foundation = opened(options)
    password = secrets.token_urlsafe(RANDOM_BYTES) if options.generate else new_password()

    async def work() -> None:
        from oxidecast.database import Conflict

        await foundation.migrate()
        try:
            user = await foundation.accounts.create(
                options.username, password, options.role, options.email, by=system_actor()
            )
        except Conflict:
            raise CommandError("another account has this name, or this address")
        say(f"the {user.role} {user.username} is made")
        if options.generate:
            say(f"password: {password}")

    return react(work, foundation.close)


def _list(options: argparse.Namespace) -> int:
    foundation = opened(options)

    async def work() -> None:
        await foundation.migrate()
        users = await _all(foundation)
        if options.json:
            shown = [
                {
                    "id": user.id,
                    "username": user.username,
                    "email": user.email,
                    "role": user.role,
                    "disabled": user.disabled,
                    "created_at": user.created_at,
                    "last_login_at": user.last_login_at,
                }
                for user in users
            ]
            say(msgspec.json.encode(shown).decode())
            return
        rows: list[tuple[str, ...]] = [COLUMNS]
        for user in users:
            state = "disabled" if user.disabled else "enabled"
            times = (_day(user.created_at), _day(user.last_login_at))
            rows.append((user.username, user.role, state, user.email or "-", *times))
        table(rows)

    return react(work, foundation.close)


async def _all(foundation: Any) -> list[Any]:
    users: list[Any] = []
    number = 1
    while True:
        page = await foundation.accounts.users.page(number, 100)
        users += page.items
        if number >= page.total_pages:
            return users
        number += 1


def _day(moment: Any) -> str:
    return moment.strftime("%Y-%m-%d %H:%M") if moment is not None else "never"


def _passwd(options: argparse.Namespace) -> int:
    foundation = opened(options)
    password = new_password()

    async def work() -> None:
        from oxidecast.accounts.bootstrap import USERNAME, forget_first_password

        await foundation.migrate()
        user = await _named(foundation, options.username)
        await foundation.accounts.set_password(user.id, password, system_actor())
        say(f"the password of {user.username} is set; earlier logins have ended")
        if user.username == USERNAME:
            try:
                forget_first_password(foundation.data_directory)
            except OSError as error:
                raise CommandError(f"{error.filename} holds the old password and stays: {error.strerror}")

    return react(work, foundation.close)


def _switch(options: argparse.Namespace) -> int:
    foundation = opened(options)

    async def work() -> None:
        await foundation.migrate()
        user = await _named(foundation, options.username)
        await foundation.accounts.set_disabled(user.id, options.disabled, system_actor())
        if options.disabled:
            say(f"{user.username} is disabled; logins, keys and live streams end")
        else:
            say(f"{user.username} is enabled, and has to log in again")

    return react(work, foundation.close)


async def _named(foundation: Any, username: str) -> Any:
    user = await foundation.accounts.users.by_username(username)
    if user is None:
        raise CommandError(f"there is no user {username!r}")
    return user
