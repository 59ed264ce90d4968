"""What commands share: where things are, who does them, and the reactor for as long as they take.

The one idea: a command opens what the server stands on in the server's own way, whether one runs or not, and a running
one hears of what was changed within a second (`database/changes.py`).
"""

import argparse
import getpass
import os
import pwd
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from oxidecast.settings.errors import StartError
from oxidecast.tap import places


class CommandError(Exception):
    """A command cannot be done; the message is one sentence."""


def places_of(options: argparse.Namespace) -> tuple[Path | None, Path]:
    """The settings file, if one is named, and the data directory."""
    return places({"config": options.config, "data-dir": options.data_dir}, os.environ)


def system_actor() -> Any:
    """Whoever runs the command, as the audit log names them."""
    from oxidecast.database.audit import Actor

    number = os.getuid()
    try:
        name = pwd.getpwuid(number).pw_name
    except KeyError:
        name = str(number)
    return Actor(f"cli:{name}")


def new_password() -> str:
    """From the terminal, or a line of what is piped in."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    password = getpass.getpass("New password: ")
    if getpass.getpass("Once more: ") != password:
        raise CommandError("the two passwords differ")
    return password


def opened(options: argparse.Namespace) -> Any:
    """What the server stands on, which may be running. A command makes none, or a wrong --data-dir would look right."""
    from twisted.internet import reactor

    from oxidecast.foundation import Foundation, configure

    config, data = places_of(options)
    return Foundation(configure(config, os.environ), data, reactor, make=False)


def react(work: Callable[[], Awaitable[None]], close: Callable[[], Awaitable[None]]) -> int:
    """Run the reactor until `work` is done, and what it used is closed."""
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred
    from twisted.logger import globalLogBeginner
    from twisted.python.failure import Failure

    from oxidecast.accounts.errors import AccountError
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
        if failure.check(StartError, CommandError, DatabaseError, AccountError):
            raise CommandError(str(failure.value))
        failure.raiseException()
    return 0


def table(rows: list[tuple[str, ...]]) -> None:
    """Print rows in columns; the first row is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
