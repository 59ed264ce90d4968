"""Which pictures become keyframes, and which are left out for the frame rate's sake. Pure, by time stamps alone.

Keyframes are chosen once for all feeds: their pictures are in every feed, whatever its frame rate.
"""

from fractions import Fraction

from oxidecast.media import TICKS

SLACK = 1.1
"""A source whose keyframes come at the interval, a frame early or late, gets none between them."""

APART = 1.5
"""Times the interval: when the source's keyframes are further apart than that, further ones are put between."""

FULL_RATE = 0.95
"""A source within 5 % above the ceiling keeps its pictures: one of 30 for a ceiling of 29.97 would only stutter. So do
every second ones of twice as many, within 5 % both ways, and so on."""

EARLY = 0.25
"""Of the interval: how much too early a picture may come. Stamps in whole milliseconds move by less."""

SMOOTH = 16
"""Pictures over which the source's rate is judged."""

MAX_PENDING = 256
"""Keyframes that wait for their pictures: a decoder that gives none for so long has lost them."""


class KeyframeChoice:
    """Says of each picture, in order, whether it is a keyframe: the source's are, and more where they are rare.

    A keyframe whose picture was lost falls to the picture after it.
    """

    def __init__(self, interval: float) -> None:
        """`interval` in seconds."""
        self.interval = round(interval * TICKS)
        self._pending: list[int] = []
        self._last: int | None = None
        self._last_source: int | None = None
        self._gap: int | None = None
        """Between the source's last two keyframes."""
        self._forced = True

    def source_keyframe(self, pts: int) -> None:
        """A packet that is a keyframe goes into the decoder."""
        if self._last_source is not None and pts > self._last_source:
            self._gap = pts - self._last_source
        self._last_source = pts
        self._pending.append(pts)
        del self._pending[:-MAX_PENDING]

    def force(self) -> None:
        """The next picture is a keyframe."""
        self._forced = True

    def forget(self) -> None:
        """The source begins anew."""
        self._pending.clear()
        self._last = self._last_source = self._gap = None
        self._forced = True

    def is_keyframe(self, pts: int) -> bool:
        """Of the next picture."""
        due = [at for at in self._pending if at <= pts]
        if due:
            self._pending = [at for at in self._pending if at > pts]
        chosen = bool(due) or self._forced or self._last is None or pts - self._last >= self._limit()
        if chosen:
            self._last = pts
            self._forced = False
        return chosen

    def _limit(self) -> int:
        if self._gap is None:
            return int(self.interval * SLACK)
        if self._gap > self.interval * APART:
            return self.interval
        return int(max(self.interval, self._gap) * SLACK)


def one_in(source: float | Fraction, ceiling: float) -> int:
    """Of how many pictures one stays, all evenly, of a source of so many a second: 1 where all do. 0 where that would
    not be about the ceiling: then as many stay as it says, unevenly."""
    count = max(1, round(source / ceiling))
    made = source / count
    even = made * FULL_RATE <= ceiling and (count == 1 or made >= ceiling * FULL_RATE)
    return count if even else 0


class RateCeiling:
    """Leaves pictures out, so that about so many a second are left at most: see `one_in`. It never adds any."""

    def __init__(self, framerate: float) -> None:
        self._ceiling = framerate
        self._interval = TICKS / framerate
        self._source: float | None = None
        """Ticks between the source's pictures."""
        self._previous: int | None = None
        self._due = 0.0
        self._kept = 0

    def keeps(self, pts: int, keyframe: bool) -> bool:
        """Whether the next picture stays. A keyframe always does."""
        self._follow(pts)
        count = one_in(TICKS / self._source, self._ceiling) if self._source else 0
        if count > 1 and self._source:
            stays = pts >= self._kept + (count - 0.5) * self._source
        else:
            stays = count == 1 or pts >= self._due - self._interval * EARLY
        if not (stays or keyframe):
            return False
        # After a pause the beat begins anew, or a burst would be let through.
        beat = pts if keyframe or count else max(self._due, pts - self._interval)
        self._due, self._kept = beat + self._interval, pts
        return True

    def _follow(self, pts: int) -> None:
        if self._previous is not None and pts > self._previous:
            step = min(float(pts - self._previous), TICKS)
            self._source = step if self._source is None else self._source + (step - self._source) / SMOOTH
        self._previous = pts
