"""From HTTP to HTTPS, where the settings ask for it.

The one idea: people and API clients are sent on, programs that ask for a fixed address are not. Load balancers look at
`/health` and `/ready` and Prometheus at `/metrics` by plain HTTP, and a player that loads a stream's media so goes on.
"""
# twisted.web carries few annotations.
# mypy: allow-untyped-calls

import re
from collections.abc import Callable, Collection, Sequence

from twisted.web.http import PERMANENT_REDIRECT
from twisted.web.resource import Resource
from twisted.web.server import Request

from oxidecast.web.request import SiteRequest, host_of


class ToHTTPS(Resource):
    """Answers 308 (RFC 9110, 15.4.9), which keeps the method. `port()` is that of HTTPS, 0 for no redirect; `stay` are
    the beginnings of paths, by segment, that are answered as they are."""

    isLeaf = True

    def __init__(self, port: Callable[[], int], stay: Collection[Sequence[bytes]]) -> None:
        super().__init__()
        self._port = port
        self._stay = [list(path) for path in stay]

    def takes(self, request: Request) -> bool:
        """Whether this request is to be sent on."""
        if not self._port() or request.isSecure():
            return False
        path = request.postpath or []
        return not any(path[: len(beginning)] == beginning for beginning in self._stay)

    def render(self, request: SiteRequest) -> bytes:
        base = self._base(request)
        if base is None or not request.uri.startswith(b"/"):
            return request.refuse(400)
        request.setResponseCode(PERMANENT_REDIRECT)
        request.setHeader(b"Location", base.encode() + request.uri)
        # A browser would keep it for ever, and the operator may change his mind.
        request.setHeader(b"Cache-Control", b"no-store")
        return b""

    def _base(self, request: SiteRequest) -> str | None:
        """`https://HOST:PORT`: the server's own name for itself, or the one that the client used."""
        public: str = request.site.public_url()
        if public.startswith("https://"):
            return public
        host, port = host_of(request), self._port()
        if host is None:
            return None
        return f"https://{re.sub(r':[0-9]+$', '', host)}" + (f":{port}" if port != 443 else "")
