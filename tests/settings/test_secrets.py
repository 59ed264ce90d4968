from twisted.trial.unittest import SynchronousTestCase

from oxidecast.settings import SettingsError
from oxidecast.settings.private import open_data_directory
from oxidecast.settings.secrets import NoSecrets, open_secrets
from tests.settings.support import temporary_folder

GIVEN = "given-by-the-operator-in-the-settings"


class GeneratedSecrets(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = open_data_directory(temporary_folder(self))
        self.file = self.folder / "secrets.toml"

    def test_they_are_made_once(self) -> None:
        self.assertEqual(open_secrets(self.folder), open_secrets(self.folder))

    def test_they_are_long_and_differ(self) -> None:
        made = open_secrets(self.folder)
        self.assertGreaterEqual(min(len(made.server), len(made.jwt)), 32)
        self.assertNotEqual(made.server, made.jwt)

    def test_those_of_the_settings_win(self) -> None:
        kept = open_secrets(self.folder)
        opened = open_secrets(self.folder, server_secret=GIVEN)
        self.assertEqual((opened.server, opened.jwt), (GIVEN.encode(), kept.jwt))

    def test_no_file_is_made_when_the_settings_give_both(self) -> None:
        open_secrets(self.folder, server_secret=GIVEN, jwt_secret=GIVEN)
        self.assertFalse(self.file.exists())

    def test_those_that_are_not_to_be_made_have_to_be_there(self) -> None:
        error = self.assertRaises(NoSecrets, open_secrets, self.folder, make=False)
        self.assertIn(str(self.file), str(error))
        self.assertFalse(self.file.exists())
        made = open_secrets(self.folder)
        self.assertEqual(open_secrets(self.folder, make=False).jwt, made.jwt)

    def test_they_are_not_shown(self) -> None:
        self.assertEqual(repr(open_secrets(self.folder)), "Secrets(***)")

    def test_a_damaged_file_is_said_so_and_kept(self) -> None:
        whole = open_secrets(self.folder)
        good = self.file.read_text()
        for damage in (
            "",
            good[: len(good) // 2],
            good.replace("server_secret", "serverSecret"),
            'server_secret = "short"\njwt_secret = "short"\n',
            "server_secret = 1\njwt_secret = 2\n",
            "a = " + "[" * 9000,
            "\0",
        ):
            self.file.write_text(damage)
            error = self.assertRaises(SettingsError, open_secrets, self.folder)
            self.assertIn(f"{self.file} is damaged", str(error))
            self.assertNotIn(whole.server.decode()[:12], str(error))
            self.assertEqual(self.file.read_text(), damage)

    def test_bytes_that_are_no_text_are_damage_too(self) -> None:
        open_secrets(self.folder)
        self.file.write_bytes(b"\xff\xfe")
        error = self.assertRaises(SettingsError, open_secrets, self.folder)
        self.assertIn("is damaged", str(error))
