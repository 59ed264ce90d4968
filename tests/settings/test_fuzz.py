"""Whatever stands in a file or a variable gives settings or one sentence."""

import string
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.settings import Settings, SettingsError
from oxidecast.settings.schema import variables
from tests.settings.support import ALL, loaded

BARE = st.text(string.ascii_lowercase + string.digits + "_-", min_size=1, max_size=12)
SECTION = st.sampled_from([*ALL]) | BARE
KEY = st.sampled_from(sorted({key for struct in ALL.values() for key in struct.__struct_fields__})) | BARE
VARIABLE = st.sampled_from(
    sorted(variable.name for name, struct in ALL.items() for variable in variables(name, struct))
) | st.from_regex(r"OXIDECAST_[A-Z_]{1,20}", fullmatch=True)
SCALAR = (
    st.integers()
    | st.floats()
    | st.booleans()
    | st.text(max_size=40)
    | st.sampled_from(["sqlite:///x.db", "239.1.1.1", "[::1]:1", "info", "https://a.example", "\ud800", "\0"])
)
VALUE = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEY, inner, max_size=4)
)


def toml(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case float() | int():
            return repr(value)
        case str():
            return '"' + "".join(f"\\U{ord(char):08X}" for char in value) + '"'
        case list():
            return "[" + ", ".join(map(toml, value)) + "]"
    return "{" + ", ".join(f'"{key}" = {toml(item)}' for key, item in value.items()) + "}"


class Fuzz(SynchronousTestCase):
    def assertSettingsOrSentence(self, text: str | bytes | None = None, **environ: str) -> None:
        try:
            self.assertIsInstance(loaded(text, **environ), Settings)
        except SettingsError as error:
            sentence = str(error)
            self.assertTrue(sentence.endswith(".") and sentence.isprintable(), sentence)
            self.assertLess(len(sentence), 1000)

    @given(st.dictionaries(SECTION, st.dictionaries(KEY, VALUE, max_size=4) | VALUE, max_size=3))
    @settings(max_examples=100, deadline=None)
    def test_any_toml(self, tables: dict[str, Any]) -> None:
        lines = (f'"{name}" = {toml(value)}' for name, value in tables.items())
        self.assertSettingsOrSentence("\n".join(lines))

    @given(st.binary(max_size=300) | st.text(string.printable, max_size=300).map(str.encode))
    @settings(max_examples=100, deadline=None)
    def test_any_bytes(self, data: bytes) -> None:
        self.assertSettingsOrSentence(data)

    @given(st.dictionaries(VARIABLE, st.text(max_size=60) | VALUE.map(str), max_size=3))
    @settings(max_examples=100, deadline=None)
    def test_any_variables(self, environ: dict[str, str]) -> None:
        self.assertSettingsOrSentence(None, **environ)
