"""The wheel holds all that the server needs, and works where nothing else is."""

import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.packaging.installation import SLOWEST, done, installation, installed_server, outside, program

pytestmark = [pytest.mark.xdist_group("packaging"), pytest.mark.timeout(3 * SLOWEST)]


class CommandTests(SynchronousTestCase):
    """What is seen before a server runs."""

    def test_twistd_lists_oxidecast(self) -> None:
        self.assertRegex(done(program("twistd"), "--help"), r"(?m)^ +oxidecast +A live streaming server")

    def test_the_command_says_its_version(self) -> None:
        self.assertRegex(done(program("oxidecast"), "version"), r"^OxideCast \d+\.\d+")

    def test_migrations_and_the_settings_file_come_with_it(self) -> None:
        script = (
            "from oxidecast.settings.data import data_path\n"
            "print(data_path('oxidecast.toml').is_file(), any(data_path('migrations').glob('0001_*.sql')))"
        )
        self.assertEqual(done(program("python"), "-c", script), "True True\n")

    def test_only_its_own_modules_are_installed(self) -> None:
        site = next(installation().glob("lib/python*/site-packages"))
        for stranger in ("tests", "config", "migrations", "plugins", "bench"):
            self.assertFalse((site / stranger).exists(), stranger)
        self.assertEqual([path.name for path in site.glob("oxidecast/web/player")], [])

    def test_installed_packages_do_not_contradict_each_other(self) -> None:
        done(program("pip"), "check")


class RunTests(SynchronousTestCase):
    """`oxidecast run` with the defaults, in an empty folder."""

    def test_pages_are_served_and_the_data_directory_is_made(self) -> None:
        with installed_server() as server:
            status, page = server.get("/player")
            self.assertEqual((status, b"<html" in page), (200, True))
            self.assertTrue((server.folder / "oxidecast-data" / "oxidecast.db").is_file())
            self.assertEqual(server.stream("my-stream")["state"], "idle")

    def test_site_packages_that_cannot_be_written_are_enough(self) -> None:
        folders = [Path(folder) for folder, _, _ in os.walk(installation())]
        for folder in folders:
            folder.chmod(0o555)
        # root would write all the same, unless it gives up that right.
        before = ("setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override")
        try:
            with installed_server(before=before if os.geteuid() == 0 else ()) as server:
                self.assertEqual(server.get("/player")[0], 200)
                self.assertNotIn("Traceback", server.output)
        finally:
            for folder in folders:
                folder.chmod(0o755)

    def test_what_hinders_the_start_is_one_sentence(self) -> None:
        with TemporaryDirectory() as empty:
            run = subprocess.run(
                [program("oxidecast"), "run"],
                cwd=empty,
                env=outside(OXIDECAST_SERVER_PRT="8080"),
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
        self.assertEqual(run.returncode, 1)
        self.assertIn("the nearest is OXIDECAST_SERVER_PORT", run.stderr)
        self.assertNotIn("Traceback", run.stderr)
