"""VLC as a viewer, without a screen: plays an address and answers how many frames it showed and lost.

The one idea: VLC's own counters are the proof, read from its control port while it plays. VLC refuses to run as root,
so there it runs as `nobody`, with a home that lives as long as it plays.
"""

import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from tests.e2e.netns import Host
from tests.e2e.programs import Program, free_port, until

_NOBODY = 65534
_COUNTER = re.compile(r"\|\s*([a-z][a-z ]*?)\s*:\s*(\d+)")
_REPLY = 3.0
"""Seconds that the control port has to answer."""


RESTARTS = 3
"""How often a count of frames in a row may start over: a machine can be too busy to decode for a moment, or for a few,
but a fault of the stream comes again."""

MOMENT = 1.0
"""Seconds: losses that follow each other closer than this are one moment."""


class FramesInARow:
    """Counts the frames that were displayed without a loss, from readings of VLC's counters. `now` is in seconds."""

    def __init__(self, frames: int, counters: dict[str, int]) -> None:
        self.latest = counters
        self._wanted = frames
        self._start = counters
        self._restarts = 0
        self._last_loss = -MOMENT

    def read(self, counters: dict[str, int], now: float) -> dict[str, int] | None:
        """By how much each counter rose in a row that is long enough; None before. Fails at the fourth moment in which
        frames were lost."""
        if counters["frames lost"] > self.latest["frames lost"]:
            self._start_over(counters, now)
        self.latest = counters
        if counters["frames displayed"] < self._start["frames displayed"] + self._wanted:
            return None
        return {name: value - self._start.get(name, 0) for name, value in counters.items()}

    def _start_over(self, counters: dict[str, int], now: float) -> None:
        self._restarts += now - self._last_loss >= MOMENT
        if self._restarts > RESTARTS:
            raise AssertionError(f"VLC lost frames again after {RESTARTS} new starts")
        self._last_loss = now
        self._start = counters


class Vlc(Program):
    """A VLC that plays one address, or nothing."""

    def __init__(
        self, url: str, home: Path, log: Path, host: Host | None = None, more: Sequence[str] = ()
    ) -> None:
        self._control = free_port()
        self._host = host
        environ = {**os.environ, "HOME": str(home), "XDG_RUNTIME_DIR": str(home)}
        super().__init__(
            [
                *(host.command if host is not None else ()),
                *as_normal_user(),
                "cvlc",
                "--no-dbus",
                "--intf=oldrc",
                "--rc-fake-tty",
                f"--rc-host=127.0.0.1:{self._control}",
                "--vout=dummy",
                "--aout=adummy",
                *more,
                *([url] if url else []),
            ],
            log,
            environ,
        )

    def counters(self) -> dict[str, int]:
        """VLC's statistics by name: `frames displayed`, `frames lost`, `buffers played`, `discontinuities`, ..."""
        try:
            answer = self.ask("stats", "end of statistical info")
        except OSError:
            return {}
        return {name: int(value) for name, value in _COUNTER.findall(answer)}

    def ask(self, command: str, until_words: str) -> str:
        """What VLC answers on its control port, up to these words. Raises OSError."""
        answer = b""
        with self._host.entered() if self._host is not None else nullcontext():
            control = socket.create_connection(("127.0.0.1", self._control), _REPLY)
        with control:
            control.settimeout(_REPLY)
            control.sendall(command.encode() + b"\n")
            while until_words.encode() not in answer:
                data = control.recv(65536)
                if not data:
                    break
                answer += data
        return answer.decode(errors="replace")

    def playlist(self) -> str:
        """All that it lists."""
        try:
            return self.ask("playlist", "End of playlist")
        except OSError:
            return ""

    def wait_frames(self, frames: int, seconds: float) -> dict[str, int]:
        """By how much each counter rose while so many frames in a row were displayed and none lost.

        What is late while a player fills its buffers is not counted; after the first picture, a row may start over as
        often as `FramesInARow` allows.
        """
        row = FramesInARow(frames, until(self._displays, seconds, "VLC displays something"))

        def enough() -> dict[str, int] | None:
            return row.read(self._displays() or row.latest, time.monotonic())

        try:
            return until(enough, seconds, f"VLC displays {frames} frames and loses none")
        except AssertionError as error:
            raise AssertionError(f"{error}: {row.latest}\n{self.output}") from None

    def _displays(self) -> dict[str, int] | None:
        if self.process.poll() is not None:
            raise AssertionError(f"VLC ended:\n{self.output}")
        counters = self.counters()
        return counters if counters.get("frames displayed") else None


@contextmanager
def watching(url: str, log: Path, host: Host | None = None, more: Sequence[str] = ()) -> Iterator[Vlc]:
    """VLC playing an address, on this host or another, gone afterwards."""
    home = Path(tempfile.mkdtemp(prefix="oxidecast-vlc-"))
    try:
        if os.geteuid() == 0:
            os.chown(home, _NOBODY, _NOBODY)
        with Vlc(url, home, log, host, more) as player:
            yield player
    finally:
        shutil.rmtree(home, ignore_errors=True)


def as_normal_user() -> list[str]:
    if os.geteuid() != 0:
        return []
    return ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]
