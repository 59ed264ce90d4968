"""`oxidecast key`: the secrets that publish to a stream, for whoever may read the data directory."""

import argparse
from typing import Any

from oxidecast.cli.common import CommandError, opened, react, say, system_actor


def arguments(command: Any, actions: Any) -> None:
    """Add what can be done to the parser. `command` makes one of `actions`."""
    command(actions, "show", _show, "show a stream's newest key").add_argument("stream")
    rotate = command(actions, "rotate", _rotate, "put a new key in place of a stream's newest, and show it")
    rotate.add_argument("stream")
    rotate.add_argument(
        "--overlap",
        metavar="SECONDS",
        type=_overlap,
        default=0.0,
        help="how long the old key stays valid; who publishes with it is not cut in any case",
    )
    revoke = command(
        actions, "revoke", _revoke, "revoke a stream's newest key, and cut who publishes with it"
    )
    revoke.add_argument("stream")


def _show(options: argparse.Namespace) -> int:
    foundation = opened(options)

    async def work() -> None:
        info = await _found(foundation, options.stream)
        key = await foundation.keys.newest(info.id)
        if key is None:
            raise CommandError(f"the stream {info.name!r} has no key")
        await foundation.keys.shown(_target(info), [key.id], system_actor())
        say(key.text)

    return react(work, foundation.close)


def _rotate(options: argparse.Namespace) -> int:
    foundation = opened(options)

    async def work() -> None:
        info = await _found(foundation, options.stream)
        say((await foundation.keys.rotate(info.id, options.overlap, system_actor())).text)

    return react(work, foundation.close)


def _revoke(options: argparse.Namespace) -> int:
    foundation = opened(options)

    async def work() -> None:
        info = await _found(foundation, options.stream)
        valid = await foundation.keys.listed(info.id)
        await foundation.keys.revoke_newest(info.id, system_actor())
        if not valid:
            raise CommandError(f"the stream {info.name!r} has no key")
        say(f"the newest key of {info.name} is revoked; who publishes with it, or with one before it, is cut")

    return react(work, foundation.close)


async def _found(foundation: Any, name: str) -> Any:
    await foundation.migrate()
    info = await foundation.streams.find(name)
    if info is None:
        raise CommandError(f"there is no stream {name!r}")
    return info


def _target(info: Any) -> str:
    from oxidecast.database.streams import target

    return target(info.name)


def _overlap(text: str) -> float:
    from oxidecast.web.keys import LONGEST_OVERLAP

    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= LONGEST_OVERLAP:
        raise argparse.ArgumentTypeError(f"expected seconds, from 0 to {LONGEST_OVERLAP}")
    return seconds
