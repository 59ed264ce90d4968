"""`oxidecast check`: what it finds on this machine, with things broken one at a time."""

import os
import socket
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from oxidecast.check import check
from tests.house import LOOPBACK
from tests.settings.support import temporary_folder


class TestCheck(SynchronousTestCase):
    def check(self, data: Path, **environ: str) -> list[str]:
        lines: list[str] = []
        self.code = check(None, data, {**os.environ, **LOOPBACK, **environ}, lines.append)
        return lines

    def failed(self, data: Path, **environ: str) -> str:
        """The one line that fails."""
        (line,) = [line for line in self.check(data, **environ) if line.startswith("fail")]
        self.assertEqual(self.code, 1)
        return line

    def test_a_good_machine_passes_and_gets_no_database_of_it(self) -> None:
        data = temporary_folder(self) / "data"
        lines = self.check(data)
        self.assertEqual((self.code, [line for line in lines if line.startswith("fail")]), (0, []))
        self.assertFalse((data / "oxidecast.db").exists())

    def test_a_file_that_is_no_database(self) -> None:
        data = temporary_folder(self)
        (data / "oxidecast.db").write_bytes(b"garbage" * 100)
        self.assertIn("not an SQLite database", self.failed(data))

    def test_an_engine_that_this_version_does_not_serve(self) -> None:
        line = self.failed(temporary_folder(self), DATABASE_URL="postgresql://tv:hunter2@db.example/tv")
        self.assertIn("PostgreSQL", line)
        self.assertNotIn("hunter2", line)

    def test_a_host_that_is_none_is_said_in_words(self) -> None:
        line = self.failed(temporary_folder(self), OXIDECAST_SERVER_HOST="not a host")
        self.assertIn("not a host", line)
        self.assertNotIn("Unknown error", line)

    def test_a_port_that_is_taken(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            self.assertIn(
                f"HTTP port {port}", self.failed(temporary_folder(self), OXIDECAST_SERVER_PORT=port)
            )
