"""How the text of an environment variable becomes a value: by the type that its key expects."""

import re

import msgspec
from msgspec import inspect as mi

from oxidecast.settings.schema import alternatives, describe

_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_NUMBER = re.compile(r"[+-]?[0-9]{1,19}(\.[0-9]{1,19})?([eE][+-]?[0-9]{1,3})?", re.ASCII)


def value_of(text: str, expected: mi.Type) -> object:
    """`text` read as `expected`: text as it is, booleans, numbers, and JSON for lists and tables.

    Raises ValueError with what was expected instead; the result still has to be validated.
    """
    kinds = alternatives(expected)
    if any(_is_text(kind) for kind in kinds):
        return text
    if any(isinstance(kind, mi.BoolType) for kind in kinds):
        if text.lower() not in _BOOLEANS:
            raise ValueError("true, false, 1 or 0")
        return _BOOLEANS[text.lower()]
    if any(isinstance(kind, mi.IntType | mi.FloatType | mi.LiteralType | mi.EnumType) for kind in kinds):
        if not _NUMBER.fullmatch(text):
            raise ValueError(describe(expected))
        return float(text) if re.search(r"[.eE]", text) else int(text)
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        raise ValueError(f"{describe(expected)}, written as JSON")


def _is_text(kind: mi.Type) -> bool:
    match kind:
        case mi.StrType():
            return True
        case mi.LiteralType(values=values):
            return all(isinstance(value, str) for value in values)
        case mi.EnumType(cls=cls):
            return all(isinstance(member.value, str) for member in cls)
    return False
