"""What a confined process can still do: tried in processes of their own."""

import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase


def python(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments], capture_output=True, text=True, timeout=60
    )
    return done.stdout.strip() or done.stderr


class TestConfinement(SynchronousTestCase):
    def test_files_are_read_and_neither_written_nor_made_nor_removed(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            there = Path(folder, "there")
            there.write_text("text")
            said = python(
                """
                import os, sys
                from oxidecast.transcoding.worker.confinement import confine
                done = confine()
                folder = sys.argv[1]
                tried = {}
                for name, act in {
                    "read": lambda: open(folder + "/there").read(),
                    "write": lambda: open(folder + "/there", "r+"),
                    "make": lambda: open(folder + "/new", "w"),
                    "folder": lambda: os.mkdir(folder + "/sub"),
                    "remove": lambda: os.unlink(folder + "/there"),
                    "rename": lambda: os.rename(folder + "/there", folder + "/here"),
                    "truncate": lambda: os.truncate(folder + "/there", 0),
                }.items():
                    try:
                        act()
                        tried[name] = True
                    except OSError:
                        tried[name] = False
                print("files" in done, *(name for name, worked in tried.items() if worked))
                """,
                folder,
            )
            self.assertEqual(said, "True read")
            self.assertEqual(
                (there.read_text(), [path.name for path in Path(folder).iterdir()]), ("text", ["there"])
            )

    def test_the_network_is_gone(self) -> None:
        said = python(
            """
            import socket
            from oxidecast.transcoding.worker.confinement import confine
            listening = socket.create_server(("127.0.0.1", 0))
            socket.create_connection(listening.getsockname(), 5).close()
            done = confine()
            try:
                socket.create_connection(listening.getsockname(), 5)
                print("network" in done, "reached")
            except OSError:
                print("network" in done, "not reached")
            """
        )
        self.assertEqual(said, "True not reached")

    def test_devices_are_left_to_hardware(self) -> None:
        said = python(
            """
            from oxidecast.transcoding.worker.confinement import confine
            done = confine(devices=True)
            open("/dev/null", "r+b", buffering=0).write(b"x")
            print("files" in done)
            """
        )
        self.assertEqual(said, "False")

    def test_pipes_are_written_as_before(self) -> None:
        said = python(
            """
            from oxidecast.transcoding.worker.confinement import confine
            confine()
            print("x" * 100_000)
            """
        )
        self.assertEqual(len(said), 100_000)

    def test_a_child_whose_parent_is_gone_already_ends(self) -> None:
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                "from oxidecast.transcoding.worker.confinement import die_with_parent; die_with_parent(1); print(1)",
            ],
            capture_output=True,
            timeout=60,
        )
        self.assertEqual((done.returncode, done.stdout), (1, b""))

    def test_a_child_dies_with_its_parent(self) -> None:
        """A parent that is killed outright cannot tell its child anything."""
        said = python(
            """
            import os, signal, subprocess, sys, time
            child = (
                "import os, time; from oxidecast.transcoding.worker.confinement import die_with_parent;"
                "die_with_parent(os.getppid()); print(os.getpid(), flush=True); time.sleep(60)"
            )
            parent = (
                "import os, signal, subprocess, sys;"
                "child = subprocess.Popen([sys.executable, '-c', sys.argv[1]], stdout=subprocess.PIPE);"
                "print(int(child.stdout.readline()), flush=True); os.kill(os.getpid(), signal.SIGKILL)"
            )
            done = subprocess.run([sys.executable, "-c", parent, child], capture_output=True, text=True)
            pid = int(done.stdout)
            for _ in range(200):
                try:
                    state = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0]
                except OSError:
                    state = "gone"
                if state in ("gone", "Z"):
                    break
                time.sleep(0.05)
            print(state in ("gone", "Z"))
            """
        )
        self.assertEqual(said, "True")
