"""A stream as the API shows it: what its owner said of it, and what it is doing now."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from oxidecast.interfaces import IOutput, IThumbnails
from oxidecast.media import Track
from oxidecast.registry import Detached, Registry, Running
from oxidecast.streams.hub import Hub
from oxidecast.streams.info import StreamInfo
from oxidecast.streams.outputs import OutputSlot
from oxidecast.streams.publication import Publication
from oxidecast.streams.rendition import Rendition
from oxidecast.streams.stream import Stream
from oxidecast.streams.wanting import Planned
from oxidecast.web.api import Call
from oxidecast.web.fields import Time


class TrackView(msgspec.Struct, frozen=True, kw_only=True):
    """One elementary stream."""

    kind: str
    codec: str
    codec_string: str
    profile: str
    level: str
    width: int
    height: int
    frame_rate: float | None
    sample_rate: int
    channels: int


class RenditionView(msgspec.Struct, frozen=True, kw_only=True):
    """One quality; `bitrate` in bits a second."""

    name: str
    bitrate: int
    tracks: list[TrackView]


class QualityView(msgspec.Struct, frozen=True, kw_only=True):
    """One quality that can be watched: `running`, or `planned`, which is made as soon as somebody asks for it;
    `bitrate` in bits a second, for one that does not run the average that is expected. To who may manage the stream
    also those that are `left_out`, with the `reason`."""

    name: str
    state: str
    width: int
    height: int
    frame_rate: float | None
    bitrate: int
    reason: str | None


class SlotView(msgspec.Struct, frozen=True, kw_only=True):
    """What one output does with a live stream."""

    name: str
    state: str
    error: str | None
    stats: dict[str, Any]


class PublisherView(msgspec.Struct, frozen=True, kw_only=True):
    """Who feeds a live stream."""

    protocol: str
    address: str
    encoder: str
    bytes_received: int
    timestamp_jumps: int


class StreamView(msgspec.Struct, frozen=True, kw_only=True):
    """A stream. The fields that may be missing are for those who may manage it."""

    id: str
    name: str
    title: str
    description: str
    category: str
    is_private: bool
    recording_enabled: bool
    transcoding_profiles: list[str]
    accepts_publishing: bool
    created_at: Time
    is_live: bool
    state: str
    started_at: Time | None
    viewer_count: int
    max_viewers: int
    thumbnail_url: str | None
    tracks: list[TrackView]
    renditions: list[RenditionView]
    qualities: list[QualityView]
    notices: list[str]
    stream_urls: dict[str, str]
    ingest_urls: list[str] | UnsetType = UNSET
    outputs: list[SlotView] | UnsetType = UNSET
    publisher: PublisherView | UnsetType = UNSET


class NewStreamView(StreamView, frozen=True, kw_only=True):
    """A stream that was just made, with its first key."""

    stream_key: str
    ingest_url: str | None


class StreamViews:
    """Makes the views."""

    def __init__(self, hub: Hub, registry: Registry) -> None:
        self._hub = hub
        self._registry = registry

    def live(self, info: StreamInfo) -> Stream | None:
        """The stream while it is on the air, its publisher's short absences included."""
        stream = self._hub.streams.get(info.id)
        return stream if stream is not None and stream.renditions else None

    def public(self, call: Call, info: StreamInfo) -> StreamView:
        """For everybody who may see it."""
        return StreamView(**self._fields(call, info))

    def new(self, call: Call, info: StreamInfo, key: str) -> NewStreamView:
        """For who made it."""
        ingest_url = next(iter(self._registry.ingest_addresses(call.base)), None)
        return NewStreamView(**self._fields(call, info), stream_key=key, ingest_url=ingest_url)

    def owned(self, call: Call, info: StreamInfo) -> StreamView:
        """For those who may manage it."""
        stream = self._hub.streams.get(info.id)
        publication = stream.publication if stream is not None else None
        fields = self._fields(call, info)
        if stream is not None:
            fields["qualities"] += [_left_out(name, why) for name, why in stream.left_out.items()]
        return StreamView(
            **fields,
            ingest_urls=self._registry.ingest_addresses(call.base),
            outputs=[slot_view(slot) for slot in (stream.outputs if stream is not None else ())],
            publisher=publisher_view(publication) if publication is not None else UNSET,
        )

    def urls(self, call: Call, info: StreamInfo, rendition: str | None = None) -> Mapping[str, str]:
        """Where to watch, by connection type: what the outputs of a live stream say, or where it will be."""
        stream = self.live(info)
        if stream is not None:
            urls = {kind: url for slot in stream.outputs for kind, url in slot.urls(rendition).items()}
        else:
            urls = {
                kind: url for one in self._registry.of(IOutput) for kind, url in _planned(one, info).items()
            }
        return {kind: call.base + url if url.startswith("/") else url for kind, url in urls.items()}

    def _thumbnail(self, call: Call, stream: Stream) -> str | None:
        for running in self._registry.of(IThumbnails):
            try:
                path = running.call(running.instance.thumbnail_url, stream)
            except Detached:
                continue
            if isinstance(path, str):
                return call.base + path
        return None

    def _fields(self, call: Call, info: StreamInfo) -> dict[str, Any]:
        stream = self.live(info)
        return {
            "id": info.id,
            "name": info.name,
            "title": info.title,
            "description": info.description,
            "category": info.category,
            "is_private": info.is_private,
            "recording_enabled": info.recording_enabled,
            "transcoding_profiles": list(info.transcoding_profiles),
            "accepts_publishing": info.accepts_publishing,
            "created_at": info.created_at,
            "is_live": stream is not None,
            "state": stream.state if stream is not None else "idle",
            "started_at": datetime.fromtimestamp(stream.started_at, UTC) if stream is not None else None,
            "viewer_count": stream.viewer_count if stream is not None else 0,
            "max_viewers": max(info.max_viewers, stream.max_viewers if stream is not None else 0),
            "thumbnail_url": self._thumbnail(call, stream) if stream is not None else None,
            "tracks": [_track(track) for track in stream.source.tracks] if stream is not None else [],
            "renditions": [_rendition(one) for one in stream.listed()] if stream is not None else [],
            "qualities": _qualities(stream) if stream is not None else [],
            "notices": list(stream.notices.values()) if stream is not None else [],
            "stream_urls": dict(self.urls(call, info)),
        }


def slot_view(slot: OutputSlot) -> SlotView:
    # The figures are asked first: an output that raises then is failed in the same view.
    stats = dict(slot.stats())
    return SlotView(name=slot.name, state=slot.state, error=slot.error or None, stats=stats)


def publisher_view(publication: Publication) -> PublisherView:
    return PublisherView(
        protocol=publication.protocol,
        address=publication.address,
        encoder=publication.encoder,
        bytes_received=publication.bytes,
        timestamp_jumps=publication.jumps,
    )


def _planned(output: Running, info: StreamInfo) -> Mapping[str, str]:
    """Where an output will show a stream that is not live."""
    try:
        urls = output.call(output.instance.urls, info)
    except Detached:
        return {}
    return urls if isinstance(urls, Mapping) else {}


def _track(track: Track) -> TrackView:
    return TrackView(
        kind="video" if track.is_video else "audio",
        codec=track.codec.value,
        codec_string=track.codec_string,
        profile=track.profile,
        level=track.level,
        width=track.width,
        height=track.height,
        frame_rate=float(track.frame_rate) if track.frame_rate is not None else None,
        sample_rate=track.sample_rate,
        channels=track.channels,
    )


def _rendition(rendition: Rendition) -> RenditionView:
    return RenditionView(
        name=rendition.name,
        bitrate=rendition.bitrate,
        tracks=[_track(track) for track in rendition.tracks],
    )


def _qualities(stream: Stream) -> list[QualityView]:
    """Those that run, and those that would."""
    running = {one.name: one for one in stream.listed()}
    return [
        *(_running(one) for one in running.values()),
        *(_expected(one) for name, one in stream.planned.items() if name not in running),
    ]


def _running(rendition: Rendition) -> QualityView:
    picture = next((track for track in rendition.tracks if track.is_video), None)
    rate = picture.frame_rate if picture is not None else None
    return QualityView(
        name=rendition.name,
        state="running",
        width=picture.width if picture is not None else 0,
        height=picture.height if picture is not None else 0,
        frame_rate=float(rate) if rate is not None else None,
        bitrate=rendition.bitrate,
        reason=None,
    )


def _expected(planned: Planned) -> QualityView:
    return QualityView(
        name=planned.name,
        state="planned",
        width=planned.width,
        height=planned.height,
        frame_rate=float(planned.frame_rate) if planned.frame_rate is not None else None,
        bitrate=planned.average,
        reason=None,
    )


def _left_out(name: str, why: str) -> QualityView:
    return QualityView(name=name, state="left_out", width=0, height=0, frame_rate=None, bitrate=0, reason=why)
