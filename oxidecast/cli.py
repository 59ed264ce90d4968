"""The `oxidecast` command."""

import argparse
import getpass
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import oxidecast
from oxidecast.settings.errors import StartError
from oxidecast.tap import places

PLUGIN_COLUMNS = ("NAME", "KIND", "VERSION", "ORIGIN", "STATE")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; what hinders it is one sentence and exit code 1."""
    options = _parser().parse_args(arguments)
    try:
        sys.exit(options.run(options))
    except (StartError, CommandError) as error:
        sys.exit(f"oxidecast: {error}")


class CommandError(Exception):
    """A command cannot be done; the message is one sentence."""


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", "-c", metavar="FILE", help="settings file (TOML); or $OXIDECAST_CONFIG")
    common.add_argument("--data-dir", "-d", metavar="DIR", help="where data is kept; or $OXIDECAST_DATA_DIR")
    parser = argparse.ArgumentParser(prog="oxidecast", description="A live streaming server.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(within: Any, name: str, run: Callable[[argparse.Namespace], int], help: str) -> Any:
        sub = within.add_parser(name, parents=[common], help=help, description=help)
        sub.set_defaults(run=run)
        return sub

    run = command(commands, "run", _run, "run the server in the foreground")
    run.add_argument("--demo", action="store_true", help="publish a built-in moving test pattern")
    command(commands, "check", _check, "validate the settings, then the machine")
    command(commands, "plugins", _plugins, "list the plugins that are found")
    command(commands, "version", _version, "print the version")
    migrate = command(commands, "migrate", _migrate, "bring the database to this version's schema")
    migrate.add_argument("--dry-run", action="store_true", help="only say what would be done")
    users = commands.add_parser("user", help="accounts").add_subparsers(required=True, metavar="ACTION")
    command(users, "passwd", _passwd, "set a user's password").add_argument("username")
    keys = commands.add_parser("key", help="stream keys").add_subparsers(required=True, metavar="ACTION")
    command(keys, "show", _show_key, "show a stream's key").add_argument("stream")
    return parser


# -- commands


def _run(options: argparse.Namespace) -> int:
    from twisted.scripts.twistd import run

    given = [("--config", options.config), ("--data-dir", options.data_dir)]
    named = [word for name, value in given if value is not None for word in (name, value)]
    sys.argv = [
        "twistd",
        "--nodaemon",
        "--pidfile=",
        "oxidecast",
        *named,
        *(["--demo"] if options.demo else []),
    ]
    run()
    return 0


def _version(options: argparse.Namespace) -> int:
    _print(f"OxideCast {oxidecast.__version__}")
    return 0


def _plugins(options: argparse.Namespace) -> int:
    from oxidecast.foundation import configure
    from oxidecast.registry import kind_word

    configuration = configure(_places(options)[0], os.environ)
    rows: list[tuple[str, ...]] = [PLUGIN_COLUMNS]
    for plugin in configuration.found:
        origin, version = _origin(plugin)
        state = "enabled" if plugin in configuration.plugins else "disabled"
        rows.append((plugin.name, kind_word(plugin), version, origin, state))
    widths = [max(len(row[column]) for row in rows) for column in range(len(PLUGIN_COLUMNS))]
    for row in rows:
        _print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _origin(plugin: Any) -> tuple[str, str]:
    """The distribution that a plugin comes from, and its version."""
    from importlib.metadata import packages_distributions, version

    module = plugin.factory.__module__ if hasattr(plugin, "factory") else type(plugin).__module__
    package = module.partition(".")[0]
    if package == "oxidecast":
        return "oxidecast", oxidecast.__version__
    for distribution in packages_distributions().get(package, ()):
        return distribution, version(distribution)
    return module, "?"


def _check(options: argparse.Namespace) -> int:
    from oxidecast.check import check

    config, data = _places(options)
    return check(config, data, os.environ, _print)


def _migrate(options: argparse.Namespace) -> int:
    from twisted.internet import reactor

    from oxidecast.database import migrate, open_database, pending, require_database
    from oxidecast.database.settings import DatabaseSettings
    from oxidecast.foundation import configure

    config, data = _places(options)
    url = configure(config, os.environ).settings.of(DatabaseSettings).url
    if not options.dry_run:
        require_database(url, data)
    database = open_database(url, data, reactor)

    async def work() -> None:
        from datetime import UTC, datetime

        steps = await pending(database)
        if not options.dry_run:
            steps = await migrate(database, datetime.now(UTC))
        for step in steps:
            _print(f"{'would run' if options.dry_run else 'ran'} {step.version:04} {step.name}")
        if not steps:
            _print("nothing to do: the schema is up to date")

    return _react(work, database.close)


def _show_key(options: argparse.Namespace) -> int:
    foundation = _foundation(options)

    async def work() -> None:
        from oxidecast.accounts.errors import KeyUnreadable

        await foundation.migrate()
        info = await foundation.streams.find(options.stream)
        if info is None:
            raise CommandError(f"there is no stream {options.stream!r}")
        try:
            key = await foundation.keys.newest(info.id)
        except KeyUnreadable as error:
            raise CommandError(str(error))
        if key is None:
            raise CommandError(f"the stream {info.name!r} has no key")
        _print(key.text)

    return _react(work, foundation.close)


def _passwd(options: argparse.Namespace) -> int:
    foundation = _foundation(options)
    password = _new_password()

    async def work() -> None:
        from oxidecast.accounts.bootstrap import USERNAME, forget_first_password
        from oxidecast.accounts.errors import InvalidAccount

        await foundation.migrate()
        user = await foundation.accounts.users.by_username(options.username)
        if user is None:
            raise CommandError(f"there is no user {options.username!r}")
        try:
            await foundation.accounts.set_password(user.id, password)
        except InvalidAccount as error:
            raise CommandError(str(error))
        _print(f"the password of {user.username} is set; earlier logins have ended")
        if user.username == USERNAME:
            try:
                forget_first_password(foundation.data_directory)
            except OSError as error:
                raise CommandError(f"{error.filename} holds the old password and stays: {error.strerror}")

    return _react(work, foundation.close)


# -- what they share


def _places(options: argparse.Namespace) -> tuple[Path | None, Path]:
    return places({"config": options.config, "data-dir": options.data_dir}, os.environ)


def _new_password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    password = getpass.getpass("New password: ")
    if getpass.getpass("Once more: ") != password:
        raise CommandError("the two passwords differ")
    return password


def _foundation(options: argparse.Namespace) -> Any:
    """What the server stands on, which may be running. A command makes none, or a wrong --data-dir would look right."""
    from twisted.internet import reactor

    from oxidecast.foundation import Foundation, configure

    config, data = _places(options)
    return Foundation(configure(config, os.environ), data, reactor, make=False)


def _react(work: Callable[[], Awaitable[None]], close: Callable[[], Awaitable[None]]) -> int:
    """Run the reactor until `work` is done, and what it used is closed."""
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred
    from twisted.logger import globalLogBeginner
    from twisted.python.failure import Failure

    from oxidecast.database import DatabaseError

    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False)
    failures: list[Failure] = []

    async def everything() -> None:
        try:
            await work()
        finally:
            await close()

    def begin() -> None:
        done = Deferred.fromCoroutine(everything())
        done.addErrback(failures.append)
        done.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run()
    for failure in failures:
        if failure.check(StartError, CommandError, DatabaseError):
            raise CommandError(str(failure.value))
        failure.raiseException()
    return 0


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
