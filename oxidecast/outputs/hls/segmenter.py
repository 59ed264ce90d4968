"""Where a segment ends.

The one idea: a segment is a run of packets in the order of arrival, cut before a keyframe once it is long enough. With
B-frames a keyframe arrives ahead of its time, and the sound until then still belongs to the segment before: players
change between renditions there, and would miss it. Only when a group of pictures outgrows the target duration is it cut
without a keyframe, because a playlist's TARGETDURATION is a promise (RFC 8216, 4.3.3.1) that the encoder's habits must
not break.

Sans-IO: packets in, lists of packets out. The clock is the packets' own.
"""

import math
from collections import deque

from oxidecast.media import TICKS, Packet

LONGEST = 2
"""A segment grows to at most this many times `segment_duration`: an encoder that sends a keyframe every 8 or 10 seconds
(the default of several) would otherwise cost every viewer as much delay, three times over."""

EARLY = TICKS // 20
"""A keyframe that comes up to 50 ms before `segment_duration` is over still ends the segment: stamps in whole
milliseconds and encoders that jitter would else make every other segment twice as long."""

PAUSE = 1 * TICKS
"""How far sound may be ahead of pictures, beyond the longest segment, before the pictures count as paused: tracks of
live streams are interleaved well within a second."""

ROUNDING = 0.4
"""Seconds by which a segment may exceed TARGETDURATION: the promise is about the duration rounded to whole seconds, and
0.5 would round up."""


HOLE = TICKS // 2
"""Pictures that are missing for longer, up to a keyframe, end a segment of a rendition that follows: its transcoder was
away. Shorter ones are a stutter."""


class Cut:
    """A segment of the source."""

    __slots__ = ("end", "number", "pts")

    def __init__(self, pts: int, number: int) -> None:
        self.pts = pts
        self.end: int | None = None
        """Once it has ended."""
        self.number = number
        """How many discontinuities there were up to it, its own included."""


class Cuts:
    """Where the source's segments begin, by the `pts` of their first pictures: those of other renditions begin there
    too, and last as long, so that players change between them at any segment (RFC 8216, 6.2.4). Discontinuities are the
    source's in all renditions, and have the same numbers (6.2.4 too)."""

    KEPT = 256

    def __init__(self) -> None:
        self.target = 0
        """TARGETDURATION of all renditions, once the source's first segment is out."""
        self._all: deque[Cut] = deque(maxlen=self.KEPT)

    def add(self, pts: int, anew: bool = False) -> Cut:
        """`anew` when it does not continue the one before it, if there is one."""
        number = self._all[-1].number + anew if self._all else 0
        self._all.append(Cut(pts, number))
        return self._all[-1]

    def reach(self, pts: int) -> bool:
        """Whether the source has come so far. What it is coded to comes later, so it has, while it goes on."""
        return bool(self._all) and self._all[-1].pts >= pts

    def between(self, after: int, until: int) -> bool:
        """Whether the source began a segment after the one time, up to the other."""
        for cut in reversed(self._all):
            if cut.pts <= after:
                return False
            if cut.pts <= until:
                return True
        return False

    @property
    def ended(self) -> int:
        """Where the source's latest segment ends, of those that have ended."""
        return max((cut.end for cut in self._all if cut.end is not None), default=0)

    def number(self, pts: int) -> int | None:
        """Of the segment in which this time is; None where it is not known any more."""
        return next((cut.number for cut in reversed(self._all) if cut.pts <= pts), None)

    def last_end(self, pts: int) -> int | None:
        """Where the source's segment ends in which this time is, if that is its last one before a new beginning."""
        following = None
        for cut in reversed(self._all):
            if cut.pts <= pts:
                is_last = following is None or following.number != cut.number
                return cut.end if is_last and cut.end is not None and cut.end > pts else None
            following = cut
        return None

    def within(self, after: int, until: int) -> list[tuple[int, int, int]]:
        """What the source has of this time: where each piece begins and ends, and its number of discontinuities."""
        pieces = []
        for cut in self._all:
            begin, end = max(cut.pts, after), min(until if cut.end is None else cut.end, until)
            if end > begin:
                pieces.append((begin, end, cut.number))
        return pieces


class Run:
    """The packets of one segment, in ticks of the track that leads (video when there is one): it is decoded from
    `start` to `end`, and shown from `pts` on for `duration`."""

    __slots__ = ("cut", "duration", "end", "independent", "packets", "pts", "size", "start")

    def __init__(self, start: int, pts: int, independent: bool) -> None:
        self.start = self.end = start
        self.pts = pts
        self.duration = 0
        self.independent = independent
        """Whether it begins with a keyframe."""
        self.cut: Cut | None = None
        """That it is, when it is the source's."""
        self.packets: list[Packet] = []
        self.size = 0


class Segmenter:
    """Feed it packets; it answers the run that a packet ended.

    `target` is TARGETDURATION in whole seconds: known, and fixed for good, once the first run is out. A run is also cut
    when it has grown to `max_bytes`: a publisher whose clock stands still would fill the memory with one segment.
    """

    def __init__(
        self,
        segment_duration: float,
        has_video: bool,
        max_bytes: int,
        target: int = 0,
        cuts: Cuts | None = None,
        follows: bool = False,
        anew: bool = False,
    ) -> None:
        """`cuts` are the source's: told to it by the source's own, followed by those that `follow`. `anew` when the
        first run does not continue what came before."""
        self._cuts = cuts or Cuts()
        self._follows = follows
        self._anew = anew
        self.target = target
        """0 until the first run is out."""
        self.longest_gop = 0
        """Ticks between keyframes, the most seen."""
        self._has_video = has_video
        self._wanted = round(segment_duration * TICKS)
        self._early = EARLY if has_video else 0
        self._bound = math.ceil(max(segment_duration * LONGEST, 1))
        self._max_bytes = max_bytes
        self._run: Run | None = None
        self._held: Run | None = None
        """A run whose pictures are complete, and whose sound is not: that of the next one is shown later."""
        self._keyframe_at: int | None = None

    def push(self, packet: Packet) -> Run | None:
        """Take a packet; the answer is the run that it completes."""
        over = None
        if self._held is not None and self._run is not None:
            if packet.dts >= self._run.pts:
                over, self._held = self._held, None
            elif packet.track.is_video != self._has_video:
                self._append(self._held, packet)
                return None
        done, run = self._take(packet), self._run
        if done is None:
            return over
        if over is None and self._held is None:
            if run is None or run.pts <= run.start or run.start > done.end:
                return done
            self._held = done
            return None
        over, self._held = over or self._held, done
        return over

    def _take(self, packet: Packet) -> Run | None:
        run, done = self._run, None
        if packet.track.is_video == self._has_video:
            done = self._lead(packet)
        elif run is not None and packet.dts - run.start > self._limit + PAUSE:
            done = self._without_pictures(run, packet)
        if self._run is None:
            # Sound before the first picture has nothing to belong to.
            return done
        self._append(self._run, packet)
        return done

    @staticmethod
    def _append(run: Run, packet: Packet) -> None:
        run.packets.append(packet)
        run.size += len(packet.payload)

    def _without_pictures(self, run: Run, packet: Packet) -> Run:
        """The pictures pause: the sound goes on in segments of its own, from where the longest segment ends."""
        end = run.start + self._limit
        late = [one for one in run.packets[1:] if not one.track.is_video and one.dts + one.duration > end]
        begin = late[0].dts if late else packet.dts
        following = Run(begin, begin, False)
        following.packets = late
        following.size = sum(len(one.payload) for one in late)
        kept = {id(one) for one in late}
        run.packets = [one for one in run.packets if id(one) not in kept]
        self._run = following
        return self._end(run, begin, begin)

    def flush(self) -> Run | None:
        """What is left, one after the other, then None: the last is ended by what is known of its last packet."""
        if self._held is not None:
            held, self._held = self._held, None
            return held
        run, self._run = self._run, None
        if run is None:
            return None
        end, shown = self._known_ends(run)
        last = self._cuts.last_end(run.pts) if self._follows else None
        if last is not None and abs(last - shown) <= HOLE:
            # Pictures that are missing just there are a stutter as well.
            shown = last
        return self._end(run, end, shown)

    @property
    def _limit(self) -> int:
        """Ticks that a run may last."""
        return round(((self.target or self._cuts.target or self._bound) + ROUNDING) * TICKS)

    @staticmethod
    def _known_ends(run: Run) -> tuple[int, int]:
        """Where a run ends that nothing follows, in decoding and as shown: with the last packets of the track that
        leads in it."""
        leader = min((packet.track for packet in run.packets), key=lambda track: track.id)
        leading = [packet for packet in run.packets if packet.track.id == leader.id]
        shown = max(packet.pts + packet.duration for packet in leading)
        return leading[-1].dts + leading[-1].duration, shown

    def _lead(self, packet: Packet) -> Run | None:
        run = self._run
        if packet.keyframe and self._has_video:
            if self._keyframe_at is not None:
                self.longest_gop = max(self.longest_gop, packet.dts - self._keyframe_at)
            self._keyframe_at = packet.dts
        if run is None:
            if packet.keyframe:
                self._begin(packet, packet.pts)
            return None
        age = packet.dts - run.start
        limit = self._limit
        hole = self._follows and packet.keyframe and packet.pts - self._known_ends(run)[1] > HOLE
        if age > limit or hole:
            # The time between belongs to no segment.
            self._anew = True
            self._begin(packet, packet.pts)
            return self._end(run, *self._known_ends(run))
        full = run.size + len(packet.payload) > self._max_bytes
        if age > 0 and (
            full or (packet.keyframe and self._is_due(run, packet, age)) or age + packet.duration > limit
        ):
            # Pictures that come after one that is no keyframe may be shown before it.
            pts = packet.pts if packet.keyframe else run.pts + age
            self._begin(packet, pts)
            return self._end(run, packet.dts, pts)
        return None

    def _begin(self, packet: Packet, pts: int) -> None:
        self._run = Run(packet.dts, pts, packet.keyframe)
        if not self._follows:
            self._run.cut = self._cuts.add(pts, self._anew)
        self._anew = False

    def _is_due(self, run: Run, packet: Packet, age: int) -> bool:
        """Whether a segment ends before this keyframe."""
        if self._follows and self._cuts.reach(run.pts):
            return self._cuts.between(run.pts, packet.pts)
        return age >= self._wanted - self._early

    def _end(self, run: Run, end: int, shown: int) -> Run:
        """`end` is where decoding goes on, `shown` until when it is shown."""
        # A last packet may claim any duration; TARGETDURATION holds all the same.
        run.end = run.start + min(max(end - run.start, 1), self._limit)
        run.duration = min(max(shown - run.pts, 1), self._limit)
        if run.cut is not None:
            run.cut.end = run.pts + run.duration
        if not self.target:
            longest = max(run.duration, self._wanted) / TICKS
            self.target = self._cuts.target or min(self._bound, max(1, math.ceil(longest - ROUNDING)))
            self._cuts.target = self.target
        return run
