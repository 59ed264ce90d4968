"""How a rendition was over time, from `stream_metrics`: as many points as a chart can show."""

from datetime import UTC, datetime

import msgspec

from oxidecast.database.interface import IDatabase
from oxidecast.database.records import is_id

_SLOT = {
    "sqlite": "CAST(strftime('%s', at) AS integer) / :resolution",
    "postgres": "CAST(floor(date_part('epoch', at) / :resolution) AS bigint)",
}
"""Which stretch of time, counted from 1970, by flavour."""


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """Averages over the `resolution` seconds from `at` on; `frames_dropped` is a sum, `viewers` the highest."""

    at: datetime
    bitrate: int
    frame_rate: float
    frames_dropped: int
    viewers: int


class Measurements:
    """The table."""

    def __init__(self, database: IDatabase) -> None:
        self._database = database

    async def series(
        self, stream_id: str, rendition: str, since: datetime, until: datetime, resolution: int
    ) -> list[Point]:
        """At most one point for each `resolution` seconds, oldest first; none where nothing was measured."""
        if not is_id(stream_id):
            return []
        rows = await self._database.query(
            # Of doubles PostgreSQL makes an average in a third of the time that it takes for integers.
            f"SELECT {_SLOT[self._database.flavour]} AS slot, avg(CAST(bitrate AS double precision)) AS bitrate,"
            " avg(frame_rate) AS frame_rate, sum(frames_dropped) AS frames_dropped, max(viewers) AS viewers"
            " FROM stream_metrics WHERE stream_id = :stream_id AND rendition = :rendition"
            " AND at >= :since AND at < :until GROUP BY 1 ORDER BY 1",
            {
                "stream_id": stream_id,
                "rendition": rendition,
                "since": since,
                "until": until,
                "resolution": resolution,
            },
        )
        return [
            Point(
                at=datetime.fromtimestamp(row["slot"] * resolution, UTC),
                bitrate=round(row["bitrate"]),
                frame_rate=round(row["frame_rate"], 3),
                frames_dropped=row["frames_dropped"],
                viewers=row["viewers"],
            )
            for row in rows
        ]
