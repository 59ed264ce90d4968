"""Where a stream is watched by one type of connection, as one viewer is told it."""

from collections.abc import Callable
from urllib.parse import quote

from oxidecast.accounts.errors import InvalidToken
from oxidecast.accounts.roles import may_manage
from oxidecast.accounts.tokens import PLAYBACK_LIFETIME, PlaybackClaims, Tokens
from oxidecast.streams.info import StreamInfo
from oxidecast.streams.stream import Stream
from oxidecast.web.api import ApiError, Call, Query, invalid
from oxidecast.web.stream_views import StreamViews

CONNECTION_TYPES = ("hls", "webrtc", "multicast", "rtmp", "flv", "websocket")

WITHOUT_QUERY = frozenset({"udp", "rtp"})
"""Schemes of addresses at which nobody asks for anything: who knows them can watch."""

ROOM_AGAIN = 30.0
"""Seconds after which to ask again for a quality that cannot be made: another stream has to end, or be left."""

TOKEN = Query("token", str, "For a private stream: a playback token, or an access token.")

BIND = Query(
    "bind_address",
    bool,
    "Whether the token in the answer, where there is one, is good only from the address that asks for it.",
)


QUALITY = Query(
    "quality_profile",
    str,
    "One quality of a live stream, such as source or 720p, instead of all that it has.",
)


class Addresses:
    """The addresses, for callers who may see the stream. `binds()` says whether every token is for the address that
    asks for it (`auth.bind_playback_tokens`)."""

    def __init__(self, views: StreamViews, tokens: Tokens, binds: Callable[[], bool]) -> None:
        self._views = views
        self._tokens = tokens
        self._binds = binds

    def of(
        self, call: Call, info: StreamInfo, kind: str, rendition: str | None = None, *, bind: bool = False
    ) -> str:
        """The address; that of a private stream has a fresh playback token in it, which is for the caller's address
        alone when it is to `bind`. Raises ApiError where the stream cannot be watched so, now or ever."""
        urls = self._views.urls(call, info, rendition)
        url = urls.get(kind)
        if url is None and kind not in CONNECTION_TYPES:
            known = ", ".join(dict.fromkeys((*CONNECTION_TYPES, *urls)))
            raise invalid("connection_type", f"expected one of {known}")
        if url is None:
            quality = f" as {rendition}" if rendition is not None else ""
            raise not_live(f"This stream cannot be watched by {kind}{quality} now.")
        if not info.is_private:
            return url
        return self.opening(call, url, info.id, PLAYBACK_LIFETIME, bind, self._came_by(call, info))

    def opening(
        self,
        call: Call,
        url: str,
        subject: str,
        lifetime: float,
        bind: bool,
        came_by: PlaybackClaims | None = None,
    ) -> str:
        """The address with a token in it that opens what has the id `subject`. It ends with the tokens of the account
        that asks for it; what a caller gets who has no more than a token itself, is no better than that."""
        bound = bind or self._binds() or (came_by is not None and came_by.net is not None)
        by = (call.user.id, call.user.token_generation) if call.user is not None else None
        if came_by is not None:
            # A token opens the stream for as long as it says; it does not renew itself.
            lifetime, by = min(lifetime, came_by.exp - self._tokens.seconds()), came_by.by
        token = self._tokens.playback(subject, call.address if bound else None, lifetime, by)
        return with_parameter(url, "token", token)

    def _came_by(self, call: Call, info: StreamInfo) -> PlaybackClaims | None:
        """The playback token of a caller who is nobody more than its holder."""
        if call.user is not None and may_manage(call.user, info):
            return None
        try:
            return self._tokens.verify_playback(call.query("token") or "", info.id, call.address)
        except InvalidToken:
            return None


def qualities(stream: Stream) -> list[str]:
    """The names of what can be watched of a live stream: what runs, and what is made as soon as somebody asks."""
    return list(dict.fromkeys((*(one.name for one in stream.listed()), *stream.planned)))


def to_be_had(stream: Stream, quality: str) -> None:
    """Raise ApiError when the stream's owner chose this quality, but it is not made of this source, or not now."""
    if quality not in stream.info.transcoding_profiles or quality in qualities(stream):
        return
    why = stream.left_out.get(quality, stream.withheld)
    if why and why == stream.withheld:
        sentence = f"The quality {quality} is not to be had now: {why}."
        raise ApiError(503, "no_quality", sentence, [("Retry-After", f"{ROOM_AGAIN:.0f}")])
    if why:
        raise invalid("quality_profile", f"{quality} is not made of this stream: {why}")


def is_unasked(url: str) -> bool:
    """Whether nobody asks for anything at this address: what is sent there must be wanted by other ways."""
    return url.partition("://")[0] in WITHOUT_QUERY


def with_parameter(url: str, name: str, value: str) -> str:
    """An address with one more parameter in its query, where that means anything."""
    if is_unasked(url):
        return url
    return f"{url}{'&' if '?' in url else '?'}{name}={quote(value)}"


def not_live(sentence: str) -> ApiError:
    return ApiError(404, "not_live", sentence, [("Retry-After", "2")])
