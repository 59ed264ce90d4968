"""The data directory and private files: modes, owners, and what is said when they cannot be used."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from oxidecast.settings import SettingsError
from oxidecast.settings.private import (
    look_at_data_directory,
    open_data_directory,
    read_private,
    write_private_once,
)
from tests.settings.support import temporary_folder

NOBODY = 65534


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextmanager
def another_user() -> Iterator[None]:
    if os.geteuid() != 0:
        raise SkipTest("only root can become another user")
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


class DataDirectory(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = temporary_folder(self) / "data"

    def test_it_is_made_for_its_owner_only_with_the_folders_above(self) -> None:
        made = open_data_directory(self.path / "a" / "b")
        self.assertEqual(mode(made), 0o700)

    def test_an_empty_one_is_narrowed(self) -> None:
        self.path.mkdir(mode=0o755)
        open_data_directory(self.path)
        self.assertEqual(mode(self.path), 0o700)

    def test_one_with_other_files_is_left_as_it_is(self) -> None:
        self.path.mkdir(mode=0o755)
        (self.path / "holiday.jpg").touch()
        open_data_directory(self.path)
        self.assertEqual(mode(self.path), 0o755)

    def test_nothing_is_left_behind_in_it(self) -> None:
        self.assertEqual(os.listdir(open_data_directory(self.path)), [])

    def test_one_with_other_files_that_everybody_may_write_is_refused(self) -> None:
        self.path.mkdir()
        self.path.chmod(0o777)
        (self.path / "holiday.jpg").touch()
        error = self.assertRaises(SettingsError, open_data_directory, self.path)
        self.assertIn("can be written by every user", str(error))

    def test_a_file_in_its_place(self) -> None:
        self.path.touch()
        error = self.assertRaises(SettingsError, open_data_directory, self.path)
        self.assertEqual(
            str(error), f"The data directory {self.path} cannot be used: a file is in its place."
        )

    def test_another_owners_names_both(self) -> None:
        self.path.mkdir(mode=0o755)
        with another_user():
            error = self.assertRaises(SettingsError, open_data_directory, self.path)
        self.assertIn("it belongs to root and OxideCast runs as nobody, who has no permission", str(error))

    def test_one_that_is_not_to_be_made_has_to_be_there(self) -> None:
        error = self.assertRaises(SettingsError, open_data_directory, self.path, make=False)
        self.assertIn("no such file or directory", str(error))
        self.assertFalse(self.path.exists())

    def test_one_that_is_not_to_be_made_is_not_narrowed(self) -> None:
        self.path.mkdir(mode=0o755)
        open_data_directory(self.path, make=False)
        self.assertEqual(mode(self.path), 0o755)


class LookAtDataDirectory(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = temporary_folder(self)
        self.path = self.folder / "a" / "b"

    def test_one_that_is_there_is_its_own_answer(self) -> None:
        self.path.mkdir(parents=True)
        self.assertEqual(look_at_data_directory(self.path), self.path)

    def test_of_one_that_is_not_there_the_nearest_folder_is_the_answer_and_it_is_not_made(self) -> None:
        self.assertEqual(look_at_data_directory(self.path), self.folder)
        self.assertEqual(os.listdir(self.folder), [])

    def test_a_file_in_the_way(self) -> None:
        (self.folder / "a").touch()
        error = self.assertRaises(SettingsError, look_at_data_directory, self.path)
        self.assertEqual(
            str(error), f"The data directory {self.path} cannot be made: a file is in its place."
        )

    def test_a_folder_that_another_owns(self) -> None:
        self.folder.chmod(0o755)
        with another_user():
            error = self.assertRaises(SettingsError, look_at_data_directory, self.path)
        self.assertIn("it belongs to root and OxideCast runs as nobody, who has no permission", str(error))


class PrivateFile(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = open_data_directory(temporary_folder(self))
        self.file = self.folder / "secret"

    def test_it_is_readable_by_its_owner_only_whatever_the_umask(self) -> None:
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        write_private_once(self.file, "x")
        self.assertEqual(mode(self.file), 0o600)

    def test_the_first_content_stays(self) -> None:
        write_private_once(self.file, "first")
        self.assertEqual(write_private_once(self.file, "second"), "first")
        self.assertEqual(read_private(self.file), "first")

    def test_nothing_but_the_file_is_left(self) -> None:
        write_private_once(self.file, "x")
        self.assertEqual(os.listdir(self.folder), ["secret"])

    def test_a_file_that_others_can_read_is_refused(self) -> None:
        write_private_once(self.file, "x")
        self.file.chmod(0o640)
        error = self.assertRaises(SettingsError, read_private, self.file)
        self.assertEqual(
            str(error), f"{self.file} holds a secret and other users can read it: run chmod 600 on it."
        )

    def test_a_link_is_not_followed(self) -> None:
        self.file.symlink_to("/etc/hostname")
        error = self.assertRaises(SettingsError, read_private, self.file)
        self.assertIn("it is a symbolic link", str(error))

    def test_a_pipe_does_not_hang(self) -> None:
        os.mkfifo(self.file, 0o600)
        error = self.assertRaises(SettingsError, read_private, self.file)
        self.assertIn("it is not a file", str(error))

    def test_of_two_processes_one_writes_and_both_read_the_same(self) -> None:
        script = (
            "import sys; from pathlib import Path\n"
            "from oxidecast.settings.private import write_private_once\n"
            "sys.stdin.read()\n"
            "print(write_private_once(Path(sys.argv[1]), sys.argv[2]))"
        )
        children = [
            subprocess.Popen(
                [sys.executable, "-c", script, str(self.file), str(number)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=Path(__file__).parents[2],
            )
            for number in range(4)
        ]
        answers = {child.communicate("", timeout=20)[0] for child in children}
        self.assertEqual(len(answers), 1)
