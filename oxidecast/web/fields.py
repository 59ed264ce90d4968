"""Types of fields that several bodies have, and sentences for values that are none of them.

No text may hold NUL: PostgreSQL has no place for it, and nobody types it.
"""

import re
from datetime import datetime
from typing import Annotated

from msgspec import Meta

WITHOUT_NUL = r"^[^\x00]*$"

Time = Annotated[datetime, Meta(tz=True)]

Title = Annotated[str, Meta(min_length=1, max_length=200, pattern=WITHOUT_NUL)]
Description = Annotated[str, Meta(max_length=5000, pattern=WITHOUT_NUL)]
Category = Annotated[str, Meta(max_length=100, pattern=WITHOUT_NUL)]
StreamName = Annotated[str, Meta(min_length=1, max_length=64)]
Profiles = Annotated[list[str], Meta(max_length=20)]

Networks = Annotated[list[Annotated[str, Meta(max_length=50)]], Meta(max_length=20)]
"""So many are looked at for each publisher: offices, studios and mobile carriers have fewer. The longest has 43
characters."""

KeyName = Annotated[str, Meta(max_length=100, pattern=WITHOUT_NUL)]

Username = Annotated[str, Meta(min_length=3, max_length=50)]
Password = Annotated[str, Meta(min_length=8, max_length=1024)]
Email = Annotated[str, Meta(max_length=254)]

_KINDS = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
_TIME = "must be a time with its zone, such as 2026-01-31T12:00:00Z"
_WORDS = (
    (r"Expected `str` of length >= 1", "must not be empty"),
    (r"Expected `str` of length >= (\d+)", r"must have at least \1 characters"),
    (r"Expected `str` of length <= (\d+)", r"must have at most \1 characters"),
    (r"Expected `array` of length <= (\d+)", r"must have at most \1 entries"),
    (r"Expected `(?:int|float)` >= (\S+)", r"must be \1 or more"),
    (r"Expected `(?:int|float)` <= (\S+)", r"must be \1 or less"),
    (r"Expected `(?:int|float)` > (\S+)", r"must be more than \1"),
    (r"Expected `str` matching regex .*", "must not have NUL characters"),
    (r"Invalid RFC3339 encoded datetime", _TIME),
    (r"Expected `datetime` with a timezone component", _TIME),
)


def in_words(fault: str) -> str:
    """What the library says of a value, for people."""
    fault = fault.partition(" - at `$")[0]
    for pattern, words in _WORDS:
        if found := re.fullmatch(pattern, fault, re.DOTALL):
            return found.expand(words)
    if found := re.fullmatch(r"Expected `([^`]+)`, got `([^`]+)`", fault):
        wanted = " or ".join(_KINDS.get(kind, kind) for kind in found[1].split(" | "))
        return f"must be {wanted}, not {_KINDS.get(found[2], found[2])}"
    return fault
