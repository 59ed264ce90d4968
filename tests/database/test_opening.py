import sys
from unittest.mock import patch

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from oxidecast.database import IDatabase, migrate, open_database, require_database
from oxidecast.settings import SettingsError
from tests.database.support import START
from tests.settings.support import temporary_folder


class Opening(TestCase):
    def setUp(self) -> None:
        self.folder = temporary_folder(self)

    def opened(self, url: str) -> IDatabase:
        database = open_database(url, self.folder, reactor)
        self.addCleanup(database.close)
        return database

    async def test_a_relative_path_lies_in_the_data_directory(self) -> None:
        await migrate(self.opened("sqlite:///a name?#%.db"), START)
        self.assertTrue((self.folder / "a name?#%.db").exists())

    async def test_an_absolute_path_lies_where_it_says(self) -> None:
        other = temporary_folder(self) / "other.db"
        await migrate(self.opened(f"sqlite:///{other}"), START)
        self.assertTrue(other.exists())

    def test_both_names_of_postgresql_are_served(self) -> None:
        for scheme in ("postgresql", "postgres"):
            self.assertEqual(self.opened(f"{scheme}://u:secret@db/oxidecast").flavour, "postgres")

    def test_without_its_driver_it_says_what_to_install(self) -> None:
        for driver in ("psycopg2", "txpostgres"):
            hidden = [name for name in sys.modules if name.partition(".")[0] == driver]
            ours = ("oxidecast.database.postgres", "oxidecast.database.connections")
            gone = dict.fromkeys((driver, *hidden))
            with patch.dict(sys.modules, gone):
                for name in ours:
                    sys.modules.pop(name, None)
                error = self.assertRaises(SettingsError, self.opened, "postgresql://u:secret@db/oxidecast")
            self.assertEqual(
                str(error),
                "database.url names a PostgreSQL server, whose driver is missing:"
                " pip install 'oxidecast[postgres]'.",
            )

    def test_an_address_that_is_none_is_not_quoted(self) -> None:
        error = self.assertRaises(SettingsError, self.opened, "postgresql://u:secret@[db/oxidecast")
        self.assertIn("postgresql://user:password@host:5432/database", str(error))
        self.assertNotIn("secret", str(error))

    def test_anything_else_is_refused(self) -> None:
        for url in ("", "sqlite:", "sqlite:///", "mysql://db", "sqlite:///a\0b"):
            self.assertRaises(SettingsError, self.opened, url)

    def test_one_that_has_to_be_there_is_said_to_be_missing(self) -> None:
        for url, folder in (
            ("sqlite:///oxidecast.db", self.folder),
            (f"sqlite:///{self.folder}/else/where.db", self.folder / "else"),
        ):
            error = self.assertRaises(SettingsError, require_database, url, self.folder)
            self.assertEqual(
                str(error),
                f"there is no database in {folder}: start the server first, or name its --data-dir",
            )

    def test_one_that_is_there_is_enough(self) -> None:
        (self.folder / "oxidecast.db").touch()
        require_database("sqlite:///oxidecast.db", self.folder)
