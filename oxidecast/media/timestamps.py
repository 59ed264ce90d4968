"""From an ingest's raw stamps to the house's ticks: one timeline that never wraps, jumps or turns back.

Three small machines, used in this order by every ingest:

    raw field -> Unwrapper -> unbounded ticks -> Rebaser -> video is done, audio -> SampleClock -> done

* `Unwrapper` undoes the field's width. What it cannot know (a publisher that restarts its clock) comes out
  as a jump.
* `Rebaser` absorbs jumps, so that outputs never see one, and keeps the tracks in sync while it does.
* `SampleClock` comes last, for audio only: behind the Rebaser it sees no jump, and its exact times are not
  rounded again. It replaces stamps in whole milliseconds by times counted in samples.

All times are integers; nothing here reads a clock.
"""

from oxidecast.media.packet import TICKS

REORDER = TICKS // 10
"""Up to 0.1 s backwards is jitter, not a jump: encoders that stamp by arrival, or whose muxer interleaves
carelessly, go back by a frame or two. Rebasing these would move the track away from the others a little
each time."""

GAP = 5 * TICKS
"""Up to 5 s forwards is a gap that viewers see as one: a stalled source, a lost uplink. Longer ones are
clocks that were set."""

SYNC = TICKS
"""How near a track must land to where it is expected when it takes over another track's new base.
Interleaving keeps the tracks of live streams well within 1 s of each other."""

MAX_COMPOSITION = GAP
"""The longest pts - dts carried: 16 reordered frames (the most that H.264 and HEVC know) at 3 frames a
second."""

JITTER = TICKS * 2 // 1000
"""2 ms: an RTMP stamp is cut to a whole millisecond, and encoders such as OBS round up or down from frame
to frame. An error that stays below this says nothing, and the clock stays exact."""

PATIENCE = REORDER
"""How far the stamps may lag behind the samples before the clock gives in. Sources that stamp bursts of
frames with one time look so, and are right at every burst's head. ITU-R BT.1359 puts the lag of sound that
viewers notice at 0.125 s."""

STEP = 4
"""Ticks a frame by which the clock follows drift: 0.04 ms in 21 ms, a speed change of 0.2 %, some ten times
what sound cards are off by, a fifth of what one can hear."""

WINDOW = 64
"""Frames over which the error is judged before a step: about 1.4 s, so that every jitter pattern shows its
best."""


class Unwrapper:
    """Makes an unbounded integer of a counter of `bits` bits that wraps.

    Each value is taken to be the nearest one to the value before, in either direction, so values that are
    out of order around a wrap come out in order too. The first value is taken as it is; results may be
    negative when the second lies before it.
    """

    __slots__ = ("_half", "_last", "_mask")

    def __init__(self, bits: int) -> None:
        self._mask = (1 << bits) - 1
        self._half = 1 << (bits - 1)
        self._last: int | None = None

    def __call__(self, value: int) -> int:
        if self._last is None:
            self._last = value & self._mask
        else:
            self._last += ((value - self._last + self._half) & self._mask) - self._half
        return self._last


class SampleClock:
    """Audio time counted in samples, held to the stamps.

    Counting is exact: the n-th frame lies floor(n * samples * 90000 / rate) after the first, so durations
    add up and 44.1 kHz does not drift. The error of the count against each stamp decides what happens:

    * The stamp is ahead of the count by more than JITTER and half a frame: samples were lost. The clock goes
      to the stamp. (With a smaller bound jitter would look like loss; with a larger one a lost frame would
      not.)
    * The stamp is behind by more than PATIENCE: the source has more samples than time. The clock goes to the
      stamp as far as it can without turning back.
    * Otherwise the count stands. If even the most punctual stamp of a WINDOW is off by more than JITTER, the
      source's sample clock and its stamps run at different speeds, and the count is moved by STEP a frame.

    `after` is the last time already used on this timeline; everything issued is later.
    """

    __slots__ = ("_base", "_drift", "_frame", "_last", "_owed", "_peak", "_rate", "_samples", "_seen")

    def __init__(self, sample_rate: int, samples_per_frame: int, after: int | None = None) -> None:
        self._rate = sample_rate
        self._frame = samples_per_frame
        self._drift = JITTER + samples_per_frame * TICKS // sample_rate // 2
        self._last = after
        self._base: int | None = None
        self._samples = 0  # since _base
        self._owed = 0  # ticks that the count is still to be moved by
        self._peak = -PATIENCE  # error of the most punctual stamp of this window
        self._seen = 0  # frames of this window

    def stamp(self, raw: int, samples: int = 0) -> tuple[int, int]:
        """The (dts, duration) in ticks of the frame that the source stamped with `raw` ticks.

        `samples` is for codecs whose packets vary (Opus); 0 means the usual number.
        """
        base = self._base
        error = 0 if base is None else raw - base - self._samples * TICKS // self._rate
        if base is None or not -PATIENCE <= error <= self._drift:
            base = raw if self._last is None else max(raw, self._last + 1)
            self._samples = self._owed = self._seen = 0
            self._peak = -PATIENCE
        else:
            base += self._correction(error)
        dts = base + self._samples * TICKS // self._rate
        if self._last is not None and dts <= self._last:  # frames shorter than STEP
            base += self._last + 1 - dts
            dts = self._last + 1
        self._samples += samples or self._frame
        self._base = base
        self._last = dts
        return dts, max(1, base + self._samples * TICKS // self._rate - dts)

    def _correction(self, error: int) -> int:
        """Take note of an error; how far to move the count now."""
        self._peak = max(self._peak, error)
        self._seen += 1
        if self._seen == WINDOW:
            beyond = max(abs(self._peak) - JITTER, 0)
            self._owed = min(beyond, WINDOW * STEP) * (1 if self._peak > 0 else -1)
            self._seen = 0
            self._peak = -PATIENCE
        if not self._owed:
            return 0
        step = max(-STEP, min(STEP, self._owed))
        self._owed -= step
        self._peak -= step  # the errors already seen shrink with it
        return step


class _Line:
    """Where one track is on the output timeline."""

    __slots__ = ("due", "last", "offset", "shown")

    def __init__(self) -> None:
        self.offset: int | None = None
        """Output minus raw; None until its first packet of this session."""
        self.last = -1
        """The last dts issued. Times are never negative: MPEG-TS and fMP4 have no room for them."""
        self.due = 0
        """Where the next packet is expected."""
        self.shown = 0
        """Until when what was issued is shown: with B-frames later than `due`."""


class Rebaser:
    """Keeps the output timeline of a stream continuous, whatever the publisher's clocks do.

    Each track has an offset from raw to output time; in the normal case all are equal, which is what keeps
    sound and picture in sync. A packet that would land later than it is due (by more than REORDER) or not
    after its predecessor is looked at closer, in this order:

    1. Another track already moved to a base on which this packet lands nearer to where it is due, within
       SYNC: this track follows it. So both halves of a jump get one offset, whichever comes first and
       whichever of the bounds below each half happens to cross. Packets that the second track still sends on
       the old base are on time with its own offset, and never get this far.
    2. It is at most REORDER early: jitter; it becomes the predecessor's time plus one tick. At most GAP late:
       a gap; it is carried through.
    3. It is later than GAP, but another track on the same base is there already: this track paused (a camera
       that was off), and rebasing it would put it out of sync by the length of the pause.
    4. Else the clock was set. The track gets a new offset, on which it goes on where it was due, or where the
       latest track within SYNC is due: those that follow by rule 1 then have room, and are not squeezed.
    """

    __slots__ = ("_at", "_lines")

    def __init__(self, at: int = TICKS) -> None:
        """`at` is where the first packet lands: 1 s leaves room for a track that begins a little earlier."""
        self._at = at
        self._lines: dict[int, _Line] = {}

    @property
    def end(self) -> int:
        """The tick after everything issued so far was shown: the earliest time at which a new session can begin."""
        return max((max(line.due, line.shown) for line in self._lines.values()), default=0)

    def start(self, at: int) -> None:
        """A new publisher session begins: its first packet lands at `at`, or at `end` where that is later.

        The other tracks' first packets keep their distance to it.
        """
        self._at = max(at, self.end)
        for line in self._lines.values():
            line.offset = None

    def stamp(self, track: int, dts: int, pts: int, duration: int) -> tuple[int, int, bool]:
        """(dts, pts, whether a jump was absorbed) on the output timeline, from raw ticks that are unwrapped.

        `duration` is the nominal one, in ticks. Within a track dts strictly rises; pts is never below dts,
        nor above it by more than MAX_COMPOSITION.
        """
        line = self._lines.get(track)
        if line is None:
            line = self._lines[track] = _Line()
        jumped = False
        offset = line.offset
        if offset is None:
            offset = line.offset = self._first_offset(dts)
        elif not line.last < dts + offset <= line.due + REORDER:
            known = offset
            offset = line.offset = self._offset(line, offset, dts)
            jumped = offset != known
        out = max(dts + offset, line.last + 1)
        line.last = out
        lasts = min(max(duration, 1), GAP)
        line.due = out + lasts
        shown = min(max(pts + offset, out), out + MAX_COMPOSITION)
        line.shown = max(line.shown, shown + lasts)
        return out, shown, jumped

    def _first_offset(self, dts: int) -> int:
        """For a track's first packet: the base of a running track if it lands near that, else beside it."""
        running = [line for line in self._lines.values() if line.offset is not None]
        if not running:
            return self._at - dts
        latest = max(line.due for line in running)
        bases = [line.offset for line in running if line.offset is not None]
        nearest = min(bases, key=lambda base: abs(dts + base - latest))
        return nearest if abs(dts + nearest - latest) <= GAP else latest - dts

    def _offset(self, line: _Line, own: int, dts: int) -> int:
        """The offset for a packet that is not on time: rules 1 to 4."""
        late = dts + own - line.due
        others = [other for other in self._lines.values() if other is not line and other.offset is not None]
        bases = [other.offset for other in others if other.offset is not None and other.offset != own]
        nearest = min(bases, key=lambda base: abs(dts + base - line.due), default=own)
        if abs(dts + nearest - line.due) < min(abs(late), SYNC + 1):
            return nearest
        if dts + own >= line.last - REORDER and late <= GAP:
            return own
        if late > 0 and any(other.offset == own and abs(dts + own - other.last) <= SYNC for other in others):
            return own
        near = [other.due for other in others if abs(other.due - line.due) <= SYNC]
        return max(line.due, *near) - dts if near else line.due - dts
