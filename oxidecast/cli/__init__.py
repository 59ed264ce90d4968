"""The `oxidecast` command."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import oxidecast
from oxidecast.cli import database, keys, users
from oxidecast.cli.common import CommandError, places_of, say, table
from oxidecast.settings.errors import StartError

PLUGIN_COLUMNS = ("NAME", "KIND", "VERSION", "ORIGIN", "STATE")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; what hinders it is one sentence and exit code 1."""
    options = _parser().parse_args(arguments)
    try:
        sys.exit(options.run(options))
    except (StartError, CommandError) as error:
        sys.exit(f"oxidecast: {error}")


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
    database.arguments(command, commands)
    for name, help, module in (("user", "accounts", users), ("key", "stream keys", keys)):
        actions = commands.add_parser(name, help=help).add_subparsers(required=True, metavar="ACTION")
        module.arguments(command, actions)
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
    say(f"OxideCast {oxidecast.__version__}")
    return 0


def _plugins(options: argparse.Namespace) -> int:
    from oxidecast.foundation import configure
    from oxidecast.registry import kind_word

    configuration = configure(places_of(options)[0], os.environ)
    rows: list[tuple[str, ...]] = [PLUGIN_COLUMNS]
    for plugin in configuration.found:
        origin, version = _origin(plugin)
        state = "enabled" if plugin in configuration.plugins else "disabled"
        rows.append((plugin.name, kind_word(plugin), version, origin, state))
    table(rows)
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

    config, data = places_of(options)
    return check(config, data, os.environ, say)
