"""`/streams`: the list, making, changing and deleting one, letting publishers in, and where to watch."""

from collections.abc import Sequence
from typing import Any, get_args

import msgspec

from oxidecast.accounts.keys import PublishKeys
from oxidecast.accounts.roles import Permission, may, may_manage
from oxidecast.database.errors import Conflict
from oxidecast.database.streams import Sort, StreamChange, Streams, version
from oxidecast.registry import Registry
from oxidecast.settings.sections import TranscodingSettings
from oxidecast.streams.hub import Hub
from oxidecast.streams.info import StreamInfo
from oxidecast.web.access import StreamAccess
from oxidecast.web.addresses import (
    BIND,
    CONNECTION_TYPES,
    QUALITY,
    TOKEN,
    Addresses,
    not_live,
    qualities,
    to_be_had,
)
from oxidecast.web.api import PAGING, ApiError, Call, Page, Query, Reply, Route, invalid
from oxidecast.web.consequences import Consequences
from oxidecast.web.fields import Category, Description, Profiles, StreamName, Title
from oxidecast.web.stream_views import NewStreamView, StreamView, StreamViews
from oxidecast.web.tags import etag, expected


class NewStream(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of what may be left out, null says that it is."""

    title: Title
    description: Description | None = None
    category: Category | None = None
    name: StreamName | None = None
    is_private: bool | None = None
    recording_enabled: bool | None = None
    transcoding_profiles: Profiles | None = None


class ChangedStream(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is left out, or null, stays."""

    title: Title | None = None
    description: Description | None = None
    category: Category | None = None
    name: StreamName | None = None
    is_private: bool | None = None
    recording_enabled: bool | None = None
    transcoding_profiles: Profiles | None = None


class Address(msgspec.Struct, frozen=True):
    """Where to watch."""

    url: str
    connection_type: str


class Ingests(msgspec.Struct, frozen=True):
    """Where to publish."""

    ingest_urls: list[str]


class StreamRoutes:
    """The handlers."""

    def __init__(
        self,
        hub: Hub,
        registry: Registry,
        streams: Streams,
        keys: PublishKeys,
        transcoding: TranscodingSettings,
        access: StreamAccess,
        views: StreamViews,
        addresses: Addresses,
        consequences: Consequences,
    ) -> None:
        self._hub = hub
        self._registry = registry
        self._streams = streams
        self._keys = keys
        self._profiles = [profile.name for profile in transcoding.profiles]
        self._access = access
        self._views = views
        self._addresses = addresses
        self._consequences = consequences

    def routes(self) -> Sequence[Route]:
        one, change = "/streams/{stream}", {"login": True, "answer": StreamView}
        kind = Query("connection_type", str, f"{', '.join(CONNECTION_TYPES)}; hls by default.")
        update: dict[str, Any] = {**change, "body": ChangedStream, "refusals": (403, 409), "if_match": True}
        switch: dict[str, Any] = {**change, "refusals": (403,)}
        return (
            Route(
                "GET",
                "/streams",
                self.list,
                answer=Page[StreamView],
                query=(
                    *PAGING,
                    Query("live", bool, "Only those that are live, or only those that are not."),
                    Query("category", str, "Only those of this category."),
                    Query("q", str, "A part of the name, the title or the description."),
                    Query("mine", bool, "Only the caller's own, private ones included."),
                    Query("sort", Sort, "By what; with a dash the other way round. -created by default."),
                ),
            ),
            Route(
                "POST",
                "/streams",
                self.create,
                needs=Permission.CREATE_STREAMS,
                body=NewStream,
                answer=NewStreamView,
                status=201,
                refusals=(409,),
            ),
            Route("GET", one, self.show, answer=StreamView, query=(TOKEN,), refusals=(403,)),
            Route("PUT", one, self.change, **update),
            Route("PATCH", one, self.change, **update),
            Route("DELETE", one, self.delete, login=True, refusals=(403,), if_match=True),
            Route("POST", f"{one}/start", self.start, **switch),
            Route("POST", f"{one}/stop", self.stop, **switch),
            Route(
                "GET",
                f"{one}/url",
                self.url,
                answer=Address,
                query=(kind, QUALITY, TOKEN, BIND),
                refusals=(403,),
            ),
            Route("GET", "/ingests", self.ingests, answer=Ingests),
        )

    async def list(self, call: Call) -> Page[StreamView]:
        """The public streams, live or not; administrators see the private ones too."""
        page, limit = call.paging()
        live, mine = call.flag("live"), call.flag("mine")
        sort: Any = call.choice("sort", get_args(Sort)) or "-created"
        on_air = {stream.id for stream in self._hub.streams.values() if stream.renditions}
        owner = call.authenticated() if mine else None
        everything = call.user is not None and may(call.user, Permission.MANAGE_ANY_STREAM)
        found = await self._streams.page(
            page,
            limit,
            include_private=mine is True or everything,
            owner_id=owner.id if owner is not None else None,
            category=call.query("category") or None,
            q=call.query("q"),
            only=on_air if live is True else None,
            without=on_air if live is False else (),
            sort=sort,
        )
        # Streams without an account (`rtmp.enable_auth = false`) follow those of the database.
        others = (
            [] if live is False or mine or call.query("category") else self._unowned(call.query("q") or "")
        )
        begin = max(0, (page - 1) * limit - found.total)
        infos = [*found.items, *others[begin : begin + limit - len(found.items)]]
        total = found.total + len(others)
        views = [self._views.public(call, info) for info in infos]
        return Page(views, total, page, limit, -(-total // limit))

    async def create(self, call: Call) -> Reply:
        """Make a stream, with a first key to publish by."""
        user = call.require(Permission.CREATE_STREAMS)
        body = call.body(NewStream)
        _check_title(body.title)
        profiles = body.transcoding_profiles or []
        self._check_profiles(profiles)
        first = self._keys.first(call.actor)
        try:
            info = await self._streams.create(
                user.id,
                body.title,
                name=body.name,
                description=body.description or "",
                category=body.category or "",
                is_private=body.is_private or False,
                recording_enabled=body.recording_enabled or False,
                transcoding_profiles=profiles,
                by=call.actor,
                also=first,
            )
        except Conflict as error:
            raise ApiError(409, "name_taken", str(error))
        except ValueError as error:
            raise invalid("name", str(error))
        headers = [("Location", f"/api/v1/streams/{info.name}"), etag(version(info))]
        return Reply(self._views.new(call, info, first.text), 201, headers)

    async def show(self, call: Call) -> Reply:
        """One stream. Its ETag is of what its owner can change."""
        info = await self._access.visible(call)
        owns = call.user is not None and may_manage(call.user, info)
        view = self._views.owned(call, info) if owns else self._views.public(call, info)
        return Reply(view, headers=[etag(version(info))])

    async def change(self, call: Call) -> Reply:
        """Change a stream: what is left out stays, by PUT as by PATCH. With If-Match nothing is changed that somebody
        else has changed since it was read. A live stream follows at once; only a new name waits for its end."""
        info = await self._access.managed(call)
        body = call.body(ChangedStream)
        if body.title is not None:
            _check_title(body.title)
        if body.transcoding_profiles is not None:
            self._check_profiles(body.transcoding_profiles)
        try:
            changed = await self._streams.update(
                info.id, _change(body), versions=expected(call), by=call.actor
            )
        except Conflict as error:
            raise ApiError(409, "name_taken", str(error))
        except ValueError as error:
            raise invalid("name", str(error))
        return self._changed(call, changed)

    async def delete(self, call: Call) -> None:
        """Delete a stream with its keys, and end it when it is live. One that is not there is as good as deleted."""
        info = await self._access.managed_or_none(call)
        if info is not None:
            await self._streams.delete(info.id, call.actor, expected(call))
            self._consequences.stream_deleted(info.id)

    async def start(self, call: Call) -> Reply:
        """Let publishers in again after a stop."""
        info = await self._access.managed(call)
        change = StreamChange(accepts_publishing=True)
        return self._changed(call, await self._streams.update(info.id, change, by=call.actor))

    async def stop(self, call: Call) -> Reply:
        """End a stream when it is live, and refuse its keys until it is started."""
        info = await self._access.managed(call)
        change = StreamChange(accepts_publishing=False)
        changed = await self._streams.update(info.id, change, by=call.actor)
        self._consequences.stream_stopped(info.id)
        return self._changed(call, changed)

    async def url(self, call: Call) -> Address:
        """Where to watch by one type of connection; for a private stream with a fresh playback token in it. Which
        qualities there are depends on what is sent, so one is named of a live stream only. One that is made on demand
        is sent by multicast while somebody has joined the stream for it."""
        kind = call.query("connection_type") or "hls"
        info = await self._access.visible(call)
        bind, quality = call.flag("bind_address") or False, call.query("quality_profile")
        if quality is not None:
            stream = self._views.live(info)
            if stream is None:
                raise not_live("This stream is not live, and has no qualities until it is.")
            to_be_had(stream, quality)
            known = qualities(stream)
            if quality not in known:
                raise invalid("quality_profile", f"expected one of {', '.join(known)}")
        return Address(self._addresses.of(call, info, kind, quality, bind=bind), kind)

    async def ingests(self, call: Call) -> Ingests:
        """Where to publish: for the start page, which cannot know on which port RTMP listens."""
        return Ingests(self._registry.ingest_addresses(call.base))

    # -- inside

    def _changed(self, call: Call, info: StreamInfo | None) -> Reply:
        if info is None:  # Deleted since it was found.
            raise ApiError(404, "not_found", "There is no such stream.")
        self._consequences.stream_changed(info)
        return Reply(self._views.owned(call, info), headers=[etag(version(info))])

    def _check_profiles(self, names: Sequence[str]) -> None:
        """Raise ApiError unless the settings have profiles of these names."""
        if len(set(names)) < len(names):
            raise invalid("transcoding_profiles", "each may be named once")
        unknown = [name for name in names if name not in self._profiles]
        if unknown:
            known = f"known profiles are {', '.join(self._profiles) or 'none'}"
            raise ApiError(
                422,
                "unknown_profile",
                f"transcoding_profiles: {', '.join(unknown)} is not known; {known}.",
                fields={"transcoding_profiles": known},
            )

    def _unowned(self, q: str) -> Sequence[StreamInfo]:
        """The streams on air that exist only as long as somebody publishes."""
        infos = [stream.info for stream in self._hub.streams.values() if stream.renditions]
        return [info for info in infos if not info.owner_id and q.lower() in info.name]


def _check_title(title: str) -> None:
    if not title.strip():
        raise invalid("title", "expected more than blanks")


def _change(body: ChangedStream) -> StreamChange:
    given = {name: value for name, value in msgspec.structs.asdict(body).items() if value is not None}
    if "transcoding_profiles" in given:
        given["transcoding_profiles"] = tuple(given["transcoding_profiles"])
    return StreamChange(**given)
