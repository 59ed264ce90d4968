"""Which number a rendition's group has, for ever.

The one idea: an address, once told to a set-top box, must not change. So a number is written down before the first
datagram leaves, and is known from memory ever after: a stream that comes again does not wait for the database.
"""

from collections.abc import Collection
from datetime import datetime

from twisted.internet.interfaces import IReactorTime

from oxidecast.database.errors import Conflict
from oxidecast.database.interface import Body, IDatabase
from oxidecast.database.records import utc
from oxidecast.outputs.multicast.settings import Addresses

_ATTEMPTS = 5
"""How often a number is chosen again because another process took it first."""

Rendition = tuple[str, str]
"""A stream's id, and a rendition's name."""


class Exhausted(Exception):
    """Every group of the settings has a rendition."""


class GroupNumbers:
    """The multicast_groups table, and what is known of it."""

    def __init__(self, database: IDatabase, clock: IReactorTime, addresses: Addresses) -> None:
        self._database = database
        self._clock = clock
        self._addresses = addresses
        self._known: dict[Rendition, int] = {}

    def known(self, stream_id: str, rendition: str) -> int | None:
        """The number, where one was given and is known here."""
        return self._known.get((stream_id, rendition))

    async def load(self) -> None:
        """Read what was given. Raises DatabaseError."""
        for row in await self._database.query("SELECT number, stream_id, rendition FROM multicast_groups"):
            if self._is_ours(row["number"]):
                self._known.setdefault((str(row["stream_id"]), row["rendition"]), row["number"])

    async def give(self, stream_id: str, rendition: str, in_use: Collection[int]) -> int:
        """The number of a rendition, the lowest free one when it has none yet.

        When there is none left, that of a stream which no longer exists is given again, unless it is `in_use`.
        Raises Exhausted, and DatabaseError.
        """
        wanted = (stream_id, rendition)
        for _ in range(_ATTEMPTS - 1):
            try:
                return await self._write(wanted, in_use)
            except Conflict:
                continue
        return await self._write(wanted, in_use)

    async def _write(self, wanted: Rendition, in_use: Collection[int]) -> int:
        number = await self._database.transaction(
            _give, wanted, self._addresses, frozenset(in_use), utc(self._clock)
        )
        self._known = {key: value for key, value in self._known.items() if value != number}
        self._known[wanted] = number
        return number

    def _is_ours(self, number: int) -> bool:
        return 0 <= number < self._addresses.room and self._addresses.usable(number)


def _give(wanted: Rendition, addresses: Addresses, in_use: frozenset[int], now: datetime) -> Body[int]:
    stream_id, rendition = wanted
    rows = yield "SELECT number, stream_id, rendition FROM multicast_groups ORDER BY number", {}
    taken = {row["number"] for row in rows}
    had = next(
        (row["number"] for row in rows if (str(row["stream_id"]), row["rendition"]) == wanted),
        None,
    )
    if had is not None and had < addresses.room and addresses.usable(had):
        return int(had)
    free = next((n for n in range(addresses.room) if n not in taken and addresses.usable(n)), None)
    if free is None:
        gone = yield (
            "SELECT number FROM multicast_groups g"
            " WHERE NOT EXISTS (SELECT 1 FROM streams s WHERE s.id = g.stream_id) ORDER BY created_at, number",
            {},
        )
        free = next(
            (row["number"] for row in gone if row["number"] < addresses.room and row["number"] not in in_use),
            None,
        )
        if free is None:
            raise Exhausted(
                f"all {addresses.room} multicast groups have a rendition: widen multicast.port_range"
            )
        yield "DELETE FROM multicast_groups WHERE number = :number", {"number": free}
    if had is not None:
        # The settings no longer reach its old group.
        yield "DELETE FROM multicast_groups WHERE number = :number", {"number": had}
    yield (
        "INSERT INTO multicast_groups (number, stream_id, rendition, created_at)"
        " VALUES (:number, :stream_id, :rendition, :now)",
        {"number": free, "stream_id": stream_id, "rendition": rendition, "now": now},
    )
    return int(free)
