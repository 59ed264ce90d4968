"""One video feed: a thread that scales and encodes the pictures it is given.

Time stamps: an encoder counts in ticks of 1/90000 s, and every coded picture has the `pts` of its source. `dts` is the
encoder's: with two B-frames it begins two pictures before the first `pts`, and rises strictly, also from one encoder to
the next. Feeds for low latency have no B-frames and there `dts` is `pts`.
"""

import threading
import time
from fractions import Fraction
from typing import Any

import av
import msgspec

from oxidecast.formats.framed_messages import FeedEnded, FeedFigures, Trouble, VideoFeed
from oxidecast.media import TICKS, Track, h264, nal, vp8
from oxidecast.transcoding.sizes import fit, same_shape
from oxidecast.transcoding.worker.decoders import why
from oxidecast.transcoding.worker.frames import FrameQueue, Picture, Shape, most_queued
from oxidecast.transcoding.worker.output import Output
from oxidecast.transcoding.worker.scaling import scaler

TIME_BASE = Fraction(1, TICKS)

_SEI = 6


class VideoEncoder(threading.Thread):
    """Begins with the first picture that is a keyframe. Everything but `offer`, `order` and `figures` is its own."""

    def __init__(self, feed: VideoFeed, output: Output) -> None:
        super().__init__(daemon=True, name=f"feed {feed.feed}")
        self.feed = feed
        self.source_rate: Fraction | None = None
        self._output = output
        self._rate: Fraction | None = None
        self._told: Track | None = None
        self._queue = FrameQueue()
        self._began = False
        self._taken = self._left_out = self._made = 0
        self._busy = self._media = 0.0
        self._shape: Shape | None = None
        self._size = (0, 0)
        self._graph: Any = None
        self._encoder: Any = None
        self._last_pts: int | None = None
        self._last_dts: int | None = None
        self._broken = 0
        """Pictures in a row that could not be scaled."""
        self._owed = False
        """A keyframe was among them."""

    # -- Called by the decoder's thread ------------------------------------------------------------------------------

    def offer(self, picture: Picture, wanted: bool, until: float | None) -> None:
        """A picture; `wanted` is what the frame rate's ceiling says. `until` as in `FrameQueue.put`."""
        if not self._began and not picture.keyframe:
            return
        self._began = True
        if not wanted:
            self._left_out += 1
            return
        self._taken += 1
        self._queue.put(picture, most_queued(picture.shape), until)

    def drain(self, done: threading.Event) -> None:
        """Hand out everything, and begin anew with the next keyframe."""
        self._began = False

        def order() -> None:
            self._close()
            done.set()

        self._queue.order(order)

    def end(self) -> None:
        """As `drain`; then the thread is over, and says so."""

        def order() -> None:
            self._close()
            self._output.message(FeedEnded(feed=self.feed.feed))
            raise SystemExit

        self._queue.order(order)

    def figures(self) -> FeedFigures:
        return FeedFigures(
            feed=self.feed.feed,
            taken=self._taken,
            made=self._made,
            left_out=self._left_out,
            dropped=self._queue.dropped,
            queue=len(self._queue),
            busy=round(self._busy, 3),
            media=round(self._media, 3),
        )

    # -- The thread --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        try:
            while True:
                item = self._queue.take()
                if isinstance(item, Picture):
                    began = time.monotonic()
                    self._picture(item)
                    self._busy += time.monotonic() - began
                else:
                    item()
        except Exception as error:
            self._output.fail(f"{self.feed.encoder} failed: {why(error)}", self.feed.feed)

    def _picture(self, picture: Picture) -> None:
        try:
            if picture.shape != self._shape:
                self._follow(picture.shape)
            self._graph.push(picture.frame)
            frame = self._graph.vpull()
        except (av.FFmpegError, ValueError) as error:
            # A damaged stream shows sizes and formats for a moment that no scaler takes.
            self._shape = None
            self._broken += 1
            self._owed |= picture.keyframe
            if self._broken == 1:
                self._output.message(
                    Trouble(f"a picture cannot be scaled: {why(error)}", feed=self.feed.feed)
                )
            return
        self._broken = 0
        if self._encoder is None:
            self._open(frame)
        frame.pts, frame.time_base = picture.pts, TIME_BASE
        frame.pict_type = 1 if picture.keyframe or self._owed else 0
        self._owed = False
        if self._last_pts is not None:
            self._media += min(max(picture.pts - self._last_pts, 0), TICKS) / TICKS
        self._last_pts = picture.pts
        self._hand_out(self._encoder.encode(frame))

    def _follow(self, shape: Shape) -> None:
        """Set up scaling for these pictures. A size once made stays while the shape of the picture does: then viewers
        need no new decoder, even if it has to be scaled up until the source is large again."""
        shown = shape.display_size
        if self._encoder is None or not same_shape(shown, self._size):
            size = fit(shown, (self.feed.width, self.feed.height))
            if size != self._size:
                self._close()
                self._size = size
        self._graph, self._shape = scaler(shape, self._size, self.feed.pixel_format), shape

    def _open(self, frame: Any) -> None:
        feed = self.feed
        ceiling = Fraction(feed.framerate).limit_denominator(1001)
        rate = min(self.source_rate or ceiling, ceiling)
        encoder: Any = av.CodecContext.create(feed.encoder, "w")
        encoder.width, encoder.height = self._size
        encoder.pix_fmt, encoder.time_base, encoder.framerate = feed.pixel_format, TIME_BASE, rate
        encoder.sample_aspect_ratio = Fraction(1)
        encoder.bit_rate = feed.bitrate
        # The pictures are as they were, but for their size and depth: HDR keeps its name, and players its meaning.
        encoder.colorspace, encoder.color_range = frame.colorspace, frame.color_range
        encoder.color_primaries, encoder.color_trc = frame.color_primaries, frame.color_trc
        encoder.options = dict(feed.options)
        encoder.flags |= av.codec.context.Flags.global_header | av.codec.context.Flags.closed_gop
        encoder.open()
        self._encoder, self._rate = encoder, rate
        if not self.feed.is_vp8:
            self._tell_track(h264.track(h264.configuration_from_annexb(bytes(encoder.extradata))))

    def _hand_out(self, packets: list[Any]) -> None:
        for packet in packets:
            dts = packet.dts if self._last_dts is None else max(packet.dts, self._last_dts + 1)
            self._last_dts = dts
            payload = bytes(packet)
            if not self.feed.is_vp8:
                payload = without_sei(nal.from_annexb(payload))
            elif packet.is_keyframe:
                self._tell_track(vp8.track(payload))
            self._made += 1
            self._output.packet(self.feed.feed, dts, packet.pts, packet.is_keyframe, payload)

    def _tell_track(self, track: Track) -> None:
        track = msgspec.structs.replace(track, frame_rate=self._rate)
        if track != self._told:
            self._told = track
            self._output.track(self.feed.feed, track)

    def _close(self) -> None:
        if self._encoder is not None:
            self._hand_out(self._encoder.encode(None))
        self._encoder = self._graph = self._shape = None
        self._size = (0, 0)


def without_sei(payload: bytes) -> bytes:
    """x264 writes its settings into the first picture; nobody needs to know them."""
    found = nal.spans(payload)
    unwanted = [at for at, (start, end) in enumerate(found) if start == end or payload[start] & 31 == _SEI]
    return nal.without(payload, found, unwanted) if unwanted else payload
