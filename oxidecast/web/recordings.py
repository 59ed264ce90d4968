"""`/recordings`: what was recorded, for who owns it: listed, played, downloaded, deleted.

A player cannot send a Bearer header, so the file also opens by an address with a token that is good for this recording
alone, and for as long as watching it takes. Where a file lies is told to nobody.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import Any, Literal, get_args

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from oxidecast.accounts.accounts import Accounts
from oxidecast.accounts.errors import InvalidToken
from oxidecast.accounts.roles import Permission, may
from oxidecast.accounts.tokens import Tokens
from oxidecast.database.recordings import Recording, Recordings, Sort, State, version
from oxidecast.database.users import User
from oxidecast.delivery.files import EXPOSED, Unsatisfiable, send_file
from oxidecast.delivery.stored import InUse, Store
from oxidecast.interfaces import IOutput, IRecorder
from oxidecast.registry import Registry
from oxidecast.streams.info import is_stream_id, is_stream_name
from oxidecast.web.addresses import BIND, Addresses
from oxidecast.web.api import (
    ANSWERED,
    PAGING,
    Answered,
    ApiError,
    Call,
    Page,
    Query,
    Reply,
    Route,
    invalid,
    not_found,
    unauthorised,
)
from oxidecast.web.fields import Time, Title
from oxidecast.web.tags import etag, expected, require

MEDIA_TYPE = "video/mp4"

LEAST_TOKEN = 3600.0
"""Seconds for which an address with a token opens its recording, besides the recording's own length: a player asks for
ranges of the file until who watches it is through, pauses included."""

YES = ("1", "true")


class RecordingView(msgspec.Struct, frozen=True, kw_only=True):
    """A recording. `stream` and `stream_id` are null when the stream was deleted, `ended_at` while it is written.
    Recordings of one time on the air have the same `broadcast_id`, once they are over, where it is known. `duration` is
    in seconds, `size` in bytes; `error` says why it failed, or what else was odd."""

    id: str
    title: str
    stream: str | None
    stream_id: str | None
    broadcast_id: str | None
    owner_id: str | None
    state: State
    error: str | None
    started_at: Time
    ended_at: Time | None
    duration: float
    size: int
    file_url: str


class RecordingChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What can be changed."""

    title: Title


class RecordingAddress(msgspec.Struct, frozen=True):
    """An address that opens the file without a login, for `expires_in` seconds."""

    url: str
    expires_in: float


class RecordingRoutes:
    """The handlers."""

    log = Logger()

    def __init__(
        self,
        recordings: Recordings,
        accounts: Accounts,
        store: Store,
        registry: Registry,
        tokens: Tokens,
        addresses: Addresses,
        reactor: Any,
    ) -> None:
        self._recordings = recordings
        self._accounts = accounts
        self._store = store
        self._registry = registry
        self._tokens = tokens
        self._addresses = addresses
        self._reactor = reactor

    def routes(self) -> Sequence[Route]:
        every, one = "/recordings", "/recordings/{recording}"
        filters = (
            Query("stream", str, "Only those of this stream, by its name or id."),
            Query("state", State, "Only those in this state."),
            Query("q", str, "A part of the title, or of the stream's name."),
            Query("sort", Sort, "By start or by size; with a dash the latest or largest first."),
        )
        download = Query(
            "download",
            Literal["0", "1", "true", "false"],
            "Whether a browser keeps it instead of playing it.",
        )
        token = Query("token", str, "A token from /url, where no access token is sent.")
        return (
            Route(
                "GET",
                every,
                self.list,
                login=True,
                answer=Page[RecordingView],
                query=(*PAGING, *filters),
            ),
            Route("GET", one, self.show, login=True, answer=RecordingView),
            Route(
                "PATCH",
                one,
                self.change,
                login=True,
                body=RecordingChange,
                answer=RecordingView,
                if_match=True,
            ),
            Route("DELETE", one, self.delete, login=True, refusals=(409,), if_match=True),
            Route("GET", f"{one}/url", self.url, login=True, answer=RecordingAddress, query=(BIND,)),
            Route("GET", f"{one}/file", self.file, query=(download, token), media=MEDIA_TYPE, limit="media"),
        )

    async def list(self, call: Call) -> Page[RecordingView]:
        """The caller's recordings, latest first; for administrators everybody's."""
        user = call.authenticated()
        page, limit = call.paging()
        state: Any = call.choice("state", get_args(State))
        sort: Any = call.choice("sort", get_args(Sort)) or "-started"
        stream = call.query("stream")
        if stream is not None and not is_stream_name(stream) and not is_stream_id(stream):
            return Page([], 0, page, limit, 0)
        found = await self._recordings.page(
            page,
            limit,
            owner_id=None if may(user, Permission.MANAGE_ANY_STREAM) else user.id,
            stream=stream,
            state=state,
            q=call.query("q"),
            sort=sort,
        )
        views = [_view(call, one) for one in found.items]
        return Page(views, found.total, page, limit, found.total_pages)

    async def show(self, call: Call) -> Reply:
        """One recording. Its ETag is of its title."""
        return _tagged(call, await self._managed(call))

    async def change(self, call: Call) -> Reply:
        """Give a recording another title."""
        title = call.body(RecordingChange).title.strip()
        if not title:
            raise invalid("title", "expected more than spaces")
        one = await self._managed(call)
        if not await self._recordings.rename(one.id, title, call.actor, expected(call)):
            raise not_found("There is no such recording.")
        return _tagged(call, msgspec.structs.replace(one, title=title))

    async def delete(self, call: Call) -> None:
        """Delete a recording with its file; one that is being written is stopped before. A recording that is not there
        is as good as deleted."""
        one = await self._found(call)
        if one is None:
            return
        _require(call.authenticated(), one)
        require(call, version(one))  # No transaction has the file in it, which goes first.
        for running in self._registry.of(IOutput):
            if IRecorder.providedBy(running.instance):
                await running.instance.stop_recording(one.id)
        try:
            await self._in_thread(self._store.remove, one.path)
        except InUse:
            raise ApiError(409, "in_use", "Another server is writing this recording: stop its stream first.")
        except (OSError, ValueError) as error:
            self._say("removed", one, error)
            raise ApiError(500, "internal", "The file of this recording could not be removed.")
        await self._recordings.delete(one.id, call.actor)

    async def url(self, call: Call) -> RecordingAddress:
        """An address for players and links, which opens the file without a login for some time."""
        one = await self._managed(call)
        lifetime = LEAST_TOKEN + one.duration
        bind = call.flag("bind_address") or False
        url = self._addresses.opening(call, _file_url(call, one), one.id, lifetime, bind)
        return RecordingAddress(url, float(int(lifetime)))

    async def file(self, call: Call) -> Answered:
        """The file, or with a `Range` header one range of it: to play, or with `download=1` to keep. Of one that is
        being written, what there is so far."""
        download = call.choice("download", (*YES, "0", "false")) in YES
        one = await self._playable(call)
        try:
            file, length = await self._opened(one)
        except (OSError, ValueError) as error:
            self._say("opened", one, error)
            raise not_found("The file of this recording is not here any more.")
        request = call.request
        name = _file_name(one)
        fields = {
            "Content-Type": MEDIA_TYPE,
            "Content-Disposition": f'{"attachment" if download else "inline"}; filename="{name}"',
            "Cache-Control": "private, no-cache",
            "X-Content-Type-Options": "nosniff",
        }
        for field, value in fields.items():
            request.setHeader(field, value)
        if request.responseHeaders.hasHeader("access-control-allow-origin"):
            request.setHeader("Access-Control-Expose-Headers", EXPOSED)
        try:
            send_file(request, file, length, f"{one.id}-{one.state}-{length}", self._in_thread)
        except Unsatisfiable as error:
            os.close(file)
            for field in (*fields, "ETag"):
                request.responseHeaders.removeHeader(field)
            raise ApiError(
                416,
                "range_not_satisfiable",
                "The range begins behind the end of the file.",
                [("Content-Range", f"bytes */{error.length}")],
            )
        return ANSWERED

    # -- inside

    async def _found(self, call: Call) -> Recording | None:
        return await self._recordings.get(call.arguments["recording"])

    async def _managed(self, call: Call) -> Recording:
        """The recording of the path, which the caller must own, or be an administrator."""
        user = call.authenticated()
        one = await self._found(call)
        if one is None:
            raise not_found("There is no such recording.")
        _require(user, one)
        return one

    async def _playable(self, call: Call) -> Recording:
        """The same, or whoever has a token for it."""
        token = call.query("token")
        if call.user is not None or token is None:
            return await self._managed(call)
        try:
            claims = self._tokens.verify_playback(token, call.arguments["recording"], call.address)
            giver = await self._accounts.giver(claims)
        except InvalidToken as error:
            raise unauthorised(str(error), error.code)
        one = await self._found(call)
        if one is None:
            raise not_found("There is no such recording.")
        owner = await self._accounts.users.by_id(one.owner_id) if one.owner_id is not None else None
        # What an administrator gave away ends with the owner's account, too.
        ended = owner is not None and owner.disabled
        if ended or (giver is not None and not _may_manage(giver, one)):
            raise unauthorised(str(InvalidToken()), InvalidToken().code)
        return one

    def _opened(self, one: Recording) -> Deferred[tuple[int, int]]:
        """The open file and its length; when nobody waits for it any more, it is closed again."""
        wanted: Deferred[tuple[int, int]] = Deferred()

        def opened(file: tuple[int, int]) -> None:
            if wanted.called:
                os.close(file[0])
            else:
                wanted.callback(file)

        def failed(failure: Failure) -> None:
            if not wanted.called:
                wanted.errback(failure)

        self._in_thread(self._store.open, one.path).addCallbacks(opened, failed)
        return wanted

    def _say(self, what: str, one: Recording, error: OSError | ValueError) -> None:
        """What an error says of itself names the path."""
        why = getattr(error, "strerror", None) or "its name is none of ours"
        self.log.error("recording {id} could not be {what}: {why}", id=one.id, what=what, why=why)

    def _in_thread(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), function, *args)


def _may_manage(user: User, one: Recording) -> bool:
    owns = user.id == one.owner_id and not user.disabled
    return owns or may(user, Permission.MANAGE_ANY_STREAM)


def _require(user: User, one: Recording) -> None:
    """Whose it is not does not learn that it is there."""
    if not _may_manage(user, one):
        raise not_found("There is no such recording.")


def _file_url(call: Call, one: Recording) -> str:
    return f"{call.base}/api/v1/recordings/{one.id}/file"


def _file_name(one: Recording) -> str:
    """What the file is called where it is kept: the stream's name and the start, as the server's own begins."""
    return f"{PurePosixPath(one.path).stem.removesuffix(f'-{one.id}')}.mp4"


def _tagged(call: Call, one: Recording) -> Reply:
    return Reply(_view(call, one), headers=[etag(version(one))])


def _view(call: Call, one: Recording) -> RecordingView:
    return RecordingView(
        id=one.id,
        title=one.title,
        stream=one.stream_name,
        stream_id=one.stream_id,
        broadcast_id=one.session_id,
        owner_id=one.owner_id,
        state=one.state,
        error=one.error or None,
        started_at=one.started_at,
        ended_at=one.ended_at,
        duration=one.duration,
        size=one.size,
        file_url=_file_url(call, one),
    )
