"""Work that is done to its end, whether somebody waits for it or not.

The one idea: who changes two things one after the other is never stopped between them. A client that hangs up, or a
call that is given up, stops the waiting and nothing else.
"""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


class Unattended:
    """Begins such work."""

    def __init__(self) -> None:
        self.count = 0
        """How many go on that nobody waits for."""

    def begin(self, work: Coroutine[Any, Any, T], failed: Callable[[Failure], None]) -> Deferred[T]:
        """The result of the work; to cancel it is to wait no more. What fails then, `failed` hears of."""

        def gone(_: Deferred[T]) -> None:
            self.count += 1

        wanted: Deferred[T] = Deferred(gone)

        def done(result: Any) -> None:
            if not wanted.called:
                wanted.callback(result)  # a Failure makes it fail
                return
            self.count -= 1
            if isinstance(result, Failure):
                failed(result)

        Deferred.fromCoroutine(work).addBoth(done)
        return wanted
