"""The child's main thread: reads the pipe, decodes pictures, and hands everything else on.

    stdin -> Program -> Pictures (decodes here) -> a VideoEncoder a feed  \\
                     -> Sound (a thread)                                   -> Output -> stdout
                     -> Thumbnailer (a thread)                            /

It does not queue coded packets: when decoding does not keep up, the pipe is full, and the server drops whole groups of
pictures. When an encoder does not keep up, its own queue drops pictures.
"""

import os
import resource
import sys
import threading
from pathlib import Path

from oxidecast.formats.framed import FramedPacket, FrameReader
from oxidecast.formats.framed_messages import (
    Discontinuity,
    End,
    Figures,
    Job,
    KeyframeWanted,
    Message,
    Resumed,
)
from oxidecast.media import RemoteProtocolError, Track
from oxidecast.transcoding.worker.beside import DeviceAndVP8
from oxidecast.transcoding.worker.output import Output
from oxidecast.transcoding.worker.pictures import Pictures
from oxidecast.transcoding.worker.sound import Sound

READ = 256 * 1024
"""Bytes at a time: more than a pipe holds."""

FIGURES_EVERY = 1.0


class Program:
    """One stream, from its first packet to `End`."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._read = 0
        self._pictures: Pictures | DeviceAndVP8 = Pictures(output)
        self._sound = Sound(output)
        self._video: int | None = None
        self._audio: int | None = None
        self._over = threading.Event()

    def run(self, descriptor: int) -> None:
        """Until `End`, or until the server closes the pipe."""
        self._sound.start()
        figures = threading.Thread(target=self._tell, daemon=True, name="figures")
        figures.start()
        reader = FrameReader()
        while data := os.read(descriptor, READ):
            try:
                for item in reader.receive(data):
                    self._read += 1
                    if isinstance(item, End):
                        self._end()
                        return
                    self._take(item)
            except RemoteProtocolError as error:
                self._output.fail(f"the server sent what is no frame: {error}")

    def _take(self, item: Track | FramedPacket | Message) -> None:
        if isinstance(item, FramedPacket):
            if item.track_id == self._video:
                self._pictures.packet(item)
                self._sound.pictures_at(item.dts)
            elif item.track_id == self._audio:
                self._sound.packet(item)
        elif isinstance(item, Track):
            if item.is_video:
                self._video = item.id
                self._pictures.track(item)
            else:
                self._audio = item.id
                self._sound.track(item)
        elif isinstance(item, Job):
            if item.device is not None and isinstance(self._pictures, Pictures):
                self._pictures = DeviceAndVP8(self._output, item.device)
            self._pictures.job(item)
            self._sound.job(item)
        elif isinstance(item, Discontinuity):
            self._drain()
            self._output.message(item)
        elif isinstance(item, Resumed):
            self._pictures.resumed(item)
        elif isinstance(item, KeyframeWanted):
            self._pictures.keyframe_wanted(item.feed)

    def _drain(self) -> None:
        self._pictures.drain()
        self._sound.drain()

    def _end(self) -> None:
        self._drain()
        self._over.set()
        self._output.message(self.figures())
        self._output.message(End())

    def figures(self) -> Figures:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        cpu, memory = self._pictures.cost()
        return Figures(
            read=self._read,
            decoded=self._pictures.decoded,
            errors=self._pictures.errors + self._sound.errors,
            silence=self._sound.silence,
            lost=self._sound.lost,
            cpu=round(usage.ru_utime + usage.ru_stime + cpu, 3),
            rss=resident() + memory,
            feeds=self._pictures.figures(),
        )

    def _tell(self) -> None:
        while not self._over.wait(FIGURES_EVERY):
            self._output.message(self.figures())


def resident(process: str = "self") -> int:
    """Bytes of memory that a process holds now; its most ever where there is no /proc."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
    return pages * resource.getpagesize()
