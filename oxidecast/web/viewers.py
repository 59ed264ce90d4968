"""`/streams/{stream}/join` and `/viewers/{viewer}`: for players that say themselves who watches.

The id of a viewer is its secret: who has it may say that the viewer is there, or has left, and needs no other right.
So a viewer of a private stream stays one when its token expires, as its session does.
"""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from oxidecast.settings.sections import TranscodingSettings
from oxidecast.streams.stream import Stream
from oxidecast.web.access import StreamAccess
from oxidecast.web.addresses import (
    TOKEN,
    Addresses,
    is_unasked,
    not_live,
    qualities,
    to_be_had,
    with_parameter,
)
from oxidecast.web.api import ApiError, Call, Query, Route, invalid, not_found
from oxidecast.web.joined import HEARTBEAT, JoinedViewers, TooManyViewers
from oxidecast.web.stream_views import StreamViews

VIEWER = Query("viewer_id", str, "Who leaves, where the body does not say it.")


class Join(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`quality_profile` is a rendition of the stream; one that its owner has not chosen gives the whole stream, and one
    that cannot be made of it is refused. One that is made on demand is made until the viewer leaves, where its address
    itself is never asked for anything (multicast). `bind_address` makes the token of a private stream good only from
    the address that joins."""

    connection_type: Annotated[str, Meta(max_length=64)]
    quality_profile: Annotated[str, Meta(max_length=64)] | None = None
    bind_address: bool = False


class Leave(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    viewer_id: Annotated[str, Meta(max_length=64)] | None = None


class Joined(msgspec.Struct, frozen=True):
    """A viewer that is counted; `heartbeat_interval` in seconds."""

    viewer_id: str
    stream_url: str
    connection_type: str
    heartbeat_interval: float


class Heard(msgspec.Struct, frozen=True):
    """When to be heard of again, in seconds."""

    heartbeat_interval: float


class ViewerRoutes:
    """The handlers."""

    def __init__(
        self,
        access: StreamAccess,
        views: StreamViews,
        addresses: Addresses,
        joined: JoinedViewers,
        transcoding: TranscodingSettings,
    ) -> None:
        self._access = access
        self._views = views
        self._addresses = addresses
        self._joined = joined
        self._profiles = [profile.name for profile in transcoding.profiles]

    def routes(self) -> Sequence[Route]:
        return (
            Route(
                "POST",
                "/streams/{stream}/join",
                self.join,
                body=Join,
                answer=Joined,
                query=(TOKEN,),
                refusals=(403, 429),
                gives_up=True,
            ),
            Route(
                "DELETE",
                "/streams/{stream}/leave",
                self.leave_stream,
                anonymous=True,
                body=Leave,
                body_optional=True,
                query=(VIEWER,),
            ),
            Route("POST", "/viewers/{viewer}/heartbeat", self.heartbeat, anonymous=True, answer=Heard),
            Route("DELETE", "/viewers/{viewer}", self.leave, anonymous=True),
        )

    async def join(self, call: Call) -> Joined:
        """Watch a live stream, and be counted until leaving, or until three heartbeats are missed. Who plays HLS from
        the address that is given is not counted a second time for what it loads."""
        body = call.body(Join)
        info = await self._access.visible(call)
        stream = self._views.live(info)
        if stream is None:
            raise not_live("This stream is not live.")
        to_be_had(stream, body.quality_profile or "")
        rendition = self._rendition(stream, body.quality_profile)
        url = self._addresses.of(call, info, body.connection_type, rendition, bind=body.bind_address)
        try:
            viewer_id = self._joined.join(
                stream,
                body.connection_type,
                call.address,
                call.user.id if call.user is not None else None,
                rendition or "",
                wants=self._behind(call, stream, body.connection_type, url),
            )
        except TooManyViewers:
            sentence = "There are as many viewers as can be counted."
            raise ApiError(429, "too_many_viewers", sentence, [("Retry-After", f"{HEARTBEAT:.0f}")])
        url = with_parameter(url, "viewer", viewer_id)
        return Joined(viewer_id, url, body.connection_type, HEARTBEAT)

    async def heartbeat(self, call: Call) -> Heard:
        """Still watching."""
        if not self._joined.heartbeat(call.arguments["viewer"]):
            raise not_found("There is no such viewer, or not any more: join again.")
        return Heard(HEARTBEAT)

    async def leave(self, call: Call) -> None:
        """Watch no more. Who is not there has left already."""
        self._joined.leave(call.arguments["viewer"])

    async def leave_stream(self, call: Call) -> None:
        """Watch this stream no more. Who is not there has left already."""
        viewer_id = call.optional_body(Leave).viewer_id or call.query("viewer_id")
        if viewer_id is None:
            raise invalid("viewer_id", "This field is required")
        self._joined.leave(viewer_id, call.arguments["stream"])

    def _behind(self, call: Call, stream: Stream, kind: str, url: str) -> str:
        """The quality of the ladder that is sent to an address at which nobody asks for it; may be none."""
        names = stream.planned if is_unasked(url) else ()
        return next(
            (name for name in names if self._views.urls(call, stream.info, name).get(kind) == url), ""
        )

    def _rendition(self, stream: Stream, wanted: str | None) -> str | None:
        """The rendition of that name; None for the whole stream. Raises ApiError for what no stream can have."""
        known = qualities(stream)
        if wanted in known:
            return wanted
        if wanted is not None and wanted not in self._profiles:
            every = ", ".join(dict.fromkeys((*known, *self._profiles)))
            raise invalid("quality_profile", f"expected one of {every}")
        return None
