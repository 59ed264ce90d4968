"""One rendition as HLS: its segments, and the playlist that lists them.

The one idea: everything a viewer can ask for is made once, when a segment ends, and kept as an immutable answer. A
request finds bytes in a dictionary; it never makes any.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

from zope.interface import implementer

from oxidecast.delivery.hot import HotAnswer
from oxidecast.formats import m3u8
from oxidecast.interfaces import IRendition, IStream, ISubscriber
from oxidecast.media import TICKS, Packet, Track
from oxidecast.outputs.hls.containers import Container, carried
from oxidecast.outputs.hls.segmenter import Cuts, Run, Segmenter
from oxidecast.outputs.hls.settings import HlsSettings

LEAST = 3
"""Segments that stay listed even when they exceed the memory: a playlist shorter than three target durations starves
its players (RFC 8216, 6.2.2)."""

KEPT = 2
"""Segments are kept for so many playlist lengths: a player may ask for one it read of a moment ago (RFC 8216,
6.2.2)."""

BANDWIDTH_WINDOW = 30
"""Segments over which AVERAGE-BANDWIDTH is measured."""

LEAST_GAP = TICKS // 10
"""What is missing for less is no gap in a playlist."""

QUIET = 3
"""Segments of the source during which nothing at all came of a rendition: then its maker is not late, but gone, and
players that follow it have little left to show. What is only late comes sooner, or in pieces."""

EPOCH = 1_767_225_600
"""2026-01-01 in UTC seconds, from which a stream's first sequence numbers are counted: small enough for 32 bits."""

SOURCE = "source"
"""The rendition that the others' segments follow."""

PLAYLIST_TYPE = b"application/vnd.apple.mpegurl"


class Segment:
    """One segment, ready to be sent."""

    __slots__ = ("entry", "independent", "init", "name", "number", "size")

    def __init__(
        self, name: str, init: str | None, independent: bool, entry: m3u8.Segment, size: int, number: int
    ) -> None:
        self.name = name
        self.init = init
        self.independent = independent
        """Whether it begins with a keyframe."""
        self.entry = entry
        self.size = size
        self.number = number
        """Of discontinuities, its own included."""


@implementer(ISubscriber)
class HLSRendition:
    """A subscriber that makes segments. `on_update` is called after each change of the playlist; `cuts` are shared by
    all renditions of the stream; `after` is the one of this name that was here before."""

    def __init__(
        self,
        stream: IStream,
        rendition: IRendition,
        settings: HlsSettings,
        owner: Any,
        on_update: Callable[[], None],
        cuts: Cuts | None = None,
        after: "HLSRendition | None" = None,
    ) -> None:
        self.name = rendition.name
        self.files: dict[str, HotAnswer] = {}
        """What can be asked for beside the playlist: segments and initialisation sections, by name."""
        self.playlist: HotAnswer | None = None
        self.tracks: tuple[Track, ...] = ()
        """The tracks that are carried."""
        self.peak = 0
        self.average = 0
        """Bits a second, measured."""
        self._stream = stream
        self._rendition = rendition
        self._settings = settings
        self._on_update = on_update
        self._cuts = cuts or Cuts()
        # A cache may still hold what an earlier stream of this name had here.
        self._prefix = f"{int(stream.started_at * 1000):x}"
        # Players that were away while the server restarted read on at the same address: there too the numbers must
        # only rise (RFC 8216, 6.2.1 and 6.2.2). No stream makes more than two segments a second for long.
        age = max(0, int(stream.started_at) - EPOCH)
        self._sequence_base, self._discontinuity_base = 2 * age, age
        self._sequence = 0
        self._number = 0
        """The source's discontinuities, up to the latest segment."""
        self._own_number = 0
        """Those that only this rendition has, because its tracks changed."""
        self._end: int | None = None
        """Where the latest segment ends, in the time of `pts`."""
        self._quiet = 0
        """How many segments the source has ended since something came."""
        self._resumes_at = 0
        """Time before this was told to be missing."""
        self._generation = 0
        self._over = False
        self._latest: tuple[Track, ...] = ()
        """The tracks of the latest segment."""
        self._init: bytes | None = None
        """The latest initialisation section: a publisher that comes back unchanged needs no new one."""
        self._segments: deque[Segment] = deque()
        self._rates: deque[tuple[int, int]] = deque(maxlen=BANDWIDTH_WINDOW)
        self._bytes = 0
        self._target = 0
        self._left_out: frozenset[int] = frozenset()
        """Track numbers that notices were made of."""
        if after is not None:
            self._continue(after)
        self._begin()
        self._subscription = rendition.subscribe(self, owner)

    def _continue(self, before: "HLSRendition") -> None:
        """Numbers and names go on: players may still know those of before."""
        self._sequence = before._sequence
        self._number, self._own_number = before._number, before._own_number
        self._generation, self._init = before._generation, before._init
        self._target, self._latest = before._target, before._latest

    # -- ISubscriber

    def packet(self, packet: Packet) -> None:
        self._quiet = 0
        if packet.track not in self.tracks or packet.pts < self._resumes_at:
            return
        run = self._segmenter.push(packet)
        if run is not None:
            self._add(run)
            self._publish()

    def restarted(self, reason: str) -> None:
        before = self._sequence
        self._flush()
        self._begin()
        if self._sequence > before:
            self._publish()

    def ended(self, reason: str) -> None:
        self._flush()
        self._over = True
        if self._segments:
            self._publish(ended=True)

    def source_moved(self) -> None:
        """The source's playlist has changed, which this rendition is made of."""
        self._quiet += 1
        if self._quiet < QUIET or self._over or not self._segments:
            return
        self._flush()
        until = self._cuts.ended
        if self._end is not None and until - self._end >= LEAST_GAP:
            self._tell_gap(until)
            self._end = self._resumes_at = until
            self._forget_old()
            self._publish()

    def close(self) -> None:
        self._subscription.cancel()

    def stats(self) -> dict[str, Any]:
        return {
            "segments": len(self._segments),
            "media_sequence": self._sequence_base + self._sequence - len(self._listed()),
            "target_duration": self._target,
            "peak_bandwidth": self.peak,
            "average_bandwidth": self.average,
            "bytes": self._bytes,
        }

    @property
    def watchable(self) -> bool:
        """Whether a new viewer can be sent here: to a playlist that goes on, or that has its end. Once the encoder has
        changed to what HLS cannot carry, a playlist has neither, until the encoder changes back."""
        return self.playlist is not None and (bool(self.tracks) or self._over)

    def variant(self, uri: str) -> m3u8.Variant:
        """What the multivariant playlist says of this rendition."""
        # Where the last that came was not carried, what can still be read is older.
        tracks = self.tracks or self._latest
        video = next((track for track in tracks if track.is_video), None)
        return m3u8.Variant(
            uri,
            self.peak,
            codecs=[track.codec_string for track in tracks],
            average_bandwidth=self.average,
            width=video.width if video else 0,
            height=video.height if video else 0,
            frame_rate=video.frame_rate if video else None,
        )

    # -- inside

    def _begin(self) -> None:
        """A new generation: what is carried, its container, and its initialisation section."""
        kind = self._settings.segment_type
        self.tracks = carried(kind, self._rendition.tracks)
        left_out = {track.id: track for track in self._rendition.tracks if track not in self.tracks}
        for id in self._left_out - left_out.keys():
            self._stream.notice(f"hls:{self.name}:{id}", None)
        for id, track in left_out.items():
            self._stream.notice(
                f"hls:{self.name}:{id}", f"HLS ({kind}) cannot carry {track.codec.value}; it is left out"
            )
        self._left_out = frozenset(left_out)
        self._container: Container | None = None
        self._segmenter = Segmenter(
            self._settings.segment_duration,
            any(track.is_video for track in self.tracks),
            self._settings.max_buffer // LEAST,
            self._target,
            self._cuts,
            follows=self.name != SOURCE,
            anew=self._sequence > 0,
        )

    def _add(self, run: Run) -> None:
        if not self._target:
            self._target = self._segmenter.target
        if self.name == SOURCE:
            self._warn_of_long_groups()
        if self._container is None:
            self._container = Container(self._settings.segment_type, self.tracks)
            if self._container.init != self._init:
                self._init = self._container.init
                self._generation += 1
        number = self._cuts.number(run.pts)
        if number is None:
            number = self._number
        if not self._sequence:
            self._number = number
        self._tell_gap(run.pts)
        # Without a new beginning of the source's, another track is one of this rendition alone.
        own = number == self._number and self._latest != self.tracks and self._sequence > 0
        self._own_number += own
        discontinuous = number != self._number or own
        self._number, self._end = number, run.pts + run.duration
        init = None
        if self._container.init is not None:
            init = f"init-{self._prefix}-{self._generation}.mp4"
            if init not in self.files:
                self.files[init] = self._immutable(init, self._container.init, self._container.content_type)
        body = self._container.segment(run.packets, run.end)
        name = self._name(self._container.suffix)
        answer = self._immutable(name, body, self._container.content_type)
        entry = m3u8.Segment(
            uri=name,
            duration=run.duration,
            map=init or "",
            utc=self._stream.utc(run.pts),
            discontinuity=discontinuous,
        )
        self._latest = self.tracks
        self.files[name] = answer
        segment = Segment(name, init, run.independent, entry, len(body), number + self._own_number)
        self._append(segment)
        if run.duration * 2 >= self._target * TICKS or not self._rates:
            # Shorter ones say nothing about the rate: BANDWIDTH is measured over half a target duration and more
            # (RFC 8216, 4.3.4.2).
            self._rates.append((segment.size, run.duration))
        self.peak = max(size * 8 * TICKS // max(duration, 1) for size, duration in self._rates)
        self.average = sum(s for s, _ in self._rates) * 8 * TICKS // max(1, sum(d for _, d in self._rates))
        self._forget_old()

    def _flush(self) -> None:
        while (run := self._segmenter.flush()) is not None:
            self._add(run)

    def _name(self, suffix: str) -> str:
        return f"{self._prefix}-{self._sequence}.{suffix}"

    def _append(self, segment: Segment) -> None:
        self._segments.append(segment)
        self._bytes += segment.size
        self._sequence += 1

    def _tell_gap(self, until: int) -> None:
        """List what the source has and this rendition has not, so that its time goes on and players go elsewhere (bis,
        4.4.4.7)."""
        if self._end is None or not self._segments:
            return
        # A short one is told all the same where the source began anew in it: each beginning has its number.
        begun = (self._cuts.number(until) or 0) - self._number
        if until - self._end < LEAST_GAP and begun < 2:
            return
        last = self._segments[-1]
        for begin, end, number in self._cuts.within(self._end, until):
            name = self._name(last.name.rpartition(".")[2])
            entry = m3u8.Segment(
                uri=name,
                duration=end - begin,
                map=last.entry.map,
                utc=self._stream.utc(begin),
                discontinuity=number != self._number,
                gap=True,
            )
            self._number = number
            self._append(Segment(name, last.init, True, entry, 0, number + self._own_number))

    def _warn_of_long_groups(self) -> None:
        longest = self._segmenter.longest_gop / TICKS
        self._stream.notice(
            f"hls:{self.name}:keyframes",
            f"the encoder sends a keyframe only every {longest:.1f} s: set its keyframe interval to "
            f"{self._settings.segment_duration:g} s, or viewers wait and lag"
            if longest > self._target + 0.5
            else None,
        )

    def _immutable(self, name: str, body: bytes, content_type: bytes) -> HotAnswer:
        scope = b"private" if self._stream.info.is_private else b"public"
        return HotAnswer(
            body,
            content_type,
            etag=name.encode(),
            cache_control=scope + b", max-age=3600, immutable",
            cors=True,
        )

    def _listed(self) -> list[Segment]:
        return list(self._segments)[-self._settings.playlist_length :]

    def _forget_old(self) -> None:
        limit = self._settings.playlist_length * KEPT
        while len(self._segments) > limit or (
            self._bytes > self._settings.max_buffer and len(self._segments) > LEAST
        ):
            old = self._segments.popleft()
            self._bytes -= old.size
            self.files.pop(old.name, None)
            if old.init is not None and not any(kept.init == old.init for kept in self._segments):
                del self.files[old.init]

    def _publish(self, ended: bool = False) -> None:
        listed = self._listed()
        before = listed[0].number - listed[0].entry.discontinuity
        text = m3u8.media_playlist(
            [segment.entry for segment in listed],
            target_duration=self._target,
            media_sequence=self._sequence_base + self._sequence - len(listed),
            discontinuity_sequence=self._discontinuity_base + before,
            independent_segments=all(segment.independent for segment in listed),
            ended=ended,
        )
        self.playlist = HotAnswer(
            text.encode(),
            PLAYLIST_TYPE,
            etag=f"{self._prefix}-{self._sequence}{'e' if ended else ''}".encode(),
            cache_control=b"private, no-cache" if self._stream.info.is_private else b"public, max-age=1",
            cors=True,
        )
        self._on_update()
