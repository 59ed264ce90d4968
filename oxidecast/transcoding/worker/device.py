"""The pictures of the stream on a device: an FFmpeg process decodes, scales and encodes them all.

In the place of `Pictures`, for encoders that the media library lacks, and where the whole way is on the device.
A job or a track that is another is another process, from a keyframe on: pictures go on without a gap.
"""

import threading
from bisect import bisect_right, insort
from dataclasses import dataclass, field
from typing import Any

import av
import msgspec

from oxidecast.formats.framed import FramedPacket
from oxidecast.formats.framed_messages import Device, FeedEnded, FeedFigures, Job, Resumed, VideoFeed
from oxidecast.media import TICKS, Track
from oxidecast.transcoding.device import command
from oxidecast.transcoding.sizes import fit, shown_size
from oxidecast.transcoding.targets import coded_rate
from oxidecast.transcoding.worker.coded import coded_by
from oxidecast.transcoding.worker.decoders import decoder, shape_of
from oxidecast.transcoding.worker.ffmpeg import Ffmpeg, ticks
from oxidecast.transcoding.worker.frames import Picture
from oxidecast.transcoding.worker.output import Output
from oxidecast.transcoding.worker.thumbnails import Thumbnailer

MOST_HELD = 16
"""Pictures without a `dts` at a beginning: what H.264 may put out of order."""

MOST_INSIDE = 1024
"""Pictures that are in the process, as far as they are counted."""


@dataclass
class _Feed:
    """One of what is made."""

    feed: VideoFeed
    track: Track | None = None
    taken: int = 0
    made: int = 0
    passed: int = 0
    """Pictures that came in no later than the latest that came out."""
    inside: list[int] = field(default_factory=list)
    """Pictures' times that are in the process."""
    last_dts: int | None = None
    held: list[tuple[int, Any]] = field(default_factory=list)
    first: int | None = None
    latest: int = 0

    @property
    def left_out(self) -> int:
        """By the frame rate's ceiling, or because it was damaged."""
        return max(0, self.passed - self.made)


class DevicePictures:
    """See `Pictures`, whose calls it has."""

    def __init__(self, output: Output, device: Device) -> None:
        self.decoded = self.errors = 0
        self._output = output
        self._device = device
        self._track: Track | None = None
        self._ffmpeg: Ffmpeg | None = None
        self._feeds: dict[int, _Feed] = {}
        self._wanted: dict[int, VideoFeed] = {}
        self._running: list[_Feed] = []
        self._anew = True
        self._interval = 2.0
        self._lock = threading.Lock()
        self._cpu = 0.0
        """Of processes that have ended."""
        self._thumbnails = Thumbnailer(output)
        self._thumbnails.start()

    def job(self, job: Job) -> None:
        self._thumbnails.every, self._thumbnails.width = job.thumbnail_every, job.thumbnail_width
        wanted = {feed.feed: feed for feed in job.videos}
        if wanted != self._wanted or job.keyframe_interval != self._interval:
            self._wanted, self._interval, self._anew = wanted, job.keyframe_interval, True
        if not wanted:
            self._change()

    def track(self, track: Track) -> None:
        if track != self._track:
            self._end()
            self._track = track

    def packet(self, packet: FramedPacket) -> None:
        if packet.keyframe:
            if self._anew:
                self._change()
            self._keyframe(packet)
        if self._ffmpeg is None:
            return
        self.decoded += 1
        with self._lock:
            for one in self._running:
                one.taken += 1
                insort(one.inside, packet.pts)
                del one.inside[:-MOST_INSIDE]
        self._ffmpeg.write(packet.dts, packet.pts, packet.keyframe, packet.payload)

    def resumed(self, where: Resumed) -> None:
        """Nobody says it: where a child with a device dies, the next one has none."""

    def keyframe_wanted(self, feed: int) -> None:
        """The source's next one has to do: FFmpeg cannot be asked."""

    def drain(self) -> None:
        self._end()
        self._thumbnails.forget()
        done = threading.Event()
        self._thumbnails.drain(done)
        done.wait()

    def figures(self) -> tuple[FeedFigures, ...]:
        with self._lock:
            return tuple(
                FeedFigures(
                    feed=one.feed.feed,
                    taken=max(0, one.taken - one.left_out),
                    made=one.made,
                    left_out=one.left_out,
                    queue=len(one.inside),
                    media=round((one.latest - one.first) / TICKS, 3) if one.first is not None else 0.0,
                )
                for one in self._feeds.values()
            )

    def cost(self) -> tuple[float, int]:
        """CPU seconds and bytes of the processes of its own."""
        ffmpeg = self._ffmpeg
        cpu, memory = ffmpeg.figures() if ffmpeg is not None else (0.0, 0)
        return self._cpu + cpu, memory

    # -- inside

    def _change(self) -> None:
        """Another process, at a keyframe."""
        self._end()
        for number in self._feeds.keys() - self._wanted.keys():
            del self._feeds[number]
            self._output.message(FeedEnded(feed=number))
        for number, feed in self._wanted.items():
            if number not in self._feeds:
                self._feeds[number] = _Feed(feed)
        track = self._track
        if track is None or not self._feeds:
            return
        self._anew = False
        self._running = list(self._feeds.values())
        shown = shown_size(track)
        feeds = [(one.feed, fit(shown, (one.feed.width, one.feed.height))) for one in self._running]
        arguments = command(self._device, feeds, track.frame_rate, self._interval)
        try:
            most = max(one.feed.framerate for one in self._running)
            self._ffmpeg = Ffmpeg(arguments, track, self._announce, self._made, self._fail, most)
        except OSError as error:
            self._fail(str(error))

    def _end(self) -> None:
        ffmpeg, self._ffmpeg = self._ffmpeg, None
        if ffmpeg is not None:
            self._cpu += ffmpeg.figures()[0]
            ffmpeg.end()
            for one in self._running:
                held, one.held = one.held, []
                for pts, packet in held:
                    self._hand_out(one, pts, pts, packet)
        with self._lock:
            for one in self._running:
                one.passed += len(one.inside)
                one.inside.clear()
        self._running = []
        self._anew = True

    def _announce(self, place: int, sets: bytes) -> None:
        one = self._running[place]
        source = self._track.frame_rate if self._track is not None else None
        track = msgspec.structs.replace(
            coded_by(one.feed.encoder).track(sets),
            id=one.feed.feed,
            frame_rate=coded_rate(source, one.feed.framerate),
        )
        if track != one.track:
            one.track = track
            self._output.track(one.feed.feed, track)

    def _made(self, place: int, packet: Any) -> None:
        """The first pictures wait for the first `dts` that is known, and get theirs backwards from it."""
        one = self._running[place]
        dts, pts = ticks(packet)
        one.held.append((pts, packet))
        if dts is None and len(one.held) <= MOST_HELD:
            return
        held, one.held = one.held, []
        step = round(TICKS / one.feed.framerate)
        last = min(at for at, _ in held) if dts is None else dts
        for back, (at, each) in zip(range(len(held) - 1, -1, -1), held, strict=True):
            self._hand_out(one, last - back * step, at, each)

    def _hand_out(self, one: _Feed, dts: int, pts: int, packet: Any) -> None:
        dts = dts if one.last_dts is None else max(dts, one.last_dts + 1)
        with self._lock:
            one.last_dts = dts
            one.made += 1
            gone = bisect_right(one.inside, pts)
            one.passed += gone
            del one.inside[:gone]
            one.first = pts if one.first is None else one.first
            one.latest = max(one.latest, pts)
        payload = coded_by(one.feed.encoder).payload(bytes(packet))
        self._output.packet(one.feed.feed, dts, pts, packet.is_keyframe, payload)

    def _keyframe(self, packet: FramedPacket) -> None:
        """A picture for lists: one in ten seconds is nothing to the processor."""
        if self._track is None or not self._thumbnails.is_due(packet.pts):
            return
        try:
            context = decoder(self._track)
            coded = av.Packet(packet.payload)
            coded.pts = packet.pts
            for frame in [*context.decode(coded), *context.decode(None)][:1]:
                shape = shape_of(frame, context, frame.rotation)
                self._thumbnails.offer(Picture(frame, packet.pts, True, shape), False)
        except (av.FFmpegError, ValueError):
            self.errors += 1

    def _fail(self, why: str) -> None:
        self._output.fail(f"FFmpeg failed: {why}")
