"""Ten minutes of flashes and beeps through a whole server: `make soak`. The short form is in
`tests/e2e/test_ladder_sync.py`."""

from tests.e2e.sync import BFRAMES, MONO, PLAIN, VARIABLE, gap
from tests.e2e.test_ladder_sync import SyncCase

LONG = 610
"""Seconds: the first few pass before anybody watches."""


class SoakTests(SyncCase):
    timeout = 1500

    def test_ten_minutes_of_every_kind_of_source(self) -> None:
        self.go_through(LONG, [PLAIN, BFRAMES, VARIABLE, MONO, gap(300, 330)])
