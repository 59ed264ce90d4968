"""The server's own authenticator: stream keys open publishing, tokens open private streams."""

from contextlib import suppress
from typing import Any

from zope.interface import implementer

from oxidecast.accounts.accounts import Accounts
from oxidecast.accounts.authenticator import KeyAuthenticator, OpenAuthenticator
from oxidecast.accounts.errors import InvalidToken, PublishRefused
from oxidecast.accounts.roles import may_manage
from oxidecast.accounts.tokens import PlaybackClaims, Tokens
from oxidecast.database.errors import DatabaseUnavailable
from oxidecast.interfaces import HERE, IAuthenticator, PlayRequest, PublishRequest, Refused, Unconvinced
from oxidecast.streams.info import Grant


@implementer(IAuthenticator)
class AccountsGate:
    """`open_for` names the ingests that take any text for a key (`rtmp.enable_auth = false`)."""

    def __init__(
        self,
        keys: KeyAuthenticator,
        anybody: OpenAuthenticator,
        accounts: Accounts,
        tokens: Tokens,
        open_for: frozenset[str] = frozenset(),
    ) -> None:
        self._keys = keys
        self._anybody = anybody
        self._accounts = accounts
        self._tokens = tokens
        self._open_for = open_for

    async def may_publish(self, request: PublishRequest) -> Grant | None:
        try:
            return await self._keys.authenticate_publish(request.key, request.address)
        except PublishRefused as refused:
            if request.protocol in self._open_for:
                if refused.code not in ("unknown_key", "unavailable") or self._keys.is_key(request.key):
                    raise Refused(refused.code, str(refused))  # A key, of whatever worth, is nobody's name.
            elif refused.code == "unknown_key":
                return None
            else:
                raise Refused(refused.code, str(refused))
        try:
            return await self._anybody.authenticate_publish(request.key, request.address)
        except PublishRefused as refused:
            raise Refused(refused.code, str(refused))

    async def may_play(self, stream: Any, request: PlayRequest) -> bool | str | None:
        if not stream.is_private or not request.token:
            return None
        try:
            claims = self._tokens.verify_playback(request.token, stream.id, request.address)
            await self._stands(claims)
            return True if claims.net is None else HERE
        except InvalidToken as error:
            playback = error
        try:
            return may_manage(await self._accounts.bearer(request.token), stream) or None
        except InvalidToken as access:
            # A token is of one kind: only for its own kind can it have expired.
            invalid = playback if playback.code == "token_expired" else access
            raise Unconvinced(invalid.code, str(invalid))
        except DatabaseUnavailable:
            raise Unconvinced("unavailable", "The server cannot check tokens at the moment: try again later.")

    async def _stands(self, claims: PlaybackClaims) -> None:
        """Raises InvalidToken. What is live is watched also while the database is away: its tokens are short."""
        with suppress(DatabaseUnavailable):
            await self._accounts.giver(claims)
