"""What is known of a stream whether it is live or not, and the rule for its name.

A name stands in addresses, so it is short, plain and unique; it is never of the shape of an id, so that one
field of an address can hold either.
"""

import re
import unicodedata
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

LONGEST_NAME = 64
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?", re.ASCII)
_ID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", re.ASCII)


class StreamInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A stream as its owner describes it."""

    id: str
    """A UUID."""
    name: str
    """The public name: unique, `[a-z0-9-]`, at most 64 characters."""
    title: str
    owner_id: str
    created_at: datetime
    description: str = ""
    category: str = ""
    is_private: bool = False
    """Watched only with a token."""
    recording_enabled: bool = False
    transcoding_profiles: tuple[str, ...] = ()
    """Names of the ladder's profiles; none means the source only."""
    accepts_publishing: bool = True
    """False after a stop, until a start."""
    outputs: Mapping[str, Mapping[str, Any]] = {}
    """What the owner chose for each output (`IStreamChoices`), by the output's name."""
    max_viewers: int = 0
    """The highest number of viewers that was written; a live stream may have more."""


class Grant(NamedTuple):
    """A publisher may publish to this stream."""

    stream: StreamInfo
    key_id: str | None
    """Which key it was, for its revocation to find who uses it; None where keys are not checked."""


def is_stream_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None and not is_stream_id(text)


def is_stream_id(text: str) -> bool:
    """Whether a text has the shape of an id, with or without its dashes."""
    return _ID.fullmatch(text) is not None


def name_from_title(title: str) -> str:
    """A valid name near to `title`: `Überblick: 3. Tag!` becomes `uberblick-3-tag`."""
    plain = unicodedata.normalize("NFKD", title[:200]).encode("ascii", "ignore").decode().lower()
    name = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:LONGEST_NAME].strip("-")
    return name if is_stream_name(name) else f"stream-{name}"[:LONGEST_NAME].strip("-")


def numbered(name: str, number: int) -> str:
    """`name` with a number after it, for when it is taken."""
    suffix = f"-{number}"
    return name[: LONGEST_NAME - len(suffix)].rstrip("-") + suffix
