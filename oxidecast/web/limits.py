"""Those who ask too often, told so in the API's words.

Calls of the API are counted by the API itself, which knows users, and which origins may read its refusals. The rest,
media and WebSocket connections, is counted here, for the port to ask before anybody answers.
"""

from collections.abc import Callable

from oxidecast.accounts.admission import Admission
from oxidecast.delivery.envelope import envelope
from oxidecast.delivery.hot import HotAnswer, HotRequest
from oxidecast.delivery.http_parser import Incoming

OFFERS = b"/whep"
"""There viewers post their offers: each is parsed, and may have a token looked at."""

CODE = "rate_limited"
SENTENCE = "Too many requests: try again in {wait} s."


class PortLimits:
    """What the port asks of each request: the answer, or None to let it pass. `seconds()` since 1970."""

    def __init__(self, admission: Admission, seconds: Callable[[], float]) -> None:
        self._admission = admission
        self._seconds = seconds

    def hot(self, request: HotRequest) -> HotAnswer | None:
        """Media. Nobody need ask while there is no such limit."""
        return self._ask("media", request)

    def cold(self, request: Incoming) -> HotAnswer | None:
        """A viewer's new connection, by WebSocket or WebRTC; whatever else is let pass."""
        offers = request.method == b"POST" and request.raw_path.endswith(OFFERS)
        return self._ask("websocket", request) if request.upgrade or offers else None

    def _ask(self, kind: str, request: HotRequest) -> HotAnswer | None:
        wait = self._admission.take(kind, str(getattr(request.client, "host", "")))
        if not wait:
            return None
        return HotAnswer(
            envelope(self._seconds(), error=SENTENCE.format(wait=wait), code=CODE),
            b"application/json",
            status=429,
            cache_control=b"no-store",
            cors=True,
            headers=((b"Retry-After", b"%d" % wait),),
        )
