"""What posts say: an id, a type, a time, and the data of the type.

The one idea: an event is made into bytes once, and those bytes go to every endpoint. No stream key is ever in one.
"""

import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any, NamedTuple

import msgspec

from oxidecast.interfaces import IStream, PublishRefusal
from oxidecast.media import Track
from oxidecast.webhooks.signature import sign

LONGEST_TEXT = 200
"""Characters of what a stranger called itself: an encoder's name."""


class Event(NamedTuple):
    """Something to be posted."""

    id: str
    """Random; the same in every try. It holds no full stop (see `sign`)."""
    type: str
    at: float
    """UTC seconds."""
    body: bytes

    def headers(self, now: float, key: bytes) -> dict[str, str]:
        """Signed for a try at `now`."""
        return sign(self.id, int(now), self.body, key)


def event(type: str, at: float, data: Mapping[str, Any]) -> Event:
    id = f"evt_{secrets.token_hex(16)}"
    body = msgspec.json.encode({"id": id, "type": type, "timestamp": timestamp(at), "data": data})
    return Event(id, type, at, body)


def timestamp(at: float) -> str:
    """RFC 3339, in UTC."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def described(info: Any) -> dict[str, Any]:
    """A stream (its `StreamInfo`), as everything that is posted names it."""
    return {
        "id": info.id,
        "name": info.name,
        "title": info.title,
        "owner_id": info.owner_id,
        "is_private": info.is_private,
    }


def started(stream: IStream) -> dict[str, Any]:
    source = stream.renditions.get("source")
    return {
        "stream": described(stream.info),
        "started_at": timestamp(stream.started_at),
        "tracks": [_track(track) for track in (source.tracks if source is not None else ())],
    }


def stopped(stream: IStream, reason: str, now: float) -> dict[str, Any]:
    return {
        "stream": described(stream.info),
        "reason": reason,
        "started_at": timestamp(stream.started_at),
        "seconds": round(max(now - stream.started_at, 0), 3),
    }


def noticed(stream: IStream, key: str, sentence: str) -> dict[str, Any]:
    """What its owner is told, with the name of what it is about."""
    return {"stream": described(stream.info), "about": key, "sentence": sentence}


def recorded(stream: IStream, path: str) -> dict[str, Any]:
    """The recording's id, by which the API has it: where this server keeps its files is for nobody else."""
    return {"stream": described(stream.info), "recording": PurePath(path).stem[-36:]}


def refused(refusal: PublishRefusal, now: float) -> dict[str, Any]:
    return {
        "at": timestamp(now),
        "protocol": refusal.protocol,
        "address": refusal.address,
        "encoder": refusal.encoder[:LONGEST_TEXT],
        "code": refusal.code,
        "sentence": refusal.sentence,
        "stream": described(refusal.stream) if refusal.stream is not None else None,
    }


def viewed(stream: IStream, viewer: Any, now: float) -> dict[str, Any]:
    """Somebody joined, or left."""
    return {
        "at": timestamp(now),
        "viewer": viewer.id,
        "stream": {"id": stream.id, "name": stream.name},
        "output": viewer.output,
        "address": viewer.address,
        "seconds": round(max(now - viewer.joined, 0), 3),
    }


def batch(kinds: Sequence[str], items: Sequence[tuple[str, Any]], omitted: int) -> dict[str, Any]:
    """Items by their kind, in the order in which they came, and how many more there were."""
    return {kind: [item for of, item in items if of == kind] for kind in kinds} | {"omitted": omitted}


def _track(track: Track) -> dict[str, Any]:
    about: dict[str, Any] = {"codec": track.codec_string}
    if track.is_video:
        return about | {"kind": "video", "width": track.width, "height": track.height}
    return about | {"kind": "audio", "sample_rate": track.sample_rate, "channels": track.channels}
