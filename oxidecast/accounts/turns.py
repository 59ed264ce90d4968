"""Turns at a thing that strangers may do only so often together, whoever they are.

The one idea: who has to wait is told its turn, and keeps it: others who ask later, or more often, do not come first.
So however many ask, who asks once and comes back when it was told to is let in. Nothing is held open; nobody has two
turns.
"""

from collections import OrderedDict
from collections.abc import Hashable

from twisted.internet.interfaces import IReactorTime

LONGEST_TURN = 3600.0
"""Seconds that the last turn may be away: nobody comes back after more. Whoever asks beyond it is given none yet."""
TURN_LASTS = 120.0
"""Seconds that a turn waits for who has it, a person who reads a sentence and types; so many turns may come at once."""


class Turns:
    """For each thing, a turn to each of those who ask. At most `maximum` things and turns are remembered: what was
    given longest ago goes."""

    def __init__(self, clock: IReactorTime, maximum: int) -> None:
        self._clock = clock
        self._maximum = maximum
        self._latest: OrderedDict[Hashable, float] = OrderedDict()
        """When the last turn at a thing is, or was."""
        self._turns: OrderedDict[Hashable, float] = OrderedDict()

    def __len__(self) -> int:
        return max(len(self._latest), len(self._turns))

    def ask(self, thing: Hashable, who: Hashable, gap: float) -> float:
        """0, and the turn is used; or seconds until it comes. `gap` seconds lie between a new turn and the one before
        it. With no turn left, the seconds until there is one."""
        now = self._clock.seconds()
        turn = self._turns.get((thing, who))
        if turn is None or turn < now - TURN_LASTS or turn > now + LONGEST_TURN:
            latest = self._latest.get(thing, now - gap)
            # A clock that was set back must not lengthen a wait.
            turn = max(now, latest + gap) if latest <= now + LONGEST_TURN else now
            if turn > now + LONGEST_TURN:
                return turn - now - LONGEST_TURN
            self._keep(self._latest, thing, turn)
            self._keep(self._turns, (thing, who), turn)
        if turn > now:
            return turn - now
        del self._turns[thing, who]
        return 0.0

    def give_back(self, thing: Hashable, who: Hashable) -> None:
        """The turn was not made use of: it is still there."""
        self._keep(self._turns, (thing, who), self._clock.seconds())

    def _keep(self, kept: OrderedDict[Hashable, float], key: Hashable, turn: float) -> None:
        kept[key] = turn
        kept.move_to_end(key)
        if len(kept) > self._maximum:
            kept.popitem(last=False)
