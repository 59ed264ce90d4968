"""The commands, each as a process of its own, as people run them."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import oxidecast

ROOT = Path(__file__).resolve().parent.parent


class TestCommands(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    def run_command(
        self, *arguments: str, given: str = "", **environ: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "oxidecast.cli", *arguments],
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=self.folder,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "OXIDECAST_DATA_DIR": str(self.folder / "data"),
                **environ,
            },
        )

    def test_version(self) -> None:
        self.assertEqual(self.run_command("version").stdout, f"OxideCast {oxidecast.__version__}\n")

    def test_plugins_lists_name_kind_version_origin_and_state(self) -> None:
        lines = self.run_command("plugins", OXIDECAST_PLUGINS_DISABLED='["testpattern"]').stdout.splitlines()
        rows = {line.split()[0]: line.split()[1:] for line in lines}
        self.assertEqual(rows["hls"], ["output", oxidecast.__version__, "oxidecast", "enabled"])
        self.assertEqual(rows["testpattern"][-1], "disabled")

    def test_the_key_of_the_first_stream_is_shown_and_a_password_is_set(self) -> None:
        first, second = (
            self.run_command("key", "show", "my-stream"),
            self.run_command("key", "show", "my-stream"),
        )
        self.assertEqual((first.returncode, len(first.stdout)), (0, 40))
        self.assertEqual(first.stdout, second.stdout)
        done = self.run_command("user", "passwd", "admin", given="a new password\n")
        self.assertEqual(done.stdout, "the password of admin is set; earlier logins have ended\n")
        self.assertNotIn("a new password", done.stdout + done.stderr)

    def test_admins_new_password_takes_the_file_of_the_first_one_away(self) -> None:
        self.run_command("key", "show", "my-stream")
        file = self.folder / "data" / "admin-password"
        self.run_command("user", "passwd", "admin", given="short\n")
        self.assertTrue(file.exists(), "the password was not changed")
        self.run_command("user", "passwd", "admin", given="a new password\n")
        self.assertFalse(file.exists())

    def test_what_hinders_a_command_is_one_sentence_and_exit_code_1(self) -> None:
        for arguments, given, sentence in (
            (("key", "show", "nothing"), "", "oxidecast: there is no stream 'nothing'\n"),
            (("user", "passwd", "nobody"), "long enough\n", "oxidecast: there is no user 'nobody'\n"),
            (
                ("user", "passwd", "admin"),
                "short\n",
                "oxidecast: The password must have 8 to 1024 characters.\n",
            ),
        ):
            done = self.run_command(*arguments, given=given)
            self.assertEqual((done.returncode, done.stdout, done.stderr), (1, "", sentence))
        done = self.run_command("plugins", OXIDECAST_SERVER_PRT="1")
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr.count("\n"), 1)
        self.assertIn("OXIDECAST_SERVER_PORT", done.stderr)
