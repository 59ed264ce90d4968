"""Secrets that were made while a test ran, and where none of them may be seen: in log lines and in answers.

The one idea: every test is also a test of this. Whatever makes a secret is watched (stream keys, tokens, passwords),
so that the values are the ones that were really used; `tests/conftest.py` fails the test in which one is seen.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from twisted.logger import LogEvent, eventAsText, globalLogPublisher

from oxidecast.accounts.accounts import Accounts
from oxidecast.accounts.keys import KeySafe
from oxidecast.accounts.passwords import Passwords
from oxidecast.accounts.tokens import Tokens

SHORTEST = 8
"""Characters: a shorter text is found by accident."""

SQL = re.compile(r"\b(SELECT\b.+\bFROM|INSERT INTO|UPDATE \w+ SET|DELETE FROM|CREATE TABLE|ALTER TABLE)\b")
INTERNALS = re.compile(r'Traceback|File "|\.py\b|site-packages|psycopg|sqlite3|/home/|/root/|/usr/lib/')
"""What no answer holds."""

TELLS_KEYS = re.compile(r"POST /api/v1/streams$|/api/v1/streams/[^/]+/keys?(/|$|\?)")
"""The calls whose answers hold a stream key."""

planted: set[str] = set()
keys: set[str] = set()
seen: list[str] = []
"""What was found where it must not be, in sentences."""


def plant(secret: str) -> str:
    if len(secret) >= SHORTEST:
        planted.add(secret)
    return secret


def look_at_line(text: str) -> None:
    """A line of a log."""
    seen.extend(f"a secret in a log line: {text}" for secret in planted if secret in text)
    if SQL.search(text):
        seen.append(f"SQL in a log line: {text}")


def look_at_answer(call: str, status: int, body: bytes) -> None:
    """What the server answered to a call such as `GET /api/v1/streams`."""
    text = body.decode("utf-8", "replace")
    if status >= 400:
        seen.extend(f"a secret in a {status} to {call}: {text}" for secret in planted if secret in text)
        if SQL.search(text) or INTERNALS.search(text):
            seen.append(f"SQL, or what the server is made of, in a {status} to {call}: {text}")
    elif not TELLS_KEYS.search(call):
        seen.extend(f"a stream key in the answer to {call}: {text}" for key in keys if key in text)


@contextmanager
def watched() -> Iterator[list[str]]:
    """Everything that one test does; `seen` is what was found."""
    for one in (planted, keys, seen):
        one.clear()
    globalLogPublisher.addObserver(_observe)
    try:
        yield seen
    finally:
        globalLogPublisher.removeObserver(_observe)


def watch_makers() -> None:
    """Take note of every secret as it is made, for the rest of the process."""
    _wrap(KeySafe, "new", _key)
    _wrap(Tokens, "access", plant)
    _wrap(Tokens, "playback", plant)
    for kind, name in ((Passwords, "hash"), (Accounts, "login"), (Accounts, "refresh"), (Accounts, "create")):
        _wrap(kind, name, None)


def _key(text: str) -> None:
    keys.add(plant(text))


def _wrap(kind: type, name: str, note: Callable[[str], object] | None) -> None:
    """Note what a method returns; or what it is given, and what a login gives."""
    original = getattr(kind, name)

    def noting(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        note(result)  # type: ignore[misc]
        return result

    async def given(self: Any, *args: Any, **kwargs: Any) -> Any:
        # The first argument of a login and of a new account is a name.
        for argument in args[1 if name in ("login", "create") else 0 :][:1]:
            plant(argument)
        result = await original(self, *args, **kwargs)
        for field in ("access_token", "refresh_token"):
            plant(getattr(result, field, ""))
        return result

    setattr(kind, name, given if note is None else noting)


def _observe(event: LogEvent) -> None:
    look_at_line(eventAsText(event, includeTimestamp=False))
