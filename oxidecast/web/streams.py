"""`/streams`: the list, one stream, making one, and where to watch it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
from msgspec import Meta

from oxidecast.accounts.keys import PublishKeys
from oxidecast.accounts.roles import Permission, may, may_manage
from oxidecast.accounts.tokens import Tokens
from oxidecast.database.errors import Conflict
from oxidecast.database.streams import Streams
from oxidecast.interfaces import IOutput, PlayRequest, Refused
from oxidecast.media import Track
from oxidecast.registry import Detached, Registry, Running
from oxidecast.settings.sections import TranscodingSettings
from oxidecast.streams.hub import Hub
from oxidecast.streams.info import StreamInfo
from oxidecast.streams.rendition import Rendition
from oxidecast.web.api import ApiError, Call, Page, Reply, Route, not_found, unauthorised

CONNECTION_TYPES = ("hls", "webrtc", "multicast", "rtmp", "flv", "websocket")


WITHOUT_TOKENS = frozenset({"udp", "rtp"})
"""Schemes of addresses at which nobody asks for a token: who knows them can watch."""


class NewStream(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of what may be left out, null says that it is."""

    title: Annotated[str, Meta(min_length=1, max_length=200)]
    description: Annotated[str, Meta(max_length=5000)] | None = None
    category: Annotated[str, Meta(max_length=100)] | None = None
    name: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    is_private: bool | None = None
    recording_enabled: bool | None = None
    transcoding_profiles: Annotated[list[str], Meta(max_length=20)] | None = None


class StreamRoutes:
    """The handlers."""

    def __init__(
        self,
        hub: Hub,
        registry: Registry,
        streams: Streams,
        keys: PublishKeys,
        tokens: Tokens,
        transcoding: TranscodingSettings,
    ) -> None:
        self._hub = hub
        self._registry = registry
        self._streams = streams
        self._keys = keys
        self._tokens = tokens
        self._profiles = [profile.name for profile in transcoding.profiles]

    def routes(self) -> Sequence[Route]:
        return (
            Route("GET", "/streams", self.list),
            Route("POST", "/streams", self.create),
            Route("GET", "/streams/{stream}", self.show),
            Route("GET", "/streams/{stream}/url", self.url),
            Route("GET", "/ingests", self.ingests),
        )

    async def list(self, call: Call) -> Page[Any]:
        page, limit = call.paging()
        live, mine = call.flag("live"), call.flag("mine")
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
        )
        # Streams without an account (`rtmp.enable_auth = false`) follow those of the database.
        others = (
            [] if live is False or mine or call.query("category") else self._unowned(call.query("q") or "")
        )
        begin = max(0, (page - 1) * limit - found.total)
        infos = [*found.items, *others[begin : begin + limit - len(found.items)]]
        total = found.total + len(others)
        return Page([self._view(call, info) for info in infos], total, page, limit, -(-total // limit))

    async def create(self, call: Call) -> Reply:
        user = call.require(Permission.CREATE_STREAMS)
        body = call.body(NewStream)
        if not body.title.strip():
            blank = "expected more than blanks"
            raise ApiError(422, "invalid", f"title: {blank}.", fields={"title": blank})
        profiles = body.transcoding_profiles or []
        self._check_profiles(profiles)
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
            )
        except Conflict as error:
            raise ApiError(409, "name_taken", str(error))
        except ValueError as error:
            raise ApiError(422, "invalid", f"name: {error}.", fields={"name": str(error)})
        key = await self._keys.create(info.id)
        data = {
            **self._view(call, info),
            "stream_key": key.text,
            "ingest_url": next(iter(self._registry.ingest_addresses(call.host)), None),
        }
        return Reply(data, 201, [("Location", f"/api/v1/streams/{info.name}")])

    async def show(self, call: Call) -> dict[str, Any]:
        info = await self._visible(call)
        stream = self._hub.streams.get(info.id)
        view = self._view(call, info)
        if call.user is not None and may_manage(call.user, info):
            view["ingest_urls"] = self._registry.ingest_addresses(call.host)
            view["outputs"] = [
                {"name": slot.name, "state": slot.state, "error": slot.error or None, "stats": slot.stats()}
                for slot in (stream.outputs if stream is not None else ())
            ]
            if stream is not None and stream.publication is not None:
                publication = stream.publication
                view["publisher"] = {
                    "protocol": publication.protocol,
                    "address": publication.address,
                    "encoder": publication.encoder,
                    "bytes_received": publication.bytes,
                    "timestamp_jumps": publication.jumps,
                }
        return view

    async def url(self, call: Call) -> dict[str, Any]:
        kind = call.query("connection_type") or "hls"
        info = await self._visible(call)
        urls = self._urls(call, info)
        url = urls.get(kind)
        if url is None and kind not in CONNECTION_TYPES:
            known = f"expected one of {', '.join(dict.fromkeys((*CONNECTION_TYPES, *urls)))}"
            raise ApiError(422, "invalid", f"connection_type: {known}.", fields={"connection_type": known})
        if url is None:
            raise ApiError(
                404, "not_live", f"This stream cannot be watched by {kind} now.", [("Retry-After", "2")]
            )
        if info.is_private and url.partition("://")[0] not in WITHOUT_TOKENS:
            url += f"{'&' if '?' in url else '?'}token={quote(self._tokens.playback(info.id))}"
        return {"url": url, "connection_type": kind}

    async def ingests(self, call: Call) -> dict[str, Any]:
        """Where to publish: for the start page, which cannot know on which port RTMP listens."""
        return {"ingest_urls": self._registry.ingest_addresses(call.host)}

    # -- inside

    def _check_profiles(self, names: Sequence[str]) -> None:
        """Raise ApiError unless the settings have profiles of these names."""
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

    async def _visible(self, call: Call) -> StreamInfo:
        """The stream of the path, if the caller may see it."""
        reference = call.arguments["stream"]
        info = await self._streams.find(reference)
        if info is None:
            # A stream without an account exists only while it is live (`rtmp.enable_auth = false`).
            live = self._hub.find(reference)
            info = live.info if live is not None else None
        if info is None:
            raise not_found("There is no such stream.")
        if info.is_private and not (call.user is not None and may_manage(call.user, info)):
            try:
                token = call.query("token") or ""
                await self._hub.authorise(
                    info, PlayRequest(protocol="api", address=call.address, token=token)
                )
            except Refused as refused:
                if call.user is not None:
                    raise ApiError(403, "forbidden", "This stream is private, and not yours.")
                raise unauthorised(refused.sentence, refused.code)
        return info

    def _view(self, call: Call, info: StreamInfo) -> dict[str, Any]:
        stream = self._hub.streams.get(info.id)
        if stream is not None and not stream.renditions:
            stream = None
        return {
            "id": info.id,
            "name": info.name,
            "title": info.title,
            "description": info.description,
            "category": info.category,
            "is_private": info.is_private,
            "recording_enabled": info.recording_enabled,
            "transcoding_profiles": info.transcoding_profiles,
            "created_at": info.created_at,
            "is_live": stream is not None,
            "state": stream.state if stream is not None else "idle",
            "started_at": datetime.fromtimestamp(stream.started_at, UTC) if stream is not None else None,
            "viewer_count": stream.viewer_count if stream is not None else 0,
            "max_viewers": stream.max_viewers if stream is not None else 0,
            "thumbnail_url": None,
            "tracks": [_track(track) for track in stream.source.tracks] if stream is not None else [],
            "renditions": [_rendition(r) for r in stream.renditions.values()] if stream is not None else [],
            "notices": list(stream.notices.values()) if stream is not None else [],
            "stream_urls": self._urls(call, info),
        }

    def _urls(self, call: Call, info: StreamInfo) -> Mapping[str, str]:
        """Where to watch, by connection type: what the outputs of a live stream say, or where it will be."""
        stream = self._hub.streams.get(info.id)
        if stream is not None and stream.renditions:
            urls = {kind: url for slot in stream.outputs for kind, url in slot.urls().items()}
        else:
            urls = {
                kind: url for one in self._registry.of(IOutput) for kind, url in _planned(one, info).items()
            }
        return {kind: call.base + url if url.startswith("/") else url for kind, url in urls.items()}


def _planned(output: Running, info: StreamInfo) -> Mapping[str, str]:
    """Where an output will show a stream that is not live."""
    try:
        urls = output.call(output.instance.urls, info)
    except Detached:
        return {}
    return urls if isinstance(urls, Mapping) else {}


def _track(track: Track) -> dict[str, Any]:
    return {
        "kind": "video" if track.is_video else "audio",
        "codec": track.codec.value,
        "codec_string": track.codec_string,
        "profile": track.profile,
        "level": track.level,
        "width": track.width,
        "height": track.height,
        "frame_rate": float(track.frame_rate) if track.frame_rate is not None else None,
        "sample_rate": track.sample_rate,
        "channels": track.channels,
    }


def _rendition(rendition: Rendition) -> dict[str, Any]:
    return {
        "name": rendition.name,
        "bitrate": rendition.bitrate,
        "tracks": [_track(track) for track in rendition.tracks],
    }
