"""`[logging] level`, applied to whatever log the door has opened.

twistd opens the log (a file, standard output, the journal) before a service starts, and has no levels of its own. So
the level is a filter that is put around the observers that are there.
"""

from typing import Any

from twisted.logger import FilteringLogObserver, LogLevel, LogLevelFilterPredicate, globalLogPublisher

_predicate = LogLevelFilterPredicate()


def set_level(level: str) -> None:
    """Let only events of `level` (one of `settings.sections.LEVELS`, in any case) and above through. May be called
    again."""
    name = level.lower()
    _predicate.setLogLevelForNamespace("", LogLevel.levelWithName("warn" if name == "warning" else name))
    # The publisher has no public list of its observers.
    observers: list[Any] = list(globalLogPublisher._observers)
    for observer in observers:
        if not isinstance(observer, FilteringLogObserver):
            globalLogPublisher.removeObserver(observer)
            globalLogPublisher.addObserver(FilteringLogObserver(observer, [_predicate]))
