"""When sound that begins has caught up with the present.

The one idea: whoever makes sound begins with what was kept, and gives out half a second of it at once. A browser that
is sent that plays it all, so late that the pictures are held back for it. So sound is passed over until it comes as
fast as it is played: until it gets no earlier any more.
"""

from typing import Final

from oxidecast.media import TICKS

EARLIER: Final = 0.01
"""Seconds by which sound has to be earlier than ever before, to be still catching up."""
SETTLED: Final = 0.1
"""Seconds without such an improvement: longer than encoders keep sound together."""
LONGEST: Final = 2.0
"""Seconds, after which it is taken as it comes."""


class CatchingUp:
    """Of one feed's sound."""

    __slots__ = ("_began", "_earliest", "_since")

    def __init__(self) -> None:
        self._began: float | None = None
        self._earliest = 0.0
        self._since: float | None = 0.0
        """When it came earliest; None once it has caught up."""

    def is_live(self, pts: int, now: float) -> bool:
        """Whether a packet of this time, which comes now, is to be heard."""
        if self._since is None:
            return True
        late = now - pts / TICKS
        if self._began is None or late < self._earliest - EARLIER:
            self._began = now if self._began is None else self._began
            self._earliest, self._since = late, now
        if now - self._since < SETTLED and now - self._began < LONGEST:
            return False
        self._since = None
        return True
