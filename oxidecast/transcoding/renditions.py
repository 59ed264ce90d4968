"""What one child makes of a stream, handed to the stream: its feeds become renditions.

The one idea: it belongs to one child alone. What a child still says when it was told to end reaches nobody.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Protocol

import msgspec
from twisted.logger import Logger

from oxidecast.formats.framed import FramedPacket
from oxidecast.formats.framed_messages import FeedFigures, Figures, Thumbnail, Trouble
from oxidecast.media import Track
from oxidecast.streams.stream import Stream
from oxidecast.transcoding.assembly import Assembly

WINDOW = 10
"""Figures, which come every second: rates are of so many."""

COUNTS = ("taken", "made", "left_out", "dropped", "duplicated", "busy", "media")


class Boss(Protocol):
    """Who decides."""

    def trouble(self, trouble: Trouble) -> None: ...

    def began(self, name: str, tracks: Sequence[Track]) -> None:
        """A rendition began, or began anew, with these."""

    def gave_up(self, reason: str) -> None: ...

    def thumbnail(self, thumbnail: Thumbnail) -> None: ...

    def keyframe(self, feed: int) -> bool:
        """Somebody who reads a rendition asks for one of its feed; whether there will be one."""


class Renditions:
    """A `Receiver`. `make` says what there should be."""

    log = Logger()

    def __init__(self, stream: Stream, boss: Boss) -> None:
        self.assemblies: dict[str, Assembly] = {}
        self.figures_now: Figures | None = None
        self._expected: dict[int, str] = {}
        """The source's discontinuities that the child has not come to, by number, and why they are."""
        self._expects = 0
        self._later: dict[int, Mapping[str, tuple[int, int | None]]] = {}
        """By discontinuity, the feeds from there on: what is made until then is of those before."""
        self._stream = stream
        self._boss: Boss | None = boss
        self._before: deque[Figures] = deque(maxlen=WINDOW)
        self._tracks: dict[int, Track] = {}

    def make(self, feeds: Mapping[str, tuple[int, int | None]], listed: frozenset[str]) -> None:
        """Renditions by name, with the numbers of their feeds; `listed` as in `Stream.add_rendition`. Whatever the
        child still has of before a discontinuity is of the feeds that were."""
        for name in self.assemblies.keys() - feeds.keys():
            self.assemblies.pop(name).remove("it is not made any more")
        if self._expected:
            self._later[self._expects] = feeds
        for name, (video, audio) in feeds.items():
            if name not in self.assemblies:
                self.assemblies[name] = Assembly(
                    self._stream,
                    name,
                    video,
                    audio,
                    name in listed,
                    partial(self._began, name),
                    self._keyframe,
                )
            elif not self._expected:
                self.assemblies[name].feeds(video, audio)
            # Feeds are shared: the child has told of this one before, maybe.
            for track in list(self._tracks.values()):
                self.assemblies[name].track(track)

    def expect(self, reason: str) -> None:
        """The source began anew: the supervisor's next discontinuity, say so before."""
        self._expects += 1
        self._expected[self._expects] = reason

    def close(self, reason: str) -> None:
        """All renditions are over."""
        self._boss = None
        for assembly in self.assemblies.values():
            assembly.remove(reason)
        self.assemblies.clear()

    def of_feed(self, number: int) -> FeedFigures | None:
        """The latest figures of a feed of pictures."""
        return _of(self.figures_now, number) if self.figures_now is not None else None

    def lately(self, number: int) -> FeedFigures | None:
        """What was counted of a feed over the last seconds."""
        now = self.of_feed(number)
        before = next((found for one in self._before if (found := _of(one, number))), None)
        if now is None or before is None or before.taken > now.taken:
            return now
        counts = {name: max(0, getattr(now, name) - getattr(before, name)) for name in COUNTS}
        return msgspec.structs.replace(now, **counts)

    def _keyframe(self, feed: int) -> bool:
        return self._boss is not None and self._boss.keyframe(feed)

    def _began(self, name: str, tracks: Sequence[Track]) -> None:
        if self._boss is not None:
            self._boss.began(name, tracks)

    # -- Receiver

    def track(self, track: Track) -> None:
        self._tracks[track.id] = track
        for assembly in self.assemblies.values():
            assembly.track(track)

    def packet(self, packet: FramedPacket) -> None:
        for assembly in tuple(self.assemblies.values()):
            assembly.packet(packet)

    def discontinuity(self, number: int) -> None:
        reason, feeds = "the source began anew", dict[str, tuple[int, int | None]]()
        for one in [one for one in self._expected if one <= number]:
            reason = self._expected.pop(one)
            feeds |= self._later.pop(one, {})
        # Sound that is as it was is told of once more, so that none waits for what is not, or begins with what was.
        self._tracks = {feed: track for feed, track in self._tracks.items() if track.is_video}
        for name, assembly in self.assemblies.items():
            assembly.source_anew(reason, feeds.get(name, (assembly.video, assembly.audio)))

    def feed_ended(self, feed: int) -> None:
        self._tracks.pop(feed, None)

    def thumbnail(self, thumbnail: Thumbnail) -> None:
        if self._boss is not None:
            self._boss.thumbnail(thumbnail)

    def figures(self, figures: Figures) -> None:
        if self.figures_now is not None:
            if figures.read < self.figures_now.read:
                self._before.clear()  # Another child counts from 0.
            else:
                self._before.append(self.figures_now)
        self.figures_now = figures

    def trouble(self, trouble: Trouble) -> None:
        if self._boss is not None:
            self._boss.trouble(trouble)

    def gave_up(self, reason: str) -> None:
        for assembly in self.assemblies.values():
            assembly.remove("the transcoder was given up")
            assembly.anew("the transcoder was given up")
        if self._boss is not None:
            self._boss.gave_up(reason)


def _of(figures: Figures, number: int) -> FeedFigures | None:
    return next((one for one in figures.feeds if one.feed == number), None)
