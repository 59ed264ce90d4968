"""`config/oxidecast.toml` is the list of all settings, those of the built-in plugins included."""

import re
import tomllib
from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.foundation import configure
from oxidecast.media import Codec
from oxidecast.outputs.hls.containers import carried
from oxidecast.settings import Section, difference
from oxidecast.settings.data import data_path
from tests.formats.material import stream

FILE = data_path("oxidecast.toml")
CODECS = {
    "H.264": Codec.H264,
    "HEVC": Codec.HEVC,
    "AV1": Codec.AV1,
    "VP9": Codec.VP9,
    "AAC": Codec.AAC,
    "Opus": Codec.OPUS,
    "MP3": Codec.MP3,
    "AC-3": Codec.AC3,
}
"""What can be published, by the words that people use."""


class SettingsFileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.settings = configure(None, {}).settings
        self.shown = tomllib.loads(FILE.read_text())

    def test_every_value_is_the_default(self) -> None:
        self.assertEqual(difference(self.settings, configure(FILE, {}).settings), [])

    def test_every_section_and_key_is_there(self) -> None:
        missing = [
            f"{name}.{key}"
            for name, section in self.settings.items()
            for key, value in keys(section).items()
            if not (key in self.shown.get(name, {}) or (value is None and f"\n# {key} = " in self.part(name)))
        ]
        self.assertEqual(missing, [])

    def test_tables_inside_sections_are_complete(self) -> None:
        for name, section in self.settings.items():
            for key, value in keys(section).items():
                if isinstance(value, dict | list):
                    self.assertEqual(self.shown[name][key], value, f"{name}.{key}")

    def test_every_key_has_a_comment_above_it_or_above_its_neighbours(self) -> None:
        for name in self.settings:
            head, *lines = self.part(name).splitlines()
            before = head
            for line in lines:
                if re.match(r"(# )?\w+ = ", line):
                    self.assertNotEqual(before, head, f"[{name}] {line}")
                before = line or before

    def test_what_it_says_of_the_codecs_of_segments_is_true(self) -> None:
        said = re.search(r'"fmp4" \((.*?)\) or "mpegts" \((.*?)\)', self.part("hls"))
        assert said is not None
        for kind, comment in (("fmp4", said[1]), ("mpegts", said[2])):
            carries = {word for word, codec in CODECS.items() if carried(kind, [stream(codec)[0]])}
            named = {word for word in CODECS if word in comment}
            self.assertEqual(named, CODECS.keys() - carries if "all codecs but" in comment else carries, kind)

    def test_what_it_says_of_reloading_is_true(self) -> None:
        """A comment with "Reload" stands above reloadable keys, and above no others."""
        for name, section in self.settings.items():
            reloadable = getattr(section, "reloadable", frozenset())
            said, comment, in_comment = set(), "", False
            for line in self.part(name).splitlines():
                key = re.match(r"(?:# )?(\w+) = ", line)
                if key is None and line.startswith("#"):
                    comment = comment + line if in_comment else line
                    in_comment = True
                elif key is not None:
                    in_comment = False
                    if re.search(r"\bReloads?\.", comment):
                        said.add(key[1])
            self.assertEqual(said, set(reloadable), name)

    def part(self, name: str) -> str:
        """The lines of a section, its head first."""
        parts = re.split(r"^(?=\[(?!\[))", FILE.read_text(), flags=re.M)
        return next((part for part in parts if part.startswith(f"[{name}]")), f"[{name}]")


def keys(section: Any) -> dict[str, Any]:
    """A section's keys and values, as JSON and TOML have them."""
    assert isinstance(section, Section | msgspec.Struct)
    values: dict[str, Any] = msgspec.to_builtins(section)
    return values
