"""Where a segment ends.

The one idea: a segment is a run of packets in the order of arrival, cut before a keyframe once it is long enough. Only
when a group of pictures outgrows the target duration is it cut without one, because a playlist's TARGETDURATION is a
promise (RFC 8216, 4.3.3.1) that the encoder's habits must not break.

Sans-IO: packets in, lists of packets out. The clock is the packets' own.
"""

import math

from oxidecast.media import TICKS, Packet

LONGEST = 2
"""A segment grows to at most this many times `segment_duration`: an encoder that sends a keyframe every 8 or 10 seconds
(the default of several) would otherwise cost every viewer as much delay, three times over."""

EARLY = TICKS // 20
"""A keyframe that comes up to 50 ms before `segment_duration` is over still ends the segment: stamps in whole
milliseconds and encoders that jitter would else make every other segment twice as long."""

ROUNDING = 0.4
"""Seconds by which a segment may exceed TARGETDURATION: the promise is about the duration rounded to whole seconds, and
0.5 would round up."""


class Run:
    """The packets of one segment: `start` and `duration` in ticks, of the track that leads (video when there is
    one)."""

    __slots__ = ("after_gap", "duration", "independent", "packets", "start")

    def __init__(self, start: int, independent: bool) -> None:
        self.start = start
        self.duration = 0
        self.independent = independent
        """Whether it begins with a keyframe."""
        self.after_gap = False
        """Whether the publisher was silent for so long before it that the time between belongs to no segment."""
        self.packets: list[Packet] = []


class Segmenter:
    """Feed it packets; it answers the run that a packet ended.

    `target` is TARGETDURATION in whole seconds: known, and fixed for good, once the first run is out.
    """

    def __init__(self, segment_duration: float, has_video: bool, target: int = 0) -> None:
        self.target = target
        """0 until the first run is out."""
        self.longest_gop = 0
        """Ticks between keyframes, the most seen."""
        self._has_video = has_video
        self._wanted = round(segment_duration * TICKS)
        self._bound = math.ceil(max(segment_duration * LONGEST, 1))
        self._run: Run | None = None
        self._last: Packet | None = None
        self._keyframe_at: int | None = None

    def push(self, packet: Packet) -> Run | None:
        """Take a packet; the answer is the run before it, when this packet begins a new one."""
        done = None
        if packet.track.is_video == self._has_video:
            done = self._lead(packet)
        if self._run is None:
            # Sound before the first picture has nothing to belong to.
            return done
        self._run.packets.append(packet)
        return done

    def flush(self) -> Run | None:
        """The run that is open, ended by what is known of its last packet."""
        run, self._run = self._run, None
        if run is None or self._last is None:
            return None
        return self._end(run, self._last.dts + self._last.duration)

    def _lead(self, packet: Packet) -> Run | None:
        run, last, self._last = self._run, self._last, packet
        if packet.keyframe and self._has_video:
            if self._keyframe_at is not None:
                self.longest_gop = max(self.longest_gop, packet.dts - self._keyframe_at)
            self._keyframe_at = packet.dts
        if run is None or last is None:
            if packet.keyframe:
                self._run = Run(packet.dts, True)
            return None
        age = packet.dts - run.start
        limit = ((self.target or self._bound) + ROUNDING) * TICKS
        if age > limit:
            self._run = Run(packet.dts, packet.keyframe)
            self._run.after_gap = True
            return self._end(run, last.dts + last.duration)
        if (packet.keyframe and age >= self._wanted - EARLY) or age + packet.duration > limit:
            self._run = Run(packet.dts, packet.keyframe)
            return self._end(run, packet.dts)
        return None

    def _end(self, run: Run, end: int) -> Run:
        run.duration = end - run.start
        if not self.target:
            longest = max(run.duration, self._wanted) / TICKS
            self.target = min(self._bound, max(1, math.ceil(longest - ROUNDING)))
        return run
