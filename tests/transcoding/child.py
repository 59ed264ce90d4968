"""A real child process of the transcoder, fed from a list and read to its end; and decoders for what it made."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import av
import msgspec

from oxidecast.formats import framed
from oxidecast.formats.framed import FramedPacket, FrameReader
from oxidecast.formats.framed_messages import (
    AudioFeed,
    End,
    Figures,
    Job,
    Message,
    Ready,
    Thumbnail,
    Trouble,
    VideoFeed,
)
from oxidecast.media import TICKS, Codec, Track
from oxidecast.transcoding.backends import Software
from oxidecast.transcoding.targets import LEAST_SIDE, Target
from oxidecast.transcoding.worker.decoders import decoder
from tests.transcoding.clips import FLASH, TIME_BASE

COMMAND = [sys.executable, "-m", "oxidecast.transcoding.worker"]
PRESET = {"preset": "ultrafast", "forced-idr": "1", "sc_threshold": "0", "g": "100000"}

Item = Track | FramedPacket | Message


def small(feed: int = 1, width: int = 160, height: int = 90, **more: Any) -> VideoFeed:
    """A feed that costs next to nothing."""
    options = PRESET | {"bf": "2"} | more.pop("options", {})
    return VideoFeed(
        feed=feed,
        width=width,
        height=height,
        **{"framerate": 30.0, "bitrate": 200_000} | more,
        options=options,
    )


def feed_of(codec: Codec, feed: int = 1, width: int = 160, height: int = 90, **more: Any) -> VideoFeed:
    """What the software backend makes of a profile, as fast as it can."""
    rates = {"framerate": 30.0, "bitrate": 200_000} | more
    target = Target(
        width=width,
        height=height,
        **{"maxrate": round(rates["bitrate"] * 1.1), "bufsize": round(rates["bitrate"] * 2)} | rates,
        codec=codec,
    )
    backend = Software(None, preset="ultrafast")
    return VideoFeed(
        feed=feed,
        width=width,
        height=height,
        framerate=target.framerate,
        bitrate=target.bitrate,
        encoder=backend.encoders[codec],
        options=backend.options(target),
        least=LEAST_SIDE[codec],
    )


def job(*feeds: VideoFeed | AudioFeed, **more: Any) -> Job:
    return Job(
        videos=tuple(feed for feed in feeds if isinstance(feed, VideoFeed)),
        audios=tuple(feed for feed in feeds if isinstance(feed, AudioFeed)),
        **{"lossless": True} | more,
    )


def frame(item: Item) -> bytes:
    if isinstance(item, FramedPacket):
        return framed.packet(*msgspec.structs.astuple(item))
    return framed.track(item) if isinstance(item, Track) else framed.message(item)


@dataclass
class Made:
    """Everything that a child said, in order."""

    items: list[Item] = field(default_factory=list)
    code: int = 0
    errors: str = ""

    def of(self, kind: type) -> list[Any]:
        return [item for item in self.items if isinstance(item, kind)]

    def packets(self, feed: int) -> list[FramedPacket]:
        return [packet for packet in self.of(FramedPacket) if packet.track_id == feed]

    def tracks(self, feed: int) -> list[Track]:
        return [track for track in self.of(Track) if track.id == feed]

    def keyframes(self, feed: int) -> list[int]:
        return [packet.pts for packet in self.packets(feed) if packet.keyframe]

    @property
    def figures(self) -> Figures:
        last: Figures = self.of(Figures)[-1]
        return last

    @property
    def troubles(self) -> list[Trouble]:
        return self.of(Trouble)

    @property
    def thumbnails(self) -> list[Thumbnail]:
        return self.of(Thumbnail)

    @property
    def ready(self) -> Ready:
        first: Ready = self.items[0]  # type: ignore[assignment]
        return first

    def decoded(self, feed: int) -> list[Any]:
        """The frames of a feed, decoded from its own configurations; pts in ticks."""
        frames: list[Any] = []
        context: Any = None
        for item in self.items:
            if isinstance(item, Track) and item.id == feed:
                if context is not None:
                    frames += context.decode(None)
                context = decoder(item)
            elif isinstance(item, FramedPacket) and item.track_id == feed:
                packet = av.Packet(item.payload)
                packet.pts, packet.dts, packet.time_base = item.pts, item.dts, TIME_BASE
                frames += context.decode(packet)
        return frames + (context.decode(None) if context is not None else [])


def run(items: Iterable[Item], *, end: bool = True, arguments: tuple[str, ...] = ()) -> Made:
    """Feed a child, and read it to its end."""
    process = subprocess.Popen(
        [*COMMAND, str(os.getpid()), "0", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    stdin, stderr, errors = process.stdin, process.stderr, []

    def write() -> None:
        try:
            for item in items:
                stdin.write(frame(item))
            if end:
                stdin.write(frame(End()))
            stdin.flush()
            stdin.close()
        except OSError:
            pass  # it has died: its exit code says so

    threads = [threading.Thread(target=write), threading.Thread(target=lambda: errors.append(stderr.read()))]
    for thread in threads:
        thread.start()
    made, reader = Made(), FrameReader()
    while data := process.stdout.read1(1 << 18):
        made.items += reader.receive(data)
    for thread in threads:
        thread.join()
    made.code = process.wait()
    made.errors = errors[0].decode("utf-8", "replace")
    process.stdout.close()
    stderr.close()
    return made


def flashes(frames: list[Any]) -> list[float]:
    """Seconds at which pictures become white, from their middle pixel."""
    found, before = [], False
    for picture in frames:
        plane = picture.planes[0]
        white = bytes(plane)[plane.line_size * (picture.height // 2) + picture.width // 2] > 200
        if white and not before:
            found.append(picture.pts / TICKS)
        before = white
    return found


def beeps(frames: list[Any]) -> list[float]:
    """Seconds at which beeps begin: half a beep before the middle of each one's energy, which no codec smears."""
    found: list[tuple[float, float]] = []  # energy, and energy by time
    quiet_since = -1.0
    for sound in frames:
        kind = {"flt": "f", "s16": "h"}[sound.format.name.removesuffix("p")]
        data = memoryview(bytes(sound.planes[0])).cast("B").cast(kind)
        loudest = 1.0 if kind == "f" else 32768.0
        step = 1 if sound.format.is_planar else sound.layout.nb_channels
        for at in range(sound.samples):
            energy = (data[at * step] / loudest) ** 2
            if energy > 1e-3:
                now = sound.pts / TICKS + at / sound.sample_rate
                if now - quiet_since > 0.3:
                    found.append((0.0, 0.0))
                quiet_since = now
                whole, moment = found[-1]
                found[-1] = (whole + energy, moment + energy * now)
    return [moment / whole - FLASH / 2 for whole, moment in found]
