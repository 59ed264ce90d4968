"""The sound of the stream: decoded once, encoded once per feed, in one thread.

The one idea: `aresample` of FFmpeg keeps the samples on the source's time stamps. It fills gaps with silence, cuts what
overlaps, and stretches by a hair where clocks drift; so what leaves can be counted in samples and is still in sync. A
gap is filled while it lasts, as pictures go on: silence is then pushed in as if the source had sent it.
"""

import queue
import threading
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
import av.filter

from oxidecast.formats.framed import FramedPacket
from oxidecast.formats.framed_messages import AudioFeed, FeedEnded, Job, Trouble
from oxidecast.media import TICKS, Track, aac, opus
from oxidecast.transcoding.worker.decoders import decoder, why
from oxidecast.transcoding.worker.output import Output

TIME_BASE = Fraction(1, TICKS)

MAX_QUEUED = 1024
"""Packets of sound and times of pictures: some 13 s. Sound costs so little that they wait only when the whole machine
stands still."""

SILENCE_AFTER = TICKS
"""Pictures so far ahead of the sound mean a gap: sources interleave within 1 s (`media/timestamps.py`)."""

LONGEST_GAP = 120 * TICKS
"""A gap beyond that is not filled but jumped over: the count of samples begins anew."""

_SYNC = "async=200:min_hard_comp=0.02:flags=res"
"""Up to 200 samples a second of stretching, 0.4 %, which nobody hears; from 20 ms on silence or a cut. It resamples
from the first frame on: where it begins to later, it jumps by a millisecond."""

_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000)
_MOST_AAC_RATE = 48_000


class _Feed:
    """One coding of the sound."""

    def __init__(self, feed: AudioFeed, output: Output) -> None:
        self.feed = feed
        self.silence = 0
        self._output = output
        self._input: tuple[Any, ...] | None = None
        self._graph: Any = None
        self._encoder: Any = None
        self._source: Track | None = None
        self._track: Track | None = None
        """What was told, with the first packet that is of it: before it, what came after a discontinuity would be taken
        for the sound that was."""
        self._last: int | None = None

    def track(self, track: Track) -> None:
        self._source = track

    def packet(self, packet: FramedPacket) -> None:
        """A coded one, for a feed that copies."""
        if self.feed.codec == "copy" and (self._last is None or packet.dts > self._last):
            self._last = packet.dts
            if self._track != self._source and self._source is not None:
                self._track = self._source
                self._output.track(self.feed.feed, self._track)
            self._output.packet(self.feed.feed, packet.dts, packet.pts, True, packet.payload, packet.samples)

    def frame(self, frame: Any) -> None:
        if self.feed.codec == "copy":
            return
        input = (frame.sample_rate, frame.format.name, frame.layout.name)
        if input != self._input:
            self._set_up(*input)
            self._input = input
        self._graph.push(frame)
        self._pull()

    def forget(self) -> None:
        """What follows is told of as if it were new."""
        self._track = None

    def drain(self) -> None:
        if self._graph is not None:
            self._graph.push(None)
            self._pull()
        if self._encoder is not None:
            self._hand_out(self._encoder.encode(None))
        self._graph = self._encoder = self._input = None

    def _set_up(self, rate: int, format: str, layout: str) -> None:
        self.drain()
        feed = self.feed
        channels = min(feed.channels, av.AudioLayout(layout).nb_channels)
        made = "mono" if channels == 1 else "stereo"
        if feed.codec == "opus":
            name, out_format, out_rate = "libopus", "flt", opus.SAMPLE_RATE
        else:
            name, out_format = "aac", "fltp"
            out_rate = rate if rate in _AAC_RATES and rate <= _MOST_AAC_RATE else _MOST_AAC_RATE
        encoder: Any = av.CodecContext.create(name, "w")
        encoder.sample_rate, encoder.layout, encoder.format = out_rate, made, out_format
        encoder.time_base, encoder.bit_rate = Fraction(1, out_rate), feed.bitrate
        if feed.codec == "opus":
            encoder.options = {"frame_duration": "20", "application": "audio"}
        encoder.flags |= av.codec.context.Flags.global_header
        encoder.open()
        extradata = bytes(encoder.extradata)
        track = opus.track(extradata) if feed.codec == "opus" else aac.track(extradata)
        if track != self._track:
            self._track = track
            self._output.track(feed.feed, track)
        graph = av.filter.Graph()
        graph.threads = 1
        graph.link_nodes(
            graph.add(
                "abuffer",
                f"sample_rate={rate}:sample_fmt={format}:channel_layout={layout}:time_base=1/{TICKS}",
            ),
            graph.add("aresample", f"{out_rate}:{_SYNC}"),
            graph.add("aformat", f"sample_fmts={out_format}:channel_layouts={made}:sample_rates={out_rate}"),
            graph.add("asetnsamples", f"n={encoder.frame_size}:p=0"),
            graph.add("abuffersink"),
        )
        graph.configure()
        self._graph, self._encoder = graph, encoder

    def _pull(self) -> None:
        while True:
            try:
                frame = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            self._hand_out(self._encoder.encode(frame))

    def _hand_out(self, packets: list[Any]) -> None:
        rate = self._encoder.sample_rate
        for packet in packets:
            # Counted in samples. The encoder has put its first packet earlier by what it delays (priming), so that what
            # a decoder gives for a packet belongs to just that time.
            pts = packet.pts * TICKS // rate
            if self._last is not None and pts <= self._last:
                continue
            self._last = pts
            samples = self._encoder.frame_size
            self._output.packet(self.feed.feed, pts, pts, True, bytes(packet), samples)


class Sound(threading.Thread):
    """Everything but the methods below `run` is called by the thread that reads the pipe."""

    def __init__(self, output: Output) -> None:
        super().__init__(daemon=True, name="sound")
        self.errors = self.silence = self.lost = 0
        self._output = output
        self._queue: queue.Queue[Callable[[], None]] = queue.Queue(MAX_QUEUED)
        self._lossless = False
        self._feeds: dict[int, _Feed] = {}
        self._track: Track | None = None
        self._decoder: Any = None
        self._end: int | None = None
        """Ticks: where the sound ends that went into the feeds."""
        self._form: tuple[Any, ...] | None = None

    # -- The reader's side -------------------------------------------------------------------------------------------

    def job(self, job: Job) -> None:
        self._lossless = job.lossless
        self._queue.put(lambda: self._job(job))

    def track(self, track: Track) -> None:
        self._queue.put(lambda: self._set_track(track))

    def packet(self, packet: FramedPacket) -> None:
        try:
            self._queue.put(lambda: self._packet(packet), self._lossless)
        except queue.Full:
            self.lost += 1

    def pictures_at(self, pts: int) -> None:
        """The source's pictures are here: sound that is missing up to a second before is silence."""
        try:
            # In its place behind the sound that came before.
            self._queue.put(lambda: self._fill(pts - SILENCE_AFTER), self._lossless)
        except queue.Full:
            pass  # the next picture says it again

    def drain(self) -> None:
        done = threading.Event()

        def order() -> None:
            self._drain()
            for feed in self._feeds.values():
                feed.forget()
            done.set()

        self._queue.put(order)
        done.wait()

    # -- The thread --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        try:
            while True:
                self._queue.get()()
        except Exception as error:
            self._output.fail(f"the sound failed: {error}")

    def _job(self, job: Job) -> None:
        wanted = {feed.feed: feed for feed in job.audios}
        for number in self._feeds.keys() - wanted.keys():
            self._feeds.pop(number).drain()
            self._output.message(FeedEnded(feed=number))
        for number in wanted.keys() - self._feeds.keys():
            feed = self._feeds[number] = _Feed(wanted[number], self._output)
            if self._track is not None:
                feed.track(self._track)

    def _set_track(self, track: Track) -> None:
        if track == self._track:
            return
        self._track = track
        self._decoder = None
        for feed in self._feeds.values():
            feed.track(track)
        try:
            self._decoder = decoder(track)
        except (av.FFmpegError, ValueError) as error:
            self._output.message(Trouble(f"no decoder takes the source's {track.codec}: {why(error)}"))

    def _packet(self, packet: FramedPacket) -> None:
        for feed in self._feeds.values():
            feed.packet(packet)
        if self._decoder is None or all(feed.feed.codec == "copy" for feed in self._feeds.values()):
            return
        coded = av.Packet(packet.payload)
        coded.pts, coded.dts, coded.time_base = packet.pts, packet.dts, TIME_BASE
        try:
            frames = self._decoder.decode(coded)
        except (av.FFmpegError, ValueError, MemoryError):
            # What is missing becomes silence.
            self.errors += 1
            return
        at = packet.pts
        for frame in frames:
            frame.pts, frame.time_base = at, TIME_BASE
            at += frame.samples * TICKS // frame.sample_rate
            self._frame(frame, at)

    def _frame(self, frame: Any, end: int) -> None:
        if self._end is not None and frame.pts - self._end > LONGEST_GAP:
            self._drain()
        self._form = (frame.format.name, frame.layout.name, frame.sample_rate)
        if self._end is not None and frame.pts > self._end + TICKS // 50:
            self.silence += (frame.pts - self._end) * frame.sample_rate // TICKS
        for feed in self._feeds.values():
            feed.frame(frame)
        self._end = max(self._end or end, end)

    def _fill(self, until: int) -> None:
        """Silence from where the sound ends."""
        if self._end is None or self._form is None or until <= self._end:
            return
        format, layout, rate = self._form
        if until - self._end > LONGEST_GAP:
            self._drain()
            self._end = until
            return
        samples = (until - self._end) * rate // TICKS
        if samples <= 0:
            return
        frame = av.AudioFrame(format, layout, samples)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.sample_rate, frame.pts, frame.time_base = rate, self._end, TIME_BASE
        self.silence += samples
        for feed in self._feeds.values():
            feed.frame(frame)
        self._end += samples * TICKS // rate

    def _drain(self) -> None:
        for feed in self._feeds.values():
            feed.drain()
        self._end = None
        if self._track is not None:
            track, self._track = self._track, None
            self._set_track(track)
