"""A million viewer sessions of one stream: `tests/database/test_many_viewers.py`, ten times as large."""

from tests.database.support import both_engines
from tests.database.test_many_viewers import ManyViewers


@both_engines
class MillionViewers(ManyViewers):
    timeout = 600
    many = 1_000_000


del ManyViewers
