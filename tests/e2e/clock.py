"""A source that shows the machine's clock, and flashes and beeps: what a viewer sees tells when it was made.

The one idea: each picture has the time at which it was handed to the encoder in it, as black and white blocks that
every codec leaves readable. So one look at a picture, anywhere on this machine, says how old it is. Every second the
rest of the picture is white while the sound beeps, as in `sync.py`.

    with Source(log, [*rtmp(url)]) as source: ...
"""

import array
import fcntl
import math
import os
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tests.e2e.programs import FFMPEG_9, Program
from tests.transcoding.clips import FLASH

WIDTH, HEIGHT, RATE = 320, 180, 30
BLOCK = 20
"""Pixels: more than a macroblock, so that coarse quantisers leave them alone."""
ROWS = 3
"""Of sixteen blocks: 32 bits of milliseconds, and 16 that prove them."""
BLACK, WHITE = 16, 235
CHUNK = 0.01
"""Seconds of sound that are written at once."""
SIZE = 0x7FFFFFFF
"""Bytes of the sound, for its header: more than will be."""
HEADER = struct.pack("<4sI8sIHH", b"RIFF", SIZE, b"WAVEfmt ", 16, 1, 1)
"""Of a WAVE file of one channel, up to its rate."""
PIPE = 1 << 20
"""Bytes of a pipe's room: a picture must not wait for its reader."""


def check(moment: int) -> int:
    """Sixteen bits that prove 32: what was read from half a picture does not fit."""
    return (moment ^ moment >> 16 ^ 0xA5C3) & 0xFFFF


def draw(moment: int, white: bool) -> bytes:
    """A picture (yuv420p) with this time, in milliseconds."""
    moment &= 0xFFFFFFFF
    bits = moment << 16 | check(moment)
    luma = bytearray()
    for row in range(ROWS):
        line = bytearray()
        for column in range(16):
            on = bits >> (47 - 16 * row - column) & 1
            line += bytes((WHITE if on else BLACK,)) * BLOCK
        luma += line * BLOCK
    luma += bytes((WHITE if white else BLACK,)) * (WIDTH * (HEIGHT - ROWS * BLOCK))
    return bytes(luma) + bytes((128,)) * (WIDTH * HEIGHT // 2)


def read(plane: bytes, line: int) -> int | None:
    """The time in a picture's luma of so many bytes a line; None where there is none."""
    bits = 0
    for row in range(ROWS):
        for column in range(16):
            at = (row * BLOCK + BLOCK // 2) * line + column * BLOCK + BLOCK // 2
            bits = bits << 1 | (plane[at] > 126)
    moment = bits >> 16
    return moment if check(moment) == bits & 0xFFFF else None


def age(moment: int, at: float) -> float:
    """Seconds that a picture of this time is old at `at` (`time.time()`)."""
    late = (int(at * 1000) - moment) & 0xFFFFFFFF
    return (late - (1 << 32) if late >> 31 else late) / 1000


class Source:
    """An ffmpeg that is given pictures and sound as they happen, and publishes them. `coders` is the rest of its
    command; `rate` of the sound in Hz."""

    def __init__(self, log: Path, coders: Sequence[str], rate: int = 48_000) -> None:
        self._rate = rate
        pictures, sound = os.pipe(), os.pipe()
        for _, writer in (pictures, sound):
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE)
        live = ["-fflags", "nobuffer", "-probesize", "32", "-analyzeduration", "0"]
        command = [FFMPEG_9, "-hide_banner", "-loglevel", "warning", "-nostdin", *live]
        command += ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-video_size", f"{WIDTH}x{HEIGHT}"]
        command += ["-framerate", str(RATE), "-i", f"pipe:{pictures[0]}"]
        # Bare samples would be read a tenth of a second at a time, which no encoder of streamers does.
        command += [*live, "-f", "wav", "-ignore_length", "1", "-max_size", "1024", "-i", f"pipe:{sound[0]}"]
        readers = (pictures[0], sound[0])
        self.program = Program(["setpriv", "--pdeathsig=KILL", *command, *coders], log, files=readers)
        for reader in readers:
            os.close(reader)
        self._over = threading.Event()
        began = time.time()
        self._threads = [
            threading.Thread(target=self._run, args=(write, writer, began), daemon=True)
            for write, (_, writer) in ((self._pictures, pictures), (self._sound, sound))
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> "Source":
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._over.set()
        self.program.__exit__()
        for thread in self._threads:
            thread.join(5)

    def _run(self, write: Callable[[int, float], None], writer: int, began: float) -> None:
        try:
            write(writer, began)
        except BrokenPipeError:
            pass  # The encoder has ended.
        finally:
            os.close(writer)

    def _pictures(self, writer: int, began: float) -> None:
        number = 0
        while not self._over.wait(max(0.0, began + number / RATE - time.time())):
            white = number % RATE < FLASH * RATE - 0.001
            _write(writer, draw(int(time.time() * 1000), white))
            number += 1

    def _sound(self, writer: int, began: float) -> None:
        rate, chunk, at = self._rate, int(self._rate * CHUNK), 0
        loud = [int(16_000 * math.sin(2 * math.pi * 1000 * at / rate)) for at in range(int(FLASH * rate))]
        _write(
            writer,
            HEADER + struct.pack("<IIHH4sI", rate, 2 * rate, 2, 16, b"data", SIZE),
        )
        second = array.array("h", [*loud, *[0] * (rate - len(loud))])
        while not self._over.wait(max(0.0, began + (at + chunk) / rate - time.time())):
            _write(writer, second[at % rate : at % rate + chunk].tobytes())
            at += chunk


def _write(writer: int, data: bytes) -> None:
    while data:
        data = data[os.write(writer, data) :]


def rtmp(url: str, *, bframes: int = 0, sound: str = "aac") -> list[str]:
    """To RTMP, in the order of time, as all encoders do it; B-frames and AAC are OBS's default."""
    tune = ["-bf", str(bframes), "-x264-params", "b-adapt=0"] if bframes else ["-tune", "zerolatency"]
    coders = ["-c:v", "libx264", "-preset", "ultrafast", *tune, "-g", str(RATE), "-pix_fmt", "yuv420p"]
    return [*coders, "-c:a", sound, "-b:a", "96k", "-flush_packets", "1", "-f", "flv", url]


def whip(url: str, key: str) -> list[str]:
    """To WHIP, with Opus."""
    coders = ["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-bf", "0", "-g", str(RATE)]
    coders += ["-pix_fmt", "yuv420p", "-c:a", "libopus", "-ac", "2", "-frame_duration", "20"]
    return [*coders, "-f", "whip", "-authorization", key, url]


WATCH = """
([width, height, block]) => {
    const seen = window.seen = {pictures: [], beeps: []};
    const canvas = document.createElement('canvas');
    canvas.width = width; canvas.height = height;
    const context = canvas.getContext('2d', {willReadFrequently: true});
    const wall = at => at + Date.now() - performance.now();
    const look = (now, metadata) => {
        window.video.requestVideoFrameCallback(look);
        context.drawImage(window.video, 0, 0, canvas.width, canvas.height);
        const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
        const bit = (x, y) => data[4 * (y * canvas.width + x)] > 126 ? 1 : 0;
        let moment = 0, proof = 0;
        for (let at = 0; at < 48; at++) {
            const one = bit((at % 16 + 0.5) * block, (Math.floor(at / 16) + 0.5) * block);
            if (at < 32) moment = moment * 2 + one; else proof = proof * 2 + one;
        }
        if (((moment ^ (moment >>> 16) ^ 0xA5C3) & 0xFFFF) !== proof) return;
        const white = bit(canvas.width / 2, canvas.height - 40);
        seen.pictures.push([moment, wall(metadata.expectedDisplayTime), white]);
    };
    window.video.requestVideoFrameCallback(look);
    const hear = async track => {
        const reader = new MediaStreamTrackProcessor({track}).readable.getReader();
        let quiet = -1, one = null;
        for (;;) {
            const {done, value} = await reader.read();
            if (done) return;
            // By the clock of `performance.now()`: when it is given out.
            const rate = value.sampleRate, begin = wall(value.timestamp / 1000);
            const samples = new Float32Array(value.numberOfFrames);
            value.copyTo(samples, {planeIndex: 0, format: 'f32-planar'});
            value.close();
            samples.forEach((sample, at) => {
                if (sample * sample < 1e-3) return;
                const now = begin + at * 1000 / rate;
                if (now - quiet > 300) { one = [0, 0]; seen.beeps.push(one); }
                quiet = now;
                one[0] += sample * sample;
                one[1] += sample * sample * now;
            });
        }
    };
    hear(window.video.srcObject.getAudioTracks()[0]);
}
"""
"""With `PAGE`: looks at `window.video`, and keeps in `window.seen`: of each picture its time, when it is shown, and
whether it is white; of each beep its energy, and its energy by moment (all in milliseconds)."""

PAGE = [WIDTH, HEIGHT, BLOCK]

NEAR = 0.5
"""Seconds around a flash in which its beep is looked for: they come every second."""
WINDOW = 3.0
"""Seconds over which a machine that is busy may have been quiet."""


@dataclass
class Seen:
    """What came out: of each picture its time and when it came (seconds), and when flashes and beeps began."""

    pictures: list[tuple[int, float]]
    flashes: list[float]
    beeps: list[float]

    @classmethod
    def by_page(cls, seen: Any) -> "Seen":
        """Of `window.seen`."""
        flashes, before = [], True
        for _, at, white in seen["pictures"]:
            if white and not before:
                flashes.append(at / 1000)
            before = bool(white)
        # One that was cut in two by the page's start says nothing.
        loudest = max((energy for energy, _ in seen["beeps"]), default=0.0)
        beeps = [
            moment / energy / 1000 - FLASH / 2 for energy, moment in seen["beeps"] if energy > 0.8 * loudest
        ]
        return cls([(moment, at / 1000) for moment, at, _ in seen["pictures"]], flashes, beeps)

    def ages(self) -> list[float]:
        """Of each picture, seconds."""
        return [age(moment, at) for moment, at in self.pictures]

    def age(self) -> float:
        """The usual age in the best of all windows: what the server and its viewer are capable of."""
        windows: dict[int, list[float]] = {}
        for (_, at), old in zip(self.pictures, self.ages(), strict=True):
            windows.setdefault(int(at / WINDOW), []).append(old)
        whole = [one for one in windows.values() if len(one) > WINDOW * RATE / 2]
        return min(median(one) for one in whole)

    def apart(self) -> list[float]:
        """Of each flash, by how many seconds its beep is later."""
        found = []
        for flash in self.flashes:
            beep = min(self.beeps, key=lambda at, flash=flash: abs(at - flash), default=flash + 1)
            if abs(beep - flash) < NEAR:
                found.append(beep - flash)
        return found

    def __str__(self) -> str:
        ages, apart = sorted(self.ages()), sorted(self.apart())
        return (
            f"{len(ages)} pictures, old {_milliseconds(ages)}, {1000 * self.age():.0f} in the best {WINDOW:.0f} s; "
            f"{len(apart)} beeps, late {_milliseconds(apart)}"
        )


def _milliseconds(values: list[float]) -> str:
    """Of sorted seconds."""
    least, middle, most = (1000 * one for one in (values[0], median(values), values[-1]))
    return f"{least:.0f} to {most:.0f} ms, usually {middle:.0f}"
