"""`/api/v1/multicast/channels.m3u` and `.json`: what can be received now, for players and for programs."""

from collections.abc import Callable, Iterator
from typing import Any

from twisted.web.http import Request
from twisted.web.resource import Resource

from oxidecast.delivery.envelope import envelope
from oxidecast.formats.m3u import CONTENT_TYPE, channel_list
from oxidecast.interfaces import IStream
from oxidecast.outputs.multicast.group import Group

Groups = Callable[[], Iterator[tuple[IStream, Group]]]


class ChannelsResource(Resource):
    """Public streams only: an address is all that it takes to watch."""

    isLeaf = True

    def __init__(self, groups: Groups, seconds: Callable[[], float]) -> None:
        super().__init__()
        self._groups = groups
        self._seconds = seconds

    def render_GET(self, request: Request) -> bytes:
        request.setHeader("Access-Control-Allow-Origin", "*")
        request.setHeader("Cache-Control", "no-store")
        request.setHeader("X-Content-Type-Options", "nosniff")
        asked = b"/".join(request.postpath or ())  # type: ignore[attr-defined]
        groups = sorted(self._groups(), key=lambda pair: pair[1].number)
        if asked == b"channels.m3u":
            request.setHeader("Content-Type", CONTENT_TYPE)
            return channel_list(group.channel() for _, group in groups).encode()
        request.setHeader("Content-Type", "application/json")
        if asked == b"channels.json":
            return envelope(self._seconds(), {"channels": [_channel(*pair) for pair in groups]})
        request.setResponseCode(404)
        return envelope(
            self._seconds(), error="There is channels.m3u here, and channels.json.", code="not_found"
        )


def _channel(stream: IStream, group: Group) -> dict[str, Any]:
    sender = [sock.source for sock in group.sink.sockets if sock.source]
    return {
        "stream": stream.name,
        "title": stream.info.title,
        "category": stream.info.category,
        "rendition": group.rendition,
        "url": group.channel().uri,
        "group": group.group,
        "port": group.port,
        "sources": sender,
        "bitrate": group.bitrate,
        "tracks": [track.codec_string for track in group.tracks],
    }
