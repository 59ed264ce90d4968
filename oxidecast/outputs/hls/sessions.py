"""Who watches by HLS, told from polling.

The one idea: a session is a token that proves itself (a random part and a keyed hash over it and the stream), so
nothing is remembered for an address that was only looked up, sessions outlive a restart of the server, and a private
stream's token is checked once, where playback starts.
"""

import hmac
import secrets
from collections import Counter
from collections.abc import Callable

from oxidecast.accounts.limits import network_of
from oxidecast.interfaces import IStream, IViewer

LEFT_AFTER = 30.0
"""Seconds without a playlist request after which a viewer has left: longer than any pause between two polls of a
playlist with the longest segments, also over a bad network."""

MOST = 100_000
"""Sessions that are counted at once; beyond it viewers are served uncounted. 10,000 viewers are the goal of one
process."""

MOST_OF_ADDRESS = 1000
"""Of these, sessions that one network has: a venue or a carrier's address may have hundreds of viewers; who invents
more is served, and does not count."""

_FREE, _BOUND = "0", "1"
"""The last character: whether a session is good from everywhere, or from one network."""

_RANDOM = 9
_PROOF = 16


class Sessions:
    """The sessions of one stream."""

    def __init__(self, stream: IStream, secret: bytes, seconds: Callable[[], float]) -> None:
        self._stream = stream
        self._secret = secret
        self._seconds = seconds
        self._viewers: dict[str, tuple[IViewer, list[float]]] = {}
        self._from: Counter[str] = Counter()
        """Of `_viewers`, how many each network has."""
        self._open = True

    def new(self, viewer: str = "", only_for: str = "") -> str:
        """A session for the multivariant playlist to point to. Nobody is counted yet.

        That of a viewer who joined, and so is counted, has the viewer's id in it. One that is `only_for` an address
        opens nothing for another network.
        """
        random = viewer if viewer in self._stream.viewers else secrets.token_urlsafe(_RANDOM)
        kind = _BOUND if only_for else _FREE
        return random + self._proof(random, kind, only_for) + kind

    def valid(self, session: str, address: str) -> bool:
        """Whether `new` of this stream made it, for this address, in this run of the server or an earlier one; of a
        private stream, in this broadcast."""
        if session in self._viewers and session[-1:] == _FREE and not self._stream.info.is_private:
            return True
        random, proof, kind = session[: -_PROOF - 1], session[-_PROOF - 1 : -1], session[-1:]
        return session.isascii() and hmac.compare_digest(proof, self._proof(random, kind, address))

    def seen(self, session: str, address: str) -> None:
        """A valid session asked for a media playlist: its viewer is there."""
        known = self._viewers.get(session)
        if known is not None:
            known[1][0] = self._seconds()
        elif _random(session) in self._stream.viewers:
            pass  # It joined. When it is not heard of any more, and still plays, it is counted here.
        elif self._open and len(self._viewers) < MOST and self._from[network_of(address)] < MOST_OF_ADDRESS:
            self._viewers[session] = (self._stream.viewer("hls", address), [self._seconds()])
            self._from[network_of(address)] += 1

    def sent(self, session: str, rendition: str, size: int) -> None:
        """So many bytes of a segment were answered."""
        known = self._viewers.get(session)
        viewer = known[0] if known is not None else self._stream.viewers.get(_random(session))
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
                network = network_of(viewer.address)
                self._from[network] -= 1
                if not self._from[network]:
                    del self._from[network]

    def close(self) -> None:
        """The stream is over: everybody has left, and nobody is counted any more."""
        self._open = False
        for viewer, _ in self._viewers.values():
            viewer.leave()
        self._viewers.clear()
        self._from.clear()

    def _proof(self, random: str, kind: str, address: str) -> str:
        # A session is all that a private stream asks for after its beginning: that of another broadcast, or of when the
        # stream was public, opens nothing.
        private = f"{self._stream.started_at:.3f}" if self._stream.info.is_private else ""
        network = network_of(address) if kind == _BOUND else ""
        proven = f"{self._stream.id}/{private}/{network}/{random}"
        return hmac.digest(self._secret, proven.encode("utf-8", "surrogatepass"), "sha256").hex()[:_PROOF]


def _random(session: str) -> str:
    return session[: -_PROOF - 1]
