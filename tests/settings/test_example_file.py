"""`config/oxidecast.toml` is the list of all settings, so it must be complete and true."""

import re
import tomllib

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.settings import difference, load
from oxidecast.settings.data import data_path
from tests.settings.support import ALL, loaded

FILE = data_path("oxidecast.toml")


class ExampleFile(SynchronousTestCase):
    def test_every_value_is_the_default(self) -> None:
        self.assertEqual(difference(loaded(), load(ALL, FILE, {})), [])

    def test_no_key_is_missing(self) -> None:
        text = FILE.read_text()
        tables = tomllib.loads(text)
        missing = []
        for name, struct in ALL.items():
            part = re.split(r"^\[(?!\[)", text, flags=re.M)
            body = next((chunk for chunk in part if chunk.startswith(f"{name}]")), "")
            for field in msgspec.structs.fields(struct):
                shown = field.encode_name in tables.get(name, {})
                if field.default is None:
                    shown = re.search(rf"^# {field.encode_name} = ", body, re.M) is not None
                if not shown:
                    missing.append(f"{name}.{field.encode_name}")
        self.assertEqual(missing, [])

    def test_tables_inside_sections_are_complete(self) -> None:
        tables = tomllib.loads(FILE.read_text())
        shown = loaded()["transcoding"]
        defaults = msgspec.json.decode(msgspec.json.encode(shown))
        self.assertEqual(tables["transcoding"], defaults)

    def test_every_key_has_a_comment_above_it_or_above_its_group(self) -> None:
        blocks = re.split(r"\n\n+", FILE.read_text())
        for block in blocks:
            if block.startswith("[") and not block.startswith("[["):
                self.assertIn("\n#", block)
