"""An FFmpeg process of the child's: coded pictures in by NUT, coded pictures out by NUT, and what it costs.

It dies with the child, however that dies, and has the child's namespaces.
"""

import os
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from oxidecast.media import TICKS, Codec, Track, h264, hevc
from oxidecast.transcoding.worker.confinement import die_with_parent
from oxidecast.transcoding.worker.encoding import TIME_BASE

MOST_SAID = 20
"""Lines of what it says that are kept: the last ones say why it failed."""

END_WITHIN = 10.0
"""Seconds for it to end when its output has ended."""

_ANNEXB = {Codec.H264: h264.annexb, Codec.HEVC: hevc.annexb}


class Ffmpeg:
    """One run. `write` blocks while FFmpeg is behind. `packet` is called in a thread of its own with the place of the
    encoder and the packet, `stream` before the first one of each with its parameter sets (Annex B)."""

    def __init__(
        self,
        command: Sequence[str],
        track: Track,
        stream: Callable[[int, bytes], None],
        packet: Callable[[int, Any], None],
        failed: Callable[[str], None],
        most: float = 30.0,
    ) -> None:
        """`most` is the pictures a second that encoders reckon with where the track does not say: by themselves they
        would take the ticks for it, and give a picture next to no bits."""
        self._track = track
        self._stream, self._packet, self._failed = stream, packet, failed
        self._said: deque[str] = deque(maxlen=MOST_SAID)
        self._ending = False
        parent = os.getpid()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            preexec_fn=lambda: die_with_parent(parent),
        )
        self._threads = [
            threading.Thread(target=work, daemon=True, name=f"ffmpeg {what}")
            for work, what in ((self._listen, "says"), (self._read, "makes"))
        ]
        for thread in self._threads:
            thread.start()
        self._muxer: Any = av.open(
            self._process.stdin, "w", format="nut", options={"flush_packets": "1"}, buffer_size=4096
        )
        rate = track.frame_rate or Fraction(most).limit_denominator(1001)
        self._input = self._muxer.add_mux_stream(
            str(track.codec), rate=rate, width=track.width, height=track.height, time_base=TIME_BASE
        )

    def write(self, dts: int, pts: int, keyframe: bool, payload: bytes) -> None:
        convert = _ANNEXB.get(self._track.codec)
        packet = av.Packet(convert(payload, self._track) if convert is not None else payload)
        packet.dts, packet.pts, packet.time_base = dts, pts, TIME_BASE
        packet.is_keyframe, packet.stream = keyframe, self._input
        try:
            self._muxer.mux(packet)
        except (OSError, av.FFmpegError):
            self._fail()

    def end(self) -> None:
        """Have it hand out what it still has, and wait for it."""
        self._ending = True
        with suppress(OSError, av.FFmpegError):
            self._muxer.close()
        with suppress(OSError):
            self._process.stdin.close()  # type: ignore[union-attr]
        for thread in self._threads:
            thread.join()
        if self._wait():
            self._fail()

    def figures(self) -> tuple[float, int]:
        """CPU seconds so far, and bytes of memory, where the system tells."""
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0, 0
        ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
        return (int(fields[11]) + int(fields[12])) / ticks, int(fields[21]) * page

    def _wait(self) -> int:
        try:
            return self._process.wait(END_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _read(self) -> None:
        problem = ""
        try:
            # What FFmpeg has made is there as soon as it has made it: nothing is looked at ahead.
            options = {"probesize": "32", "analyzeduration": "0"}
            made: Any
            with av.open(self._process.stdout, format="nut", options=options, buffer_size=65536) as made:
                for place, sets in enumerate(_parameter_sets(made)):
                    self._stream(place, sets)
                for packet in made.demux():
                    if packet.size:
                        self._packet(packet.stream.index, packet)
        except (OSError, av.FFmpegError, ValueError) as error:
            problem = str(error)
        if not self._ending or problem:
            self._wait()
            self._fail(problem)

    def _listen(self) -> None:
        for line in self._process.stderr:  # type: ignore[union-attr]
            self._said.append(line.decode("utf-8", "replace").strip())

    def _fail(self, otherwise: str = "") -> None:
        self._threads[0].join(1.0)
        said = "; ".join(dict.fromkeys(line for line in self._said if line)) or otherwise
        self._failed(said or f"it ended with exit code {self._process.poll()}")


def _parameter_sets(made: Any) -> Iterator[bytes]:
    for stream in made.streams:
        yield bytes(stream.codec_context.extradata or b"")


def ticks(packet: Any) -> tuple[int | None, int]:
    """`dts` and `pts`. NUT has no `dts`: it follows from the order of pictures, which is not known at first."""
    scale = packet.time_base * TICKS
    return None if packet.dts is None else round(packet.dts * scale), round(packet.pts * scale)
