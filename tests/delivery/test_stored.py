"""Files by name below one directory."""

import os

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.delivery.stored import InUse, Store
from tests.settings.support import temporary_folder

NAME = "folder/file.mp4"


class TestStore(SynchronousTestCase):
    def setUp(self) -> None:
        self.store = Store(temporary_folder(self) / "a" / "b")

    def made(self, name: str = NAME, body: bytes = b"body") -> None:
        file = self.store.create(name)
        os.write(file, body)
        os.close(file)

    def test_the_directory_is_made_for_us_alone(self) -> None:
        self.made()
        for path in (self.store.directory, self.store.directory / "folder"):
            self.assertEqual(path.stat().st_mode & 0o777, 0o700)
        self.assertEqual(self.store.path(NAME).stat().st_mode & 0o777, 0o600)

    def test_names_that_lead_out_of_it(self) -> None:
        for name in (
            "../x.mp4",
            "/etc/passwd",
            "a/../../x.mp4",
            "a/b/c.mp4",
            "a.mp4",
            "a/.mp4",
            "a/b.mp4\n",
            "a/b\0.mp4",
        ):
            for call in (self.store.path, self.store.create, self.store.open, self.store.remove):
                self.assertRaises(ValueError, call, name)

    @given(st.text(max_size=40))
    def test_whatever_the_name(self, name: str) -> None:
        try:
            path = self.store.path(name)
        except ValueError:
            return
        self.assertEqual(path.parent.parent, self.store.directory)

    def test_nothing_is_written_over(self) -> None:
        self.made()
        self.assertRaises(FileExistsError, self.store.create, NAME)

    def test_who_writes_holds_it(self) -> None:
        file = self.store.create(NAME)
        self.assertRaises(InUse, self.store.reopen, NAME)
        self.assertRaises(InUse, self.store.remove, NAME)
        os.close(os.open(self.store.path(NAME), os.O_RDONLY))  # To read is no reason to let go.
        self.assertRaises(InUse, self.store.reopen, NAME)
        os.close(file)
        os.close(self.store.reopen(NAME))

    def test_it_is_read_while_it_is_written(self) -> None:
        file = self.store.create(NAME)
        os.write(file, b"so far")
        reader, size = self.store.open(NAME)
        self.assertEqual((os.read(reader, 100), size), (b"so far", 6))
        os.close(reader)
        os.close(file)

    def test_the_last_one_takes_its_folder_with_it(self) -> None:
        self.made()
        self.made("folder/other.mp4")
        self.store.remove(NAME)
        self.assertEqual(list(self.store.names()), ["folder/other.mp4"])
        for _ in range(2):
            self.store.remove("folder/other.mp4")
        self.assertFalse((self.store.directory / "folder").exists())

    def test_how_much_there_is(self) -> None:
        self.assertEqual((self.store.size(), list(self.store.names())), (0, []))
        self.assertGreater(self.store.free(), 0)
        self.made(body=bytes(1000))
        (self.store.directory / "notes.txt").write_bytes(bytes(10))
        self.assertEqual((self.store.size(), list(self.store.names())), (1010, [NAME]))

    def test_a_link_is_not_followed(self) -> None:
        self.made()
        self.store.path("folder/link.mp4").symlink_to(self.store.path(NAME))
        for call in (self.store.open, self.store.reopen, self.store.remove):
            self.assertRaises(OSError, call, "folder/link.mp4")
        self.assertTrue(self.store.path(NAME).exists())
