from typing import Any

from twisted.logger import Logger, LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.logs import set_level


class TestLevel(SynchronousTestCase):
    def setUp(self) -> None:
        self.before = list(globalLogPublisher._observers)
        self.addCleanup(self.restore)
        self.seen: list[Any] = []
        globalLogPublisher.addObserver(self.seen.append)

    def restore(self) -> None:
        set_level("info")
        globalLogPublisher._observers = self.before

    def said(self, level: str) -> list[str]:
        set_level(level)
        self.seen.clear()
        log = Logger(namespace="oxidecast.test")
        for one in LogLevel.iterconstants():
            if one is not LogLevel.critical and one is not LogLevel.error:
                log.emit(one, one.name)
        return [event["log_level"].name for event in self.seen]

    def test_only_the_level_and_above_come_through(self) -> None:
        self.assertEqual(self.said("debug"), ["debug", "info", "warn"])
        self.assertEqual(self.said("warn"), ["warn"])
        self.assertEqual(self.said("info"), ["info", "warn"])

    def test_setting_it_again_wraps_nothing_twice(self) -> None:
        set_level("info")
        once = list(globalLogPublisher._observers)
        set_level("debug")
        self.assertEqual(list(globalLogPublisher._observers), once)
