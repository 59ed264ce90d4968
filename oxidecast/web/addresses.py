"""Where a stream is watched by one type of connection, as one viewer is told it."""

from urllib.parse import quote

from oxidecast.accounts.tokens import Tokens
from oxidecast.streams.info import StreamInfo
from oxidecast.web.api import ApiError, Call, Query, invalid
from oxidecast.web.stream_views import StreamViews

CONNECTION_TYPES = ("hls", "webrtc", "multicast", "rtmp", "flv", "websocket")

WITHOUT_QUERY = frozenset({"udp", "rtp"})
"""Schemes of addresses at which nobody asks for anything: who knows them can watch."""

TOKEN = Query("token", str, "For a private stream: a playback token, or an access token.")


class Addresses:
    """The addresses, for callers who may see the stream."""

    def __init__(self, views: StreamViews, tokens: Tokens) -> None:
        self._views = views
        self._tokens = tokens

    def of(self, call: Call, info: StreamInfo, kind: str, rendition: str | None = None) -> str:
        """The address; that of a private stream has a fresh playback token in it. Raises ApiError where the stream
        cannot be watched so, now or ever."""
        urls = self._views.urls(call, info, rendition)
        url = urls.get(kind)
        if url is None and kind not in CONNECTION_TYPES:
            known = ", ".join(dict.fromkeys((*CONNECTION_TYPES, *urls)))
            raise invalid("connection_type", f"expected one of {known}")
        if url is None:
            raise not_live(f"This stream cannot be watched by {kind} now.")
        return with_parameter(url, "token", self._tokens.playback(info.id)) if info.is_private else url


def with_parameter(url: str, name: str, value: str) -> str:
    """An address with one more parameter in its query, where that means anything."""
    if url.partition("://")[0] in WITHOUT_QUERY:
        return url
    return f"{url}{'&' if '?' in url else '?'}{name}={quote(value)}"


def not_live(sentence: str) -> ApiError:
    return ApiError(404, "not_live", sentence, [("Retry-After", "2")])
