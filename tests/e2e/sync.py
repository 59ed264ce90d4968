"""Flashes and beeps through a whole server, and how far apart they come out.

The one idea: every second the picture is white while the sound beeps. All that leaves a server is decoded, and each
flash compared with its beep, and both with what leaves as the source: on one timeline they must not move.

    with publish(url, log, BFRAMES, seconds) as encoder: ...
    source, small = (Marks.of(watcher) for watcher in watchers)
    print(small.against(source))
"""

import io
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import dropwhile
from pathlib import Path
from statistics import median
from typing import Any

import av

from oxidecast.media import TICKS
from tests.delivery.receiving import Receiver
from tests.e2e.hls import Watcher
from tests.e2e.programs import FFMPEG_5, Program
from tests.transcoding.child import beeps, flashes
from tests.transcoding.clips import FLASH

MOST_APART = 0.040
"""Seconds that a rendition may be off from its source."""

NEAR = 0.15
"""Seconds around a flash in which its beep is looked for."""


@dataclass(frozen=True)
class Case:
    """One kind of source: what is unusual of it."""

    name: str
    pictures: str = "null"
    """A filter of ffmpeg."""
    bframes: int = 0
    sound: tuple[int, str] = (48_000, "stereo")
    gap: tuple[int, int] = (0, 0)
    """Seconds between which no sound is sent."""


PLAIN = Case("plain")
BFRAMES = Case("B-frames", bframes=2)
# Nine pictures of each second, then every fourth, each up to 20 ms late.
VARIABLE = Case(
    "variable frame rate",
    "select='lt(mod(n,30),9)+not(mod(n,4))',setpts='PTS+random(7)*0.02/TB'",
    bframes=2,
)
MONO = Case("44.1 kHz mono", sound=(44_100, "mono"))


def gap(begin: int, end: int) -> Case:
    return Case("a gap", gap=(begin, end))


def publish(url: str, log: Path, case: Case, seconds: int) -> Program:
    """An ffmpeg that publishes in real time: 160x90, 30 pictures and a keyframe each second."""
    rate, layout = case.sound
    flash = f"drawbox=t=fill:c=white:enable='lt(mod(t,1),{FLASH - 0.001})'"
    # A little noise, so that an encoder of sound has something to do all the time.
    tone = f"if(lt(mod(t,1),{FLASH}),0.5*sin(2*PI*1000*t),0)+0.02*(2*random(0)-1)"
    tones = "|".join([tone] * (1 if layout == "mono" else 2))
    inputs = [
        "-re",
        "-f",
        "lavfi",
        "-i",
        f"color=black:size=160x90:rate=30,format=yuv420p,{flash},{case.pictures}",
    ]
    inputs += ["-re", "-f", "lavfi", "-i", f"aevalsrc='{tones}':s={rate}"]
    video = ["-c:v", "libx264", "-preset", "ultrafast", "-bf", str(case.bframes), "-sc_threshold", "0"]
    video += ["-x264-params", "b-adapt=0", "-force_key_frames", "expr:gte(t,n_forced)"]
    video += ["-fps_mode", "vfr", "-enc_time_base:v", "1:1000"]
    audio = ["-c:a", "aac", "-b:a", "96k"]
    if case.gap[1]:
        first, last = (round((at + 0.5) * rate / 1024) for at in case.gap)
        audio += ["-bsf:a", f"noise=drop='between(n,{first},{last})'"]
    return Program(
        ["setpriv", "--pdeathsig=KILL", FFMPEG_5, "-hide_banner", "-loglevel", "warning", "-nostdin"]
        + [*inputs, *video, *audio, "-t", str(seconds), "-f", "flv", url],
        log,
    )


@dataclass
class Apart:
    """Seconds that something is off from its source, of each flash."""

    sync: list[float]
    """How much later the beep is than its flash, less the same in the source."""
    flashes: list[float]
    beeps: list[float]

    @property
    def worst(self) -> float:
        return max(map(abs, (*self.sync, *self.flashes, *self.beeps)))

    def __str__(self) -> str:
        return f"{len(self.sync)} beeps: " + ", ".join(
            f"{what} {1000 * max(map(abs, found)):.2f} ms at most, {1000 * median(map(abs, found)):.2f} median"
            for what, found in (("sync", self.sync), ("flashes", self.flashes), ("beeps", self.beeps))
        )


@dataclass
class Marks:
    """Where flashes and beeps are in something, in seconds of its own timeline: each beep with its flash."""

    pairs: list[tuple[float, float]]
    silent: list[float]
    """Flashes that have no beep."""
    utc: list[float] = field(default_factory=list)
    """Of each segment, PROGRAM-DATE-TIME less the time of its first picture."""

    @classmethod
    def of(cls, watcher: Watcher) -> "Marks":
        """All that a viewer saw: from one initialisation section on, and without a break."""
        assert not watcher.faults, watcher.faults
        assert len(watcher.inits) == 1 and not watcher.discontinuities, watcher.address
        (init,) = watcher.inits.values()
        # A rendition that began later than its stream says what it lacks.
        segments = list(dropwhile(lambda segment: segment.gap, watcher.segments))
        assert not any(segment.gap for segment in segments), watcher.address
        marks = cls.read(init + b"".join(segment.body for segment in segments))
        for segment in segments:
            with av.open(io.BytesIO(init + segment.body)) as container:
                first = min(
                    packet.pts * packet.time_base
                    for packet in container.demux(video=0)
                    if packet.pts is not None
                )
            assert segment.utc is not None
            marks.utc.append(segment.utc.timestamp() - float(first))
        return marks

    @classmethod
    def read(cls, body: bytes) -> "Marks":
        """What is in a file. What is at its very ends may be cut, and is left out."""
        with av.open(io.BytesIO(body)) as container:
            shown = flashes(timed(container.decode(video=0)))  # type: ignore[arg-type]
        with av.open(io.BytesIO(body)) as container:
            near = Near(shown, timed(container.decode(audio=0)))
            heard = beeps(near)  # type: ignore[arg-type]
        pairs, silent = [], []
        for flash in shown:
            if not near.begin + NEAR < flash < near.end - FLASH - 2 * NEAR:
                continue
            beep = min(heard, key=lambda at, flash=flash: abs(at - flash), default=flash + 1)
            if abs(beep - flash) < 2 * NEAR:
                pairs.append((flash, beep))
            else:
                silent.append(flash)
        return cls(pairs, silent)

    @property
    def sync(self) -> list[float]:
        return [beep - flash for flash, beep in self.pairs]

    def against(self, source: "Marks") -> Apart:
        """On the same timeline as the source's: flash by flash."""
        apart = Apart([], [], [])
        for flash, beep in self.pairs:
            from_flash, from_beep = min(source.pairs, key=lambda pair, flash=flash: abs(pair[0] - flash))
            if abs(from_flash - flash) > 0.5:
                continue  # the source's viewer came later, or left sooner
            apart.sync.append((beep - flash) - (from_beep - from_flash))
            apart.flashes.append(flash - from_flash)
            apart.beeps.append(beep - from_beep)
        return apart

    def beside(self, source: "Marks") -> list[float]:
        """On a timeline of its own: each beep's distance from its flash, less what is usual in the source."""
        usual = median(source.sync)
        return [apart - usual for apart in self.sync]

    def clock(self, source: "Marks") -> float:
        """How far PROGRAM-DATE-TIME is off at most, at equal media."""
        usual = median(source.utc)
        return max(abs(one - usual) for one in (*self.utc, *source.utc))


class Near:
    """The frames of sound around flashes: to look at every sample would take minutes."""

    def __init__(self, shown: Sequence[float], frames: Iterable[Any]) -> None:
        self.begin, self.end = float("inf"), 0.0
        self._shown = shown
        self._frames = frames

    def __iter__(self) -> Iterator[Any]:
        at = 0
        for frame in self._frames:
            begin = frame.pts / TICKS
            end = begin + frame.samples / frame.sample_rate
            self.begin, self.end = min(self.begin, begin), end
            while at < len(self._shown) and self._shown[at] + FLASH + NEAR < begin:
                at += 1
            if at < len(self._shown) and self._shown[at] - NEAR < end:
                yield frame


def timed(frames: Iterable[Any]) -> Iterator[Any]:
    """With times in ticks, whatever the container counts in."""
    for frame in frames:
        frame.pts = round(frame.pts * frame.time_base * TICKS)
        yield frame


class Listener(threading.Thread):
    """Keeps what a multicast group sends over loopback, until `stop`."""

    def __init__(self, group: str, port: int) -> None:
        super().__init__(daemon=True)
        self._receiver = Receiver(group, port, "lo")
        self._over = threading.Event()
        self._data: list[bytes] = []
        self.start()

    def run(self) -> None:
        while not self._over.wait(0.05):
            self._data += [one.data for one in self._receiver.read()]

    def stop(self) -> bytes:
        if not self._over.is_set():
            self._over.set()
            self.join(10)
            self._receiver.close()
        return b"".join(self._data)
