"""The server and the example plugin as their users get them: wheels, built and installed into an empty environment.

Made once for all tests of the process, outside the repository; nothing here can see the checkout.
"""

import atexit
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

from tests.e2e.programs import ROOT, Program, Server, until

EXAMPLE = ROOT / "plugins" / "oxidecast-annexb"
SLOWEST = 300
"""Seconds for one step, an empty download cache included."""


@cache
def installation() -> Path:
    """The environment's folder."""
    folder = Path(mkdtemp(prefix="oxidecast-installation-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for project in (ROOT, EXAMPLE):
        done(sys.executable, "-m", "build", "--wheel", "--outdir", str(folder / "wheels"), str(project))
    done(sys.executable, "-m", "venv", str(folder / "venv"))
    wheels = [str(wheel) for wheel in (folder / "wheels").iterdir()]
    done(str(folder / "venv/bin/pip"), "install", "--quiet", "--disable-pip-version-check", *wheels)
    return folder / "venv"


def done(*command: str) -> str:
    """Run a command to its good end, in an empty folder; what it printed."""
    with TemporaryDirectory() as empty:
        run = subprocess.run(
            command, cwd=empty, env=outside(), capture_output=True, text=True, timeout=SLOWEST, check=False
        )
    assert run.returncode == 0, f"{' '.join(command)}\n{run.stdout}\n{run.stderr}"
    return run.stdout


def program(name: str) -> str:
    return str(installation() / "bin" / name)


def outside(**more: str) -> dict[str, str]:
    """An environment that knows nothing of the checkout."""
    hidden = ("PYTHONPATH", "VIRTUAL_ENV", "DATABASE_URL")
    kept = {
        key: value
        for key, value in os.environ.items()
        if key not in hidden and not key.startswith("OXIDECAST_")
    }
    return {**kept, **more}


class InstalledServer(Server):
    """`oxidecast run` of the installation, in a folder that holds nothing but its log.

    `before` is a command that runs it.
    """

    def __init__(
        self, folder: Path, *, settings: Mapping[str, str] | None = None, before: Sequence[str] = ()
    ) -> None:
        self._before = before
        super().__init__(folder, settings=settings)

    def _start(self) -> None:
        ours = {key: value for key, value in self.environ.items() if key.startswith("OXIDECAST_")}
        # Without it the data lies beneath the folder that the server is started in.
        ours.pop("OXIDECAST_DATA_DIR", None)
        self.environ = outside(**ours)
        Program.__init__(
            self, [*self._before, program("oxidecast"), "run"], self.folder / "log", self.environ
        )
        until(self._is_ready, 30, "the server answers /ready")
        (self.folder / "data").symlink_to("oxidecast-data")

    def command(self, *arguments: str, input: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program("oxidecast"), *arguments],
            env=self.environ,
            cwd=self.folder,
            input=input,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )


@contextmanager
def installed_server(
    settings: Mapping[str, str] | None = None, before: Sequence[str] = ()
) -> Iterator[InstalledServer]:
    """A running installation, which ends with exit code 0."""
    with (
        TemporaryDirectory(prefix="oxidecast-") as folder,
        InstalledServer(Path(folder), settings=settings, before=before) as running,
    ):
        yield running
        assert running.stop() == 0, running.output
