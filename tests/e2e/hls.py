"""A strict HLS viewer: reads a media playlist again and again, fetches what it lists, and notes every broken promise.

The one idea: what RFC 8216 promises about a live playlist is about its changes, which one look cannot see. So a thread
looks all the time, and keeps what it saw: each segment once, and each promise that a reload broke.
"""

import io
import json
import subprocess
import threading
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urljoin
from urllib.request import urlopen

import av
import m3u8

POLL = 0.25
"""Seconds between two reloads: often enough to see every state of a playlist of two-second segments."""


@dataclass
class Seen:
    """One segment, as it was listed first."""

    sequence: int
    uri: str
    duration: float
    discontinuity: bool
    init: str
    utc: datetime | None
    body: bytes
    arrived: float
    """`time.time()` when it was first listed."""
    gap: bool
    """Whether it is only said to be missing."""
    number: int
    """Its discontinuity sequence number (RFC 8216, 6.2.1)."""

    @property
    def late(self) -> float:
        """Seconds from its end, as it happened, until it was listed."""
        assert self.utc is not None
        return self.arrived - self.utc.timestamp() - self.duration


class Watcher(threading.Thread):
    """Watches one media playlist until `stop`, or its EXT-X-ENDLIST."""

    def __init__(self, address: str, *, fetch: bool = True) -> None:
        super().__init__(daemon=True)
        self.address = address
        self.segments: list[Seen] = []
        self.faults: list[str] = []
        self.inits: dict[str, bytes] = {}
        self.targets: set[int] = set()
        self.independent: set[bool] = set()
        self.ended = False
        self.reloads = 0
        self._fetch = fetch
        self._over = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._over.is_set() and not self.ended:
            try:
                with urlopen(self.address, timeout=10) as answer:
                    self._read(answer.read().decode())
            except HTTPError as error:
                self.faults.append(f"the playlist answered {error.code}")
                error.close()
            except OSError as error:
                if not self._over.is_set():
                    self.faults.append(f"the playlist could not be read: {error}")
            self._over.wait(POLL)

    def stop(self) -> "Watcher":
        self._over.set()
        self.join(15)
        return self

    def __enter__(self) -> "Watcher":
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def discontinuities(self) -> int:
        return sum(1 for segment in self.segments if segment.discontinuity)

    def seconds(self) -> float:
        """How much media was listed."""
        return sum(segment.duration for segment in self.segments)

    def write(self, folder: Path) -> list[Path]:
        """Each segment as a file that a program can read: its initialisation section first."""
        files = []
        for segment in self.segments:
            path = folder / f"{segment.sequence:05}-{segment.uri}"
            path.write_bytes(self.inits.get(segment.init, b"") + segment.body)
            files.append(path)
        return files

    def _read(self, text: str) -> None:
        now = time.time()
        playlist = m3u8.loads(text)
        self.reloads += 1
        target = playlist.target_duration
        self.targets.add(target)
        self.independent.add(playlist.is_independent_segments)
        first = playlist.media_sequence
        if self.segments and first > self.segments[-1].sequence + 1:
            self.faults.append(f"segments were lost: {self.segments[-1].sequence} before, {first} now")
        discontinuities = playlist.discontinuity_sequence or 0
        for number, entry in enumerate(playlist.segments, first):
            discontinuities += bool(entry.discontinuity)
            if round(entry.duration) > target:
                self.faults.append(f"segment {number} lasts {entry.duration}, TARGETDURATION is {target}")
            known = next((seen for seen in reversed(self.segments) if seen.sequence == number), None)
            if known is not None:
                if (known.uri, known.duration, known.discontinuity, known.number) != (
                    entry.uri,
                    entry.duration,
                    bool(entry.discontinuity),
                    discontinuities,
                ):
                    self.faults.append(f"segment {number} changed from {known.uri} to {entry.uri}")
                continue
            if self.segments and number != self.segments[-1].sequence + 1:
                continue
            init = entry.init_section.uri if entry.init_section else ""
            if init and init not in self.inits:
                self.inits[init] = self._get(init)
            self.segments.append(
                Seen(
                    number,
                    entry.uri,
                    entry.duration,
                    bool(entry.discontinuity),
                    init,
                    entry.current_program_date_time,
                    self._get(entry.uri) if self._fetch and not entry.gap_tag else b"",
                    now,
                    bool(entry.gap_tag),
                    discontinuities,
                )
            )
        # Last, so that who waits for it finds everything.
        self.ended = playlist.is_endlist

    def _get(self, uri: str) -> bytes:
        try:
            with urlopen(urljoin(self.address, uri), timeout=10) as answer:
                body: bytes = answer.read()
                return body
        except OSError as error:
            self.faults.append(f"{uri} could not be read: {error}")
            return b""


def packets(path: str | Path, select: str, seconds: float = 60) -> list[dict[str, Any]]:
    """What ffprobe says of the packets of one stream (`v:0`, `a:0`)."""
    done = subprocess.run(
        ["ffprobe", "-v", "error", "-of", "json", "-select_streams", select, "-show_entries"]
        + ["packet=dts_time,pts_time,duration_time,flags", str(path)],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr.strip(), done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)["packets"]
    return found


def ts_faults(path: Path) -> list[str]:
    """What ffmpeg has to say against a transport stream: continuity, damage.

    It reads a pipe: in a file it looks at the end first, at places that are no packet's beginning.
    """
    with path.open("rb") as stream:
        done = subprocess.run(
            [
                "ffmpeg",
                "-v",
                "debug",
                "-f",
                "mpegts",
                "-i",
                "-",
                "-map",
                "0",
                "-c",
                "copy",
                "-f",
                "null",
                "-",
            ],
            stdin=stream,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    words = ("Continuity check failed", "corrupt", "Invalid", "out of range")
    return [line for line in done.stderr.splitlines() if any(word in line for word in words)]


def shown(watcher: Watcher) -> dict[float, list[float]]:
    """Keyframes' times (s) by segment, which is named by when its pictures begin."""
    found = {}
    for segment in (one for one in watcher.segments if not one.gap):
        with av.open(io.BytesIO(watcher.inits.get(segment.init, b"") + segment.body)) as container:
            packets = [packet for packet in container.demux(video=0) if packet.pts is not None]
            times = [float(packet.pts * packet.time_base) for packet in packets]
            keys = [at for at, packet in zip(times, packets, strict=True) if packet.is_keyframe]
            found[round(min(times), 3)] = [round(at, 3) for at in keys]
    return found
