"""What a change in the database means for what is live.

The one idea: a handler writes, then says here what it wrote. Whoever remembers how it was (the keys that publish while
the database is away) forgets, and whoever lives by it (streams on the air, publishers) hears of it at once.
"""

from oxidecast.accounts.authenticator import KeyAuthenticator
from oxidecast.streams.hub import Hub
from oxidecast.streams.info import StreamInfo


class Consequences:
    """Call after the change is committed: who asks the database later sees it by itself."""

    def __init__(self, hub: Hub, keys: KeyAuthenticator) -> None:
        self._hub = hub
        self._keys = keys

    def stream_changed(self, info: StreamInfo) -> None:
        """Its owner changed something of it."""
        self._keys.forget(info.id)
        stream = self._hub.streams.get(info.id)
        if stream is not None:
            stream.change_info(info)

    def stream_stopped(self, stream_id: str) -> None:
        """Its keys are refused until it is started."""
        self._end(stream_id, "its owner stopped it", "stopped", "This stream was stopped by its owner.")

    def stream_deleted(self, stream_id: str) -> None:
        """It is gone, with its keys."""
        self._end(stream_id, "it was deleted", "deleted", "This stream was deleted.")

    def keys_changed(self, stream_id: str) -> None:
        """One of its keys publishes no more, or not for long. Who publishes goes on."""
        self._keys.forget(stream_id)

    def key_revoked(self, stream_id: str, key_id: str) -> None:
        """Who publishes with it is cut; the stream waits for another publisher."""
        self._keys.forget(stream_id)
        stream = self._hub.streams.get(stream_id)
        if stream is not None:
            stream.cut(key_id, "key_revoked", "This stream key was revoked.")

    def everything_changed(self) -> None:
        """It may have, for all that is known. What is live goes on."""
        self._keys.forget_all()

    def account_changed(self, user_id: str) -> None:
        """It may have been disabled, or enabled again. What is live of it goes on."""
        self._keys.forget_owner(user_id)

    def account_ended(self, user_id: str) -> None:
        """It was disabled or deleted: its keys publish no more, and what is live of it ends."""
        sentence = "The account that this stream belongs to is disabled."
        self._end_all(user_id, "its owner's account was disabled", "account_disabled", sentence)

    def account_demoted(self, user_id: str) -> None:
        """Its role permits it to publish no more: what is live of it ends."""
        sentence = "The account that this stream belongs to may not publish any more."
        self._end_all(user_id, "its owner may not publish any more", "role_may_not", sentence)

    def _end_all(self, user_id: str, reason: str, code: str, sentence: str) -> None:
        self._keys.forget_owner(user_id)
        for stream in list(self._hub.streams.values()):
            if stream.info.owner_id == user_id:
                stream.end(reason, code, sentence)

    def _end(self, stream_id: str, reason: str, code: str, sentence: str) -> None:
        self._keys.forget(stream_id)
        stream = self._hub.streams.get(stream_id)
        if stream is not None:
            stream.end(reason, code, sentence)
