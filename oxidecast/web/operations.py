"""`/health`, `/ready` and `/metrics`: for those who run the server, and the keys by which others check its tokens."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from twisted.web.http import Request
from twisted.web.resource import Resource

from oxidecast.formats.addresses import Networks
from oxidecast.metrics.prometheus import CONTENT_TYPE, Metrics
from oxidecast.web.protection import DATA

KEYS_AGE = 300
"""Seconds for which others may remember our public keys."""


class Health(Resource):
    """Alive: the reactor turns. A database that is away is named, and no reason to restart: live media goes on."""

    isLeaf = True

    def __init__(self, database_away: Callable[[], bool]) -> None:
        super().__init__()
        self._database_away = database_away

    def render_GET(self, request: Request) -> bytes:
        return _json(request, 200, {"status": "ok", "database": "away" if self._database_away() else "ok"})


class Ready(Resource):
    """Whether the server can do its work. `reasons()` names what is missing."""

    isLeaf = True

    def __init__(self, reasons: Callable[[], Sequence[str]]) -> None:
        super().__init__()
        self._reasons = reasons

    def render_GET(self, request: Request) -> bytes:
        reasons = list(self._reasons())
        if reasons:
            return _json(request, 503, {"status": "not ready", "reasons": reasons})
        return _json(request, 200, {"status": "ready"})


class MetricsResource(Resource):
    """For the networks that the settings allow."""

    isLeaf = True

    def __init__(self, metrics: Metrics, allow: Callable[[], Sequence[str]]) -> None:
        super().__init__()
        self._metrics = metrics
        self._allow = allow

    def render_GET(self, request: Request) -> bytes:
        if not self._is_allowed(getattr(request.getClientAddress(), "host", "")):
            return _json(request, 403, {"error": "This address may not read the metrics."})
        request.setHeader("Content-Type", CONTENT_TYPE)
        for name, value in DATA.items():
            request.setHeader(name, value)
        return self._metrics.render()

    def _is_allowed(self, host: str) -> bool:
        return host in Networks(self._allow())


class KeySet(Resource):
    """`/.well-known/jwks.json` (RFC 7517, 5): the public keys that our tokens are signed with. Empty where a secret
    signs them, which only this server can check."""

    isLeaf = True

    def __init__(self, keys: Callable[[], Sequence[Mapping[str, str]]]) -> None:
        super().__init__()
        self._keys = keys

    def render_GET(self, request: Request) -> bytes:
        body = _json(request, 200, {"keys": list(self._keys())})
        request.setHeader("Access-Control-Allow-Origin", "*")
        # So long a new key has to be listed before it signs, for everybody to know it.
        request.setHeader("Cache-Control", f"public, max-age={KEYS_AGE}")
        return body


def _json(request: Request, status: int, data: Any) -> bytes:
    request.setResponseCode(status)
    request.setHeader("Content-Type", "application/json")
    request.setHeader("Cache-Control", "no-store")
    for name, value in DATA.items():
        request.setHeader(name, value)
    return msgspec.json.encode(data)
