"""Which stream a path means, and whether the caller may see or manage it."""

from contextlib import suppress

from oxidecast.accounts.accounts import Accounts
from oxidecast.accounts.errors import InvalidToken
from oxidecast.accounts.roles import may_manage
from oxidecast.database.errors import DatabaseUnavailable
from oxidecast.database.streams import Streams
from oxidecast.interfaces import PlayRequest, Refused
from oxidecast.streams.hub import Hub
from oxidecast.streams.info import StreamInfo, is_stream_id, is_stream_name
from oxidecast.web.api import ApiError, Call, not_found, unauthorised


class StreamAccess:
    """Finds the `{stream}` of a path, for the handlers of everything below it."""

    def __init__(self, hub: Hub, streams: Streams, accounts: Accounts) -> None:
        self._hub = hub
        self._streams = streams
        self._accounts = accounts

    async def find(self, call: Call) -> StreamInfo | None:
        """The stream that somebody made, if there is one."""
        reference = call.arguments["stream"]
        if not is_stream_name(reference) and not is_stream_id(reference):
            return None  # What no stream can be called never gets to the database.
        return await self._streams.find(reference)

    async def visible(self, call: Call) -> StreamInfo:
        """The stream of the path, if the caller may see it."""
        live = self._hub.find(call.arguments["stream"])
        try:
            info = await self.find(call)
        except DatabaseUnavailable:
            if live is None:
                raise
            info = None  # Who watches what is live does not wait for the database.
        if info is None:
            # A stream without an account exists only while it is live (`rtmp.enable_auth = false`).
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
                if call.unchecked is not None:
                    raise call.unchecked
                if call.user is not None:
                    raise ApiError(403, "forbidden", "This stream is private, and not yours.")
                raise unauthorised(refused.sentence, refused.code)
            if call.user is None:
                # An access token in the address says who asks, as one in the header does.
                with suppress(InvalidToken, DatabaseUnavailable):
                    call.user = await self._accounts.bearer(token)
        return info

    async def managed(self, call: Call) -> StreamInfo:
        """The stream of the path, which the caller must own, or be an administrator."""
        info = await self.managed_or_none(call)
        if info is None:
            raise not_found("There is no such stream.")
        return info

    async def managed_or_none(self, call: Call) -> StreamInfo | None:
        """The same, where it is no mistake that there is none."""
        user = call.authenticated()
        info = await self.find(call)
        if info is None or may_manage(user, info):
            return info
        if info.is_private:
            raise not_found("There is no such stream.")
        raise ApiError(403, "forbidden", "This stream is not yours.")
