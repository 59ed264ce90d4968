"""The pictures of the stream: decoded once, and handed to all feeds.

Runs in the thread that reads the pipe. Which pictures are keyframes is decided here, for all feeds alike.
"""

import threading
import time
from typing import Any

import av

from oxidecast.formats.framed import FramedPacket
from oxidecast.formats.framed_messages import FeedFigures, Job, Resumed, Trouble
from oxidecast.media import Track
from oxidecast.transcoding.worker.choosing import KeyframeChoice, RateCeiling
from oxidecast.transcoding.worker.decoders import decoder, shape_of, why
from oxidecast.transcoding.worker.encoding import TIME_BASE, VideoEncoder
from oxidecast.transcoding.worker.frames import Ahead, Picture, Shape
from oxidecast.transcoding.worker.output import Output
from oxidecast.transcoding.worker.thumbnails import Thumbnailer

_HDR = {16: "PQ", 18: "HLG"}
"""Transfer characteristics of ITU-T H.273."""


class Pictures:
    """Decoder and fan-out."""

    def __init__(self, output: Output) -> None:
        self.decoded = self.errors = 0
        self._output = output
        self._track: Track | None = None
        self._decoder: Any = None
        self._keyframes = KeyframeChoice(2.0)
        self._feeds: dict[int, tuple[VideoEncoder, RateCeiling]] = {}
        self._ending: list[VideoEncoder] = []
        """Those that may still hand out something."""
        self._wanted_keyframes: set[int] = set()
        self._made: dict[int, int] = {}
        """By feed, up to where another child made it: what comes before is only decoded."""
        self._again_until = -1
        """Up to here all was sent before, and waits for encoders."""
        self._thumbnails = Thumbnailer(output)
        self._thumbnails.start()
        self._last_pts: int | None = None
        self._ahead = Ahead()
        self._said_hdr = False
        self._rotation = 0
        self._shape: Shape | None = None
        self._lossless = False

    def job(self, job: Job) -> None:
        """Begin feeds that are new, end those that are gone."""
        self._keyframes.interval = round(job.keyframe_interval / TIME_BASE)
        self._lossless = job.lossless
        self._thumbnails.every, self._thumbnails.width = job.thumbnail_every, job.thumbnail_width
        wanted = {feed.feed: feed for feed in job.videos}
        for number in self._feeds.keys() - wanted.keys():
            encoder = self._feeds.pop(number)[0]
            encoder.end()
            self._ending = [one for one in self._ending if one.is_alive()] + [encoder]
        for number, (encoder, _) in self._feeds.items():
            encoder.feed = wanted[number]  # Its rates are for the next beginning.
        for number in wanted.keys() - self._feeds.keys():
            encoder = VideoEncoder(wanted[number], self._output)
            encoder.source_rate = self._track.frame_rate if self._track else None
            self._feeds[number] = (encoder, RateCeiling(wanted[number].framerate))
            encoder.start()
            self._keyframes.force()

    def track(self, track: Track) -> None:
        """The source's configuration: the decoder is a new one when it is another."""
        if track == self._track:
            return
        self._flush()
        self._track = track
        for encoder, _ in self._feeds.values():
            encoder.source_rate = track.frame_rate
        try:
            self._decoder = decoder(track)
        except (av.FFmpegError, ValueError) as error:
            self._decoder = None
            self._output.message(Trouble(f"no decoder takes the source's {track.codec}: {why(error)}"))

    def packet(self, packet: FramedPacket) -> None:
        if self._decoder is None:
            return
        if packet.keyframe:
            self._keyframes.source_keyframe(packet.pts)
        coded = av.Packet(packet.payload)
        coded.pts, coded.dts, coded.time_base = packet.pts, packet.dts, TIME_BASE
        coded.is_keyframe = packet.keyframe
        self._decode(coded)

    def resumed(self, where: Resumed) -> None:
        """What another child has begun."""
        self._made, self._again_until = dict(where.made), where.until

    def keyframe_wanted(self, feed: int) -> None:
        self._wanted_keyframes.add(feed)

    def drain(self) -> None:
        """Wait until every feed has handed out what it has; what follows begins anew."""
        self._flush()
        if self._track is not None:
            track, self._track = self._track, None
            self.track(track)
        self._keyframes.forget()
        self._thumbnails.forget()
        self._last_pts = None
        self._ahead.forget()
        self._made.clear()
        self._again_until = -1
        waiting = []
        drains = [encoder.drain for encoder, _ in self._feeds.values()]
        for drain in (*drains, self._thumbnails.drain):
            done = threading.Event()
            drain(done)
            waiting.append(done)
        for done in waiting:
            done.wait()
        for encoder in self._ending:
            encoder.join()
        self._ending.clear()

    def figures(self) -> tuple[FeedFigures, ...]:
        return tuple(encoder.figures() for encoder, _ in list(self._feeds.values()))

    def cost(self) -> tuple[float, int]:
        """CPU seconds and bytes of memory of further processes: it has none."""
        return 0.0, 0

    def _flush(self) -> None:
        if self._decoder is not None:
            self._decode(None)
        self._decoder = None

    def _decode(self, coded: Any) -> None:
        try:
            frames = self._decoder.decode(coded)
        except (av.FFmpegError, ValueError, MemoryError):
            self.errors += 1
            return
        for frame in frames:
            self._hand_on(frame)

    def _hand_on(self, frame: Any) -> None:
        pts = frame.pts
        if pts is None or (self._last_pts is not None and pts <= self._last_pts):
            # A damaged stream: a picture without a time, or out of order, cannot be shown.
            self.errors += 1
            return
        self._last_pts = pts
        ahead = self._ahead.picture(pts)
        until = None if self._lossless or pts <= self._again_until else time.monotonic() + ahead
        self.decoded += 1
        frame.time_base = TIME_BASE
        # H.264 says it with a keyframe, for all until the next one (D.2.27); the decoder tells of that picture only.
        if frame.rotation or frame.key_frame:
            self._rotation = frame.rotation
        shape = shape_of(frame, self._decoder, self._rotation)
        if shape.color_trc in _HDR and not self._said_hdr:
            self._said_hdr = True
            name = _HDR[shape.color_trc]
            self._output.message(Trouble(f"the source is HDR ({name}): feeds keep its colours, in 8 bits"))
        if shape != self._shape:
            # Feeds that need another encoder for it begin with a keyframe, so all have one.
            self._shape = shape
            self._keyframes.force()
        keyframe = self._keyframes.is_keyframe(pts)
        for number, (encoder, ceiling) in self._feeds.items():
            if number in self._made:
                if pts <= self._made[number]:
                    continue
                del self._made[number]
                self._wanted_keyframes.add(number)
            own = number in self._wanted_keyframes
            kept = ceiling.keeps(pts, keyframe or own)
            encoder.offer(Picture(frame, pts, keyframe or own, shape), kept, until)
        self._wanted_keyframes.clear()
        self._thumbnails.offer(Picture(frame, pts, keyframe, shape), self._lossless)
