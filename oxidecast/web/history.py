"""What was: a stream's broadcasts, who watched (and watches), and how it was received, for its owner.

Who watched is personal data. Addresses are written as `analytics.addresses` says; of those that were written in full,
and of accounts, only administrators see more than the network.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, get_args

import msgspec
from msgspec import Meta
from twisted.internet.interfaces import IReactorTime

from oxidecast.accounts.roles import Permission, may
from oxidecast.analytics.addresses import kept, network
from oxidecast.database.audience import Audience, Wanted, Watched
from oxidecast.database.broadcasts import BroadcastRecord, Broadcasts, Sort
from oxidecast.database.history import ViewerSession
from oxidecast.database.interface import IDatabase
from oxidecast.database.measurements import Measurements
from oxidecast.database.records import utc
from oxidecast.streams.hub import Hub
from oxidecast.streams.info import StreamInfo
from oxidecast.streams.stream import SOURCE
from oxidecast.streams.viewer import Viewer
from oxidecast.web.access import StreamAccess
from oxidecast.web.api import PAGING, Call, Page, Query, Route, invalid
from oxidecast.web.fields import Time
from oxidecast.web.moments import EARLIEST, moment

MOST_POINTS = 1000
"""Points of a chart in one answer: more than a screen has room for."""

USUAL_POINTS = 240
"""How many are aimed at when no resolution is asked for."""

FINEST = 60
"""Seconds between two points then; the usual interval of measurements."""

LONGEST = timedelta(days=31)
"""Time that one chart spans: 45,000 measurements, which the database adds up in some 20 ms."""

USUAL = timedelta(days=1)


_SORT = Query("sort", Sort, "By the beginning; with a dash the newest first, which is the default.")
_SPAN = (
    Query("from", Time, "From this time on (RFC 3339)."),
    Query("to", Time, "Before this time."),
)


class BroadcastView(msgspec.Struct, frozen=True, kw_only=True):
    """One time that the stream was live. `ended_at` is null while it is; `reconnects` is how often its publisher came
    back or was taken over, `unique_viewers` the different addresses that watched."""

    id: str
    protocol: str
    publisher_address: str | None
    encoder: str
    started_at: Time
    ended_at: Time | None
    end_reason: str | None
    reconnects: int
    bytes_received: int
    peak_viewers: int
    unique_viewers: int


class ViewerView(msgspec.Struct, frozen=True, kw_only=True):
    """One viewer from joining to leaving; times in seconds, `broadcast_id` of what was watched, `bytes_sent` as far as
    the output counts, and `bitrate` what that is in bits a second. `address` may be a network, and `user_id` is for
    administrators. `startup_time` (to the first picture) and `figures` are there where the output knows them. Of one
    who watches now there is no `ended_at`, and no `broadcast_id`."""

    id: str
    broadcast_id: str | None
    connection_type: str
    rendition: str
    address: str | None
    user_id: str | None
    started_at: Time
    ended_at: Time | None
    watch_time: float
    bytes_sent: int
    bitrate: int
    startup_time: float | None
    figures: dict[str, float]


class PointView(msgspec.Struct, frozen=True, kw_only=True):
    """Averages over the time from `at` on: `bitrate` in bits a second; `frames_dropped` is a sum, `viewers` the
    highest."""

    at: Time
    bitrate: int
    frame_rate: float
    frames_dropped: int
    viewers: int


class SeriesView(msgspec.Struct, frozen=True, kw_only=True):
    """One rendition over time; `resolution` in seconds. There is no point where the stream was not live."""

    rendition: str
    begin: Time
    end: Time
    resolution: int
    points: list[PointView]


class HistoryStats(msgspec.Struct, frozen=True, kw_only=True):
    """All that is kept of a stream (`analytics.retention_days`); times in seconds. `unique_viewers` are different
    addresses, counted anew in each broadcast; viewers who watch now are not in it yet."""

    since: Time | None
    broadcasts: int
    air_time: float
    bytes_received: int
    peak_viewers: int
    unique_viewers: int
    viewer_sessions: int
    watch_time: float
    bytes_sent: int
    by_connection_type: dict[str, Watched]


class History:
    """What the database knows of a stream's past, and the handlers for its lists."""

    def __init__(self, database: IDatabase, clock: IReactorTime, access: StreamAccess, hub: Hub) -> None:
        self._clock = clock
        self._hub = hub
        self._access = access
        self._broadcasts = Broadcasts(database)
        self._audience = Audience(database)
        self._measurements = Measurements(database)

    def routes(self) -> Sequence[Route]:
        one: Any = {"login": True, "refusals": (403,)}
        return (
            Route(
                "GET",
                "/streams/{stream}/sessions",
                self.sessions,
                answer=Page[BroadcastView],
                query=(*PAGING, _SORT),
                **one,
            ),
            Route(
                "GET",
                "/streams/{stream}/viewers",
                self.viewers,
                answer=Page[ViewerView],
                query=(
                    *PAGING,
                    *_SPAN,
                    Query("connection_type", str, "Only those who watched by this."),
                    Query("watching", bool, "Those who watch now, and not those who have left."),
                    _SORT,
                ),
                **one,
            ),
            Route(
                "GET",
                "/streams/{stream}/metrics",
                self.metrics,
                answer=SeriesView,
                query=(
                    *_SPAN,
                    Query(
                        "resolution",
                        Annotated[int, Meta(ge=1, le=int(LONGEST.total_seconds()))],
                        f"Seconds between two points, of which there are at most {MOST_POINTS}.",
                    ),
                    Query("rendition", str, f"Which; {SOURCE} by default."),
                ),
                **one,
            ),
        )

    async def totals(self, info: StreamInfo) -> HistoryStats:
        """For the statistics."""
        aired = await self._broadcasts.totals(info.id)
        watched = await self._audience.totals(info.id)
        return HistoryStats(
            since=aired.first_at,
            broadcasts=aired.broadcasts,
            air_time=aired.air_time,
            bytes_received=aired.bytes_received,
            peak_viewers=max(info.max_viewers, aired.peak_viewers),
            unique_viewers=aired.unique_viewers,
            viewer_sessions=sum(one.sessions for one in watched.values()),
            watch_time=sum(one.watch_time for one in watched.values()),
            bytes_sent=sum(one.bytes_sent for one in watched.values()),
            by_connection_type=watched,
        )

    async def sessions(self, call: Call) -> Page[BroadcastView]:
        """When the stream was live: its broadcasts, one that goes on included."""
        page, limit = call.paging()
        sort: Any = call.choice("sort", get_args(Sort)) or "-started"
        info = await self._access.managed(call)
        found = await self._broadcasts.page(info.id, page, limit, sort)
        items = [_broadcast(one) for one in found.items]
        return Page(items, found.total, page, limit, found.total_pages)

    async def viewers(self, call: Call) -> Page[ViewerView]:
        """Who watched the stream and has left, or who watches it now, by when they began."""
        page, limit = call.paging()
        sort = call.choice("sort", get_args(Sort)) or "-started"
        since, until = moment(call, "from"), moment(call, "to")
        info = await self._access.managed(call)
        wanted = Wanted(
            stream_id=info.id, since=since, until=until, connection_type=call.query("connection_type")
        )
        everything = may(call.authenticated(), Permission.MANAGE_ANY_STREAM)
        if call.flag("watching"):
            return self._watching(wanted, page, limit, sort == "-started", everything)
        found = await self._audience.page(wanted, page, limit, newest_first=sort == "-started")
        items = [_viewer(one, everything) for one in found.items]
        return Page(items, found.total, page, limit, found.total_pages)

    def _watching(
        self, wanted: Wanted, page: int, limit: int, newest_first: bool, everything: bool
    ) -> Page[ViewerView]:
        """In memory they are in the order in which they joined."""
        stream, now = self._hub.streams.get(wanted.stream_id), utc(self._clock)
        found = [
            one
            for one in (stream.viewers.values() if stream is not None else ())
            if wanted.connection_type in (None, one.output)
            and (wanted.since is None or one.joined >= wanted.since.timestamp())
            and (wanted.until is None or one.joined < wanted.until.timestamp())
        ]
        if newest_first:
            found.reverse()
        begin = (page - 1) * limit
        items = [
            msgspec.structs.replace(_viewer(_session(one, wanted.stream_id, now), everything), ended_at=None)
            for one in found[begin : begin + limit]
        ]
        return Page(items, len(found), page, limit, -(-len(found) // limit))

    async def metrics(self, call: Call) -> SeriesView:
        """How the stream was received, as a chart shows it: the last day, unless said otherwise."""
        until = moment(call, "to") or utc(self._clock)
        since = moment(call, "from") or max(until - USUAL, EARLIEST)
        if not timedelta() < until - since <= LONGEST:
            raise invalid("from", f"expected a time before `to`, by at most {LONGEST.days} days")
        resolution = _resolution(call, (until - since).total_seconds())
        info = await self._access.managed(call)
        rendition = call.query("rendition") or SOURCE
        points = await self._measurements.series(info.id, rendition, since, until, resolution)
        return SeriesView(
            rendition=rendition,
            begin=since,
            end=until,
            resolution=resolution,
            points=[PointView(**msgspec.structs.asdict(point)) for point in points],
        )


def _broadcast(one: BroadcastRecord) -> BroadcastView:
    values = msgspec.structs.asdict(one)
    return BroadcastView(**{**values, "end_reason": one.end_reason or None})


def _viewer(one: ViewerSession, everything: bool) -> ViewerView:
    watched = (one.ended_at - one.started_at).total_seconds()
    return ViewerView(
        id=one.id,
        broadcast_id=one.session_id,
        connection_type=one.connection_type,
        rendition=one.rendition,
        address=one.address if everything else network(one.address),
        user_id=one.user_id if everything else None,
        started_at=one.started_at,
        ended_at=one.ended_at,
        watch_time=watched,
        bytes_sent=one.bytes_sent,
        bitrate=round(one.bytes_sent * 8 / watched) if watched > 0 else 0,
        startup_time=one.startup_time,
        figures=one.figures,
    )


def _session(viewer: Viewer, stream_id: str, now: datetime) -> ViewerSession:
    """As it would be written if it left now."""
    return ViewerSession(
        id=viewer.public_id,
        stream_id=stream_id,
        session_id=None,
        user_id=viewer.user_id,
        connection_type=viewer.output,
        rendition=viewer.rendition,
        address=kept(viewer.address, "full"),
        started_at=datetime.fromtimestamp(viewer.joined, UTC),
        ended_at=now,
        bytes_sent=viewer.bytes_sent,
        startup_time=viewer.startup_time,
        figures=dict(viewer.figures),
    )


def _resolution(call: Call, seconds: float) -> int:
    """Seconds between two points, so that there are not too many."""
    least = max(1, -(-int(seconds) // (MOST_POINTS - 1)))
    text = call.query("resolution")
    if text is None:
        return max(FINEST, -(-int(seconds) // USUAL_POINTS))
    most = int(LONGEST.total_seconds())
    if not re.fullmatch("[0-9]{1,7}", text) or not least <= int(text) <= most:
        raise invalid("resolution", f"expected a whole number from {least}, for this time, to {most}")
    return int(text)
