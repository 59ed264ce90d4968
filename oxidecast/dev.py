"""`make dev`: runs the server, and again whenever its code or its settings change."""

import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EVERY = 1.0
"""Seconds between two looks."""


def _state() -> dict[Path, int]:
    suffixes = {".py", ".toml", ".sql", ".html", ".css", ".js"}
    folders = (ROOT / "oxidecast", ROOT / "config", ROOT / "migrations")
    return {
        path: path.stat().st_mtime_ns
        for folder in folders
        for path in folder.rglob("*")
        if path.suffix in suffixes and "node_modules" not in path.parts and path.exists()
    }


ENDING = (signal.SIGINT, signal.SIGTERM)


def main() -> None:
    # A shell starts what it puts into the background with SIGINT ignored.
    for number in ENDING:
        signal.signal(number, signal.default_int_handler)
    while True:
        before = _state()
        server = subprocess.Popen([sys.executable, "-m", "oxidecast.cli", "run", *sys.argv[1:]])
        try:
            while _state() == before:
                time.sleep(EVERY)
        except KeyboardInterrupt:
            for number in ENDING:
                signal.signal(number, signal.SIG_IGN)
            server.terminate()
            server.wait()
            return
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
