"""Who watches by HLS, told from polling.

The one idea: a session is a token that proves itself (a random part and a keyed hash over it and the stream), so
nothing is remembered for an address that was only looked up, sessions outlive a restart of the server, and a private
stream's token is checked once, where playback starts.
"""

import hmac
import secrets
from collections.abc import Callable

from oxidecast.interfaces import IStream, IViewer

LEFT_AFTER = 30.0
"""Seconds without a playlist request after which a viewer has left: longer than any pause between two polls of a
playlist with the longest segments, also over a bad network."""

MOST = 100_000
"""Sessions that are counted at once; beyond it viewers are served uncounted. 10,000 viewers are the goal of one
process."""

_RANDOM = 9
_PROOF = 16


class Sessions:
    """The sessions of one stream."""

    def __init__(self, stream: IStream, secret: bytes, seconds: Callable[[], float]) -> None:
        self._stream = stream
        self._secret = secret
        self._seconds = seconds
        self._viewers: dict[str, tuple[IViewer, list[float]]] = {}
        self._open = True

    def new(self, viewer: str = "") -> str:
        """A session for the multivariant playlist to point to. Nobody is counted yet.

        That of a viewer who joined, and so is counted, has the viewer's id in it.
        """
        random = viewer if viewer in self._stream.viewers else secrets.token_urlsafe(_RANDOM)
        return random + self._proof(random)

    def valid(self, session: str) -> bool:
        """Whether `new` of this stream made it, in this run of the server or an earlier one."""
        if session in self._viewers:
            return True
        random, proof = session[:-_PROOF], session[-_PROOF:]
        return session.isascii() and hmac.compare_digest(proof, self._proof(random))

    def seen(self, session: str, address: str) -> None:
        """A valid session asked for a media playlist: its viewer is there."""
        known = self._viewers.get(session)
        if known is not None:
            known[1][0] = self._seconds()
        elif session[:-_PROOF] in self._stream.viewers:
            pass  # It joined. When it is not heard of any more, and still plays, it is counted here.
        elif self._open and len(self._viewers) < MOST:
            self._viewers[session] = (self._stream.viewer("hls", address), [self._seconds()])

    def sent(self, session: str, rendition: str, size: int) -> None:
        """So many bytes of a segment were answered."""
        known = self._viewers.get(session)
        viewer = known[0] if known is not None else self._stream.viewers.get(session[:-_PROOF])
        if viewer is not None:
            viewer.rendition = rendition
            viewer.bytes_sent += size

    def sweep(self) -> None:
        """Let go of who has not asked for long."""
        limit = self._seconds() - LEFT_AFTER
        for session, (viewer, last) in list(self._viewers.items()):
            if last[0] < limit:
                del self._viewers[session]
                viewer.leave(last[0])

    def close(self) -> None:
        """The stream is over: everybody has left, and nobody is counted any more."""
        self._open = False
        for viewer, _ in self._viewers.values():
            viewer.leave()
        self._viewers.clear()

    def _proof(self, random: str) -> str:
        return hmac.digest(self._secret, f"{self._stream.id}/{random}".encode(), "sha256").hex()[:_PROOF]
