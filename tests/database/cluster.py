"""A real PostgreSQL server for the tests of one process: started when it is first wanted, ended with the process.

Its data lies in a temporary folder, nothing is synced to the disk, and it listens on 127.0.0.1 on a port of its own. A
machine without PostgreSQL fails these tests.
"""

import atexit
import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import closing, suppress
from functools import cache
from pathlib import Path

import psycopg2

from tests.e2e.programs import free_port

PASSWORD = "the tests' own"
USER = "postgres"
START_TIME = 30.0
"""Seconds for a start, also after a crash."""
QUIET = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "autovacuum": "off",
    "log_min_messages": "fatal",
}
"""The server's settings: nothing has to survive."""


class Cluster:
    """A server. `kill` and `start` keep its data and its port."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="oxidecast-pg-"))
        self._folder.chmod(0o755)
        self._data = self._folder / "data"
        self._data.mkdir()
        if os.getuid() == 0:
            shutil.chown(self._data, USER, USER)
        self.port = free_port()
        self._server: subprocess.Popen[bytes] | None = None
        atexit.register(self._end)
        password = self._folder / "password"
        password.write_text(PASSWORD)
        subprocess.run(
            [*_prefix(), program("initdb"), "--pgdata", self._data, "--username", USER, "--encoding", "UTF8"]
            + [
                "--no-locale",
                "--auth",
                "scram-sha-256",
                "--pwfile",
                password,
                "--no-sync",
                "--no-instructions",
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd="/",
        )
        self.start()

    def url(self, database: str, password: str = PASSWORD) -> str:
        secret = password.replace(" ", "%20").replace("'", "%27")
        return f"postgresql://{USER}:{secret}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Answers when the server does; does nothing when it runs."""
        deadline = time.monotonic() + START_TIME
        while not self._answers():
            if self._server is None or self._server.poll() is not None:
                self._server = self._launched()  # again, where a predecessor has not left its memory yet
            if time.monotonic() > deadline:
                raise AssertionError("PostgreSQL did not start")
            time.sleep(0.05)

    def kill(self) -> None:
        """As a crash does: the server's processes die with their connections."""
        processes = self._processes()
        self._signal(signal.SIGKILL)
        # Those that serve connections find out that it is gone, but may answer once more before they do.
        for process in processes[1:]:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        deadline = time.monotonic() + START_TIME
        while any(map(_runs, processes[1:])):
            assert time.monotonic() < deadline, "PostgreSQL did not die"
            time.sleep(0.01)

    def stop(self) -> None:
        """As an administrator does who does not wait for clients."""
        self._signal(signal.SIGINT)

    def pause(self) -> None:
        """Nothing answers any more, and no connection ends: until `go_on`."""
        for process in self._processes():
            os.kill(process, signal.SIGSTOP)

    def go_on(self) -> None:
        for process in self._processes():
            os.kill(process, signal.SIGCONT)

    def run(self, sql: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """One statement, on a connection of its own."""
        with closing(psycopg2.connect(self.url(database))) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchall() if cursor.description else []

    def _launched(self) -> "subprocess.Popen[bytes]":
        settings = {
            **QUIET,
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return subprocess.Popen(
            [*_prefix(), program("postgres"), "-D", self._data, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
        )

    def _answers(self) -> bool:
        try:
            self.run("SELECT 1")
        except psycopg2.Error:
            return False
        return True

    def _processes(self) -> list[int]:
        assert self._server is not None
        children = Path(f"/proc/{self._server.pid}/task/{self._server.pid}/children").read_text().split()
        return [self._server.pid, *map(int, children)]

    def _signal(self, number: signal.Signals) -> None:
        assert self._server is not None
        self._server.send_signal(number)
        self._server.wait(START_TIME)

    def _end(self) -> None:
        if self._server is not None and self._server.poll() is None:
            self._signal(signal.SIGQUIT)
        shutil.rmtree(self._folder, ignore_errors=True)


def _runs(process: int) -> bool:
    """Whether it may still have connections: one that has ended, waited for or not, has none."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@cache
def cluster() -> Cluster:
    """This process's server."""
    return Cluster()


def _prefix() -> list[str]:
    """Ends the server when this process ends in whatever way; and PostgreSQL refuses to run as root."""
    other = ["--reuid", USER, "--regid", USER, "--clear-groups"] if os.getuid() == 0 else []
    return ["setpriv", "--pdeathsig", "QUIT", *other]


def program(name: str) -> str:
    """Debian keeps the server's programs out of the PATH."""
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / name).exists():
            return str(folder / name)
    found = shutil.which(name)
    if found is None:
        raise AssertionError("PostgreSQL is not installed: sh tests/install_system.sh postgresql")
    return found
