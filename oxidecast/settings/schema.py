"""What a section's type says of its keys: their names, their types in words, their environment variables.

Everything is read from `msgspec.inspect`, so that a plugin's section is described as well as a built-in one.
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import msgspec
from msgspec import inspect as mi

Path = tuple[str | int, ...]
"""Where a value lies below its section: `("profiles", 0, "name")`."""


class Variable(NamedTuple):
    """An environment variable that a section reads."""

    name: str
    path: tuple[str, ...]
    type: mi.Type


@cache
def variables(section: str, struct: type[msgspec.Struct]) -> tuple[Variable, ...]:
    """All variables of a section: a table before the keys inside it, so that the narrower one comes last."""
    return tuple(_variables((section,), section_type(struct), ()))


def _variables(words: tuple[str, ...], struct: mi.StructType, path: tuple[str, ...]) -> Iterator[Variable]:
    for field in struct.fields:
        here = (*words, field.encode_name)
        name = "OXIDECAST_" + re.sub(r"[^A-Z0-9]", "_", "_".join(here).upper())
        yield Variable(name, (*path, field.encode_name), field.type)
        inner = struct_in(field.type)
        if inner is not None:
            yield from _variables(here, inner, (*path, field.encode_name))


def unknown_key(value: object, expected: mi.Type, path: Path = ()) -> tuple[Path, list[str]] | None:
    """The first key in `value` that its type does not know, with the keys known in its place; else None."""
    inner = struct_in(expected)
    if inner is not None and isinstance(value, dict):
        fields = {field.encode_name: field.type for field in inner.fields}
        for key, item in value.items():
            if key not in fields:
                return (*path, key), list(fields)
            found = unknown_key(item, fields[key], (*path, key))
            if found is not None:
                return found
    elif isinstance(value, list):
        for index, item in enumerate(value):
            item_type = _item(expected, index)
            found = unknown_key(item, item_type, (*path, index)) if item_type is not None else None
            if found is not None:
                return found
    return None


def type_at(expected: mi.Type, path: Path) -> mi.Type | None:
    """The type of the value at `path`, or None where the type does not say."""
    for step in path:
        following: mi.Type | None = None
        if isinstance(step, int):
            following = _item(expected, step)
        else:
            inner = struct_in(expected)
            for field in inner.fields if inner is not None else ():
                if field.encode_name == step:
                    following = field.type
        if following is None:
            return None
        expected = following
    return expected


@cache
def section_type(struct: type[msgspec.Struct]) -> mi.StructType:
    info = mi.type_info(struct)
    if not isinstance(info, mi.StructType):
        raise TypeError(f"{struct.__name__} is not a msgspec Struct")
    return info


def alternatives(expected: mi.Type) -> list[mi.Type]:
    """The members of a union without None; the type itself otherwise."""
    if isinstance(expected, mi.Metadata):
        return alternatives(expected.type)
    if isinstance(expected, mi.UnionType):
        return [item for member in expected.types for item in alternatives(member)]
    return [] if isinstance(expected, mi.NoneType) else [expected]


def struct_in(expected: mi.Type) -> mi.StructType | None:
    for item in alternatives(expected):
        if isinstance(item, mi.StructType):
            return item
    return None


def describe(expected: mi.Type) -> str:
    """The type in an operator's words: `a whole number from 0 to 65535`."""
    return " or ".join(dict.fromkeys(_describe(item) for item in alternatives(expected))) or "nothing"


def _describe(expected: mi.Type) -> str:
    match expected:
        case mi.BoolType():
            return "true or false"
        case mi.IntType():
            return "a whole number" + _range(expected)
        case mi.FloatType():
            return "a number" + _range(expected)
        case mi.StrType(min_length=least) if least:
            return f"text of at least {least} characters"
        case mi.StrType():
            return "text"
        case mi.LiteralType(values=values):
            return "one of " + ", ".join(f'"{value}"' for value in values)
        case mi.EnumType(cls=cls):
            return "one of " + ", ".join(f'"{member.value}"' for member in cls)
        case mi.TupleType(item_types=items):
            each = list(dict.fromkeys(describe(item) for item in items))
            return f"a list of {len(items)} values, each {' or '.join(each)}"
        case mi.ListType(item_type=item) | mi.VarTupleType(item_type=item) | mi.SetType(item_type=item):
            return f"a list, each value {describe(item)}"
        case mi.FrozenSetType(item_type=item):
            return f"a list, each value {describe(item)}"
        case mi.StructType() | mi.DictType():
            return "a table"
    return "a value of another kind"


def _range(expected: mi.IntType | mi.FloatType) -> str:
    limits = []
    if expected.ge is not None and expected.le is not None:
        limits.append(f"from {expected.ge} to {expected.le}")
    else:
        words = {"gt": "above", "ge": "of at least", "lt": "below", "le": "of at most"}
        bounds = ((word, getattr(expected, name)) for name, word in words.items())
        limits.extend(f"{word} {bound}" for word, bound in bounds if bound is not None)
    if expected.multiple_of is not None:
        limits.append(f"a multiple of {expected.multiple_of}")
    return " " + " and ".join(limits) if limits else ""


def _item(expected: mi.Type, index: int) -> mi.Type | None:
    for item in alternatives(expected):
        match item:
            case mi.ListType() | mi.VarTupleType() | mi.SetType() | mi.FrozenSetType():
                return item.item_type
            case mi.TupleType(item_types=items) if index < len(items):
                return items[index]
    return None
