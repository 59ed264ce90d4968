"""Reads settings: a TOML file, environment variables over it, every key checked against its section's type.

Two phases, because a plugin's section is known only once plugins are found, and where they lie is itself a
setting. `RawSettings.read` parses; `section(name, type)` validates one section; `finish` refuses what no
section claimed. `load` does all three for a mapping that is complete.
"""

import copy
import difflib
import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import msgspec

from oxidecast.settings import schema
from oxidecast.settings.environment import value_of
from oxidecast.settings.errors import SettingsError

S = TypeVar("S", bound=msgspec.Struct)

PREFIX = "OXIDECAST_"
OPTIONS = frozenset({"OXIDECAST_CONFIG", "OXIDECAST_DATA_DIR"})
"""Variables that stand for command-line options."""
ALIASES = {"OXIDECAST_DATABASE_URL": "DATABASE_URL"}
"""Variables that are read under a second name, which platforms set; the first name wins."""
MAXIMUM_FILE = 1 << 20
"""Bytes; the complete file is below 20 KB, so more than a megabyte is the wrong file."""
LARGEST_INTEGER = (1 << 63) - 1
"""What msgspec's JSON, SQL and C all can hold."""
MAXIMUM_DEPTH = 16
"""Tables within tables; no section goes deeper than 4, and Python's own recursion ends at 1,000."""
KNOWN_KEYS_NAMED = 12
"""With no near key to suggest, an error lists the known ones, up to so many."""


class Settings(Mapping[str, msgspec.Struct]):
    """All sections, validated: `settings["server"]`, or `settings.of(ServerSettings)` with its type."""

    def __init__(self, sections: Mapping[str, msgspec.Struct]) -> None:
        self._sections = dict(sections)

    def __getitem__(self, name: str) -> msgspec.Struct:
        return self._sections[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._sections)

    def __len__(self) -> int:
        return len(self._sections)

    def changed(self, name: str, section: msgspec.Struct) -> "Settings":
        """These settings with another section in the place of one."""
        return Settings({**self._sections, name: section})

    def of(self, struct: type[S]) -> S:
        """The section of this type. Raises KeyError when there is none."""
        for section in self._sections.values():
            if type(section) is struct:
                return section
        raise KeyError(struct.__name__)


class RawSettings:
    """A file and an environment, read but not yet understood."""

    def __init__(self, file: Path | None, tables: dict[str, Any], environ: Mapping[str, str]) -> None:
        self._file = file
        self._tables = tables
        self._environ = environ
        self._sections: dict[str, msgspec.Struct] = {}
        self._claimed: dict[str, str] = {}

    @classmethod
    def read(cls, file: Path | None, environ: Mapping[str, str]) -> "RawSettings":
        """Parse `file` (None for no file) and take the variables that concern us. Raises SettingsError.

        An empty variable counts as not set: Compose files pass `${NAME:-}` on.
        """
        ours = {
            name: text
            for name, text in environ.items()
            if text and name not in OPTIONS and (name.startswith(PREFIX) or name in ALIASES.values())
        }
        return cls(file, _parse(file) if file is not None else {}, ours)

    def section(self, name: str, struct: type[S]) -> S:
        """The section `name` as `struct`, which must have a default for each key. Raises SettingsError."""
        known = self._sections.get(name)
        if known is not None:
            if type(known) is not struct:
                raise ValueError(f"two types want the section [{name}]")
            return known
        table = copy.deepcopy(self._tables.get(name, {}))
        if not isinstance(table, dict):
            raise SettingsError(
                f"{self._file}: {_dotted(name)} must be a table, written as [{_dotted(name)}]."
            )
        origins = self._apply_environment(name, struct, table)
        section = _convert(name, table, struct, _Origins(str(self._file), origins))
        self._sections[name] = section
        return section

    def finish(self) -> Settings:
        """Everything read so far. Raises SettingsError for sections and variables that nobody asked for."""
        for name in self._tables:
            if name not in self._sections:
                known = {section: f"[{section}]" for section in self._sections}
                raise SettingsError(
                    f"{self._file}: [{_dotted(name)}] is not a known section{_hint(name, known)}."
                )
        for variable in sorted(self._environ):
            if variable not in self._claimed and variable not in ALIASES.values():
                hint = _hint(
                    variable.removeprefix(PREFIX),
                    {name.removeprefix(PREFIX): name for name in self._claimed},
                )
                raise SettingsError(f"{_printable(variable)} is not a known setting{hint}.")
        return Settings(self._sections)

    def _apply_environment(
        self, section: str, struct: type[msgspec.Struct], table: dict[str, Any]
    ) -> dict[schema.Path, str]:
        """Put the section's variables into its table; answers which paths came from which variable."""
        origins: dict[schema.Path, str] = {}
        for variable in schema.variables(section, struct):
            other = self._claimed.setdefault(variable.name, section)
            if other != section:
                raise ValueError(f"the sections [{other}] and [{section}] share the variable {variable.name}")
            name = variable.name if variable.name in self._environ else ALIASES.get(variable.name, "")
            text = self._environ.get(name)
            if text is None:
                continue
            try:
                value = value_of(text, variable.type)
            except ValueError as error:
                raise SettingsError(f"{name}: {_dotted(section, *variable.path)} must be {error}.") from None
            if _is_too_deep(value):
                raise SettingsError(f"{name} nests its values too deeply.")
            *parents, key = variable.path
            place: Any = table
            for parent in parents:
                place = place.setdefault(parent, {}) if isinstance(place, dict) else None
            if isinstance(place, dict):  # else the table around it is of a wrong type, which validation says
                place[key] = value
                origins[variable.path] = name
        return origins


def load(
    sections: Mapping[str, type[msgspec.Struct]], file: Path | None, environ: Mapping[str, str]
) -> Settings:
    """Read and validate all `sections` at once. Raises SettingsError."""
    raw = RawSettings.read(file, environ)
    for name, struct in sections.items():
        raw.section(name, struct)
    return raw.finish()


class _Origins:
    """Where each value came from: the variable that set it or a table around it, else the file."""

    def __init__(self, file: str, variables: dict[schema.Path, str]) -> None:
        self._file = file
        self._variables = variables

    def of(self, path: schema.Path) -> str:
        for length in range(len(path), 0, -1):
            if path[:length] in self._variables:
                return self._variables[path[:length]]
        return self._file


def _parse(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            data = stream.read(MAXIMUM_FILE + 1)
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}.")
    if len(data) > MAXIMUM_FILE:
        raise SettingsError(f"{file} is larger than {MAXIMUM_FILE} bytes, so it cannot be a settings file.")
    try:
        tables = tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        raise SettingsError(f"{file} is not UTF-8 text (byte {error.start}).")
    except RecursionError:
        raise SettingsError(f"{file} nests its values too deeply.")
    except ValueError as error:  # TOMLDecodeError, and Python's own limit on the digits of a number
        raise SettingsError(f"{file} is not valid TOML: {_toml_complaint(error)}.")
    if _is_too_deep(tables):
        raise SettingsError(f"{file} nests its values too deeply.")
    return tables


def _toml_complaint(error: ValueError) -> str:
    # Only the position is kept of what tomllib says: its text may quote the line.
    position = re.search(r"\(at (line \d+, column \d+|end of document)\)", str(error))
    return f"a mistake at {position[1]}" if position else "a value is out of range"


def _convert(name: str, table: dict[str, Any], struct: type[S], origins: _Origins) -> S:
    expected = schema.section_type(struct)

    def refuse(path: schema.Path, complaint: str) -> NoReturn:
        raise SettingsError(f"{origins.of(path)}: {_dotted(name, *path)} {complaint}.") from None

    unknown = schema.unknown_key(table, expected)
    if unknown is not None:
        path, known = unknown
        parent = path[:-1]
        hint = _hint(str(path[-1]), {key: _dotted(name, *parent, key) for key in known})
        refuse(path, f"is not a known setting{hint}")
    for path, value in _leaves(table):
        if not _is_plain(value):
            wanted = schema.type_at(expected, path)
            refuse(path, f"must be {schema.describe(wanted) if wanted is not None else 'another value'}")
    try:
        return msgspec.convert(table, struct)
    except msgspec.ValidationError as error:
        message, path = _split(str(error))
        cause = error.__cause__
        if cause is not None:
            key = getattr(cause, "key", None)
            rule = getattr(cause, "rule", None)
            if key is not None and rule is not None:
                refuse((*path, key), rule)
            refuse(path, f"is not valid: {cause}")
        missing = re.fullmatch(r"Object missing required field `(.+)`", message)
        if missing:
            path = (*path, missing[1])
        wanted = schema.type_at(expected, path)
        words = schema.describe(wanted) if wanted is not None else "of another type"
        if missing:
            refuse(path, f"is missing: it must be {words}")
        refuse(path, f"must be {words}, not {_kind(_value_at(table, path))}")


def _split(message: str) -> tuple[str, schema.Path]:
    """msgspec's `Expected ... - at `$.profiles[0].name`` as its message and a path."""
    found = re.fullmatch(r"(.*?) - at `(?:key in `)?\$(.*?)`+", message, re.DOTALL)
    if found is None:
        return message, ()
    steps = re.findall(r"\.([^.\[]+)|\[(\d+)\]", found[2])
    return found[1], tuple(int(index) if index else key for key, index in steps)


def _leaves(value: object, path: schema.Path = ()) -> Iterator[tuple[schema.Path, object]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, index))
    else:
        yield path, value


def _is_plain(value: object) -> bool:
    """Whether a value can be stored and sent anywhere: numbers finite and 64-bit, text valid Unicode."""
    match value:
        case float():
            return math.isfinite(value)
        case int():
            return abs(value) <= LARGEST_INTEGER
        case str():
            return "\0" not in value and not any("\ud800" <= char <= "\udfff" for char in value)
    return True


def _is_too_deep(value: object) -> bool:
    level = [value]
    for _ in range(MAXIMUM_DEPTH):
        level = [
            item
            for outer in level
            if isinstance(outer, dict | list)
            for item in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return bool(level)


def _value_at(value: Any, path: schema.Path) -> object:
    try:
        for step in path:
            value = value[step]
    except (LookupError, TypeError):
        return None
    return value


def _kind(value: object) -> str:
    """A value in words. Text is never quoted: it may be a secret in the wrong place."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case str():
            return "this text"
        case list():
            return f"a list of {len(value)}"
        case dict():
            return "a table"
        case None:
            return "nothing"
    return "a date or time"


def _hint(wrong: str, known: Mapping[str, str]) -> str:
    """The known word nearest to `wrong`, else all of them if they are few; `known` maps them to how they
    look."""
    near = difflib.get_close_matches(wrong[:100], known, 1, 0.6)
    if near:
        return f"; the nearest is {known[near[0]]}"
    if 0 < len(known) <= KNOWN_KEYS_NAMED:
        return f"; known are {', '.join(known.values())}"
    return ""


def _dotted(*path: str | int) -> str:
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{_printable(step)}"
    return text.removeprefix(".")


def _printable(text: str) -> str:
    """A key that came from outside, fit for a line of a log."""
    short = text if len(text) <= 64 else text[:61] + "..."
    return "".join(char if char.isprintable() else "?" for char in short)
