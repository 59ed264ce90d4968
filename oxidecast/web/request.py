"""What every request to the site has in common, whatever resource answers it.

The one idea: what HTTP and the API ask of all answers is seen to here, once, as an answer leaves. A resource, a
plugin's too, need not think of it, and cannot forget it.
"""
# twisted.web carries few annotations.
# mypy: allow-untyped-calls

import re
from collections.abc import Iterable, Mapping
from typing import Any

from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.error import UnsupportedMethod
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET, Request

from oxidecast.delivery.envelope import envelope
from oxidecast.delivery.hot import REASONS
from oxidecast.web.protection import DATA, EVERYWHERE

API = [b"api", b"v1"]
"""The path below which every error is an envelope."""

SENTENCES = {
    404: "There is nothing at this address.",
    405: "This method is not possible here.",
    500: "Something went wrong on the server.",
}
"""What the server itself has to say. It repeats nothing of the request, which may be anybody's text."""


_HOST = re.compile(r"[A-Za-z0-9.\-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")


class SiteRequest(Request):
    """A request that writes no line about itself: its address may hold a playback token."""

    log = Logger()
    site: Any
    channel: Any
    _is_head = False

    def render(self, resource: IResource) -> None:
        """Ask the resource. HEAD is a GET without its body (RFC 9110, 9.3.2), for every resource that has GET."""
        self._is_head = self.method == b"HEAD"
        try:
            body = self._head(resource) if self._is_head else resource.render(self)
        except UnsupportedMethod as error:
            self.setHeader(b"Allow", b", ".join(_allowed(error.allowedMethods)))
            body = self.refuse(405)
        if body is NOT_DONE_YET:
            return
        if not isinstance(body, bytes):
            raise TypeError(f"{type(resource).__name__} answered neither bytes nor NOT_DONE_YET")
        self._send(body)

    def refuse(self, status: int) -> bytes:
        """Make the answer a short plain one of this status; the result is its body."""
        self.setResponseCode(status)
        self.setHeader(b"Content-Type", b"text/plain; charset=utf-8")
        self.setHeader(b"Cache-Control", b"no-store")
        self._protect(DATA)
        return f"{_sentence(status)}\n".encode()

    def write(self, data: bytes) -> None:
        """Send a part of the answer; the first call sends the head before it."""
        if self._is_head:
            self.method = b"HEAD"  # It may be asked as if by GET just now.
        if self.startedWriting:
            super().write(data)
            return
        # Which version of what runs here is nobody's business.
        self.responseHeaders.removeHeader(b"server")
        self._protect(EVERYWHERE)
        if self._lacks_envelope():
            super().write(self._envelope())
            self.write = _drop  # type: ignore[method-assign]
        else:
            super().write(data)

    def processingFailed(self, reason: Failure) -> Failure:
        """What a resource raised goes to the log; the client hears nothing of it."""
        self.log.failure("answering {method} raised", failure=reason, method=self.method)
        if self.startedWriting and self.channel is not None:
            self.channel.abortConnection()  # What was begun can be neither finished nor replaced.
        elif self.channel is not None:
            self._send(self.refuse(500))
        return reason

    # -- inside

    def _protect(self, fields: Mapping[str, str]) -> None:
        """Add what the resource has not said itself."""
        for name, value in fields.items():
            if not self.responseHeaders.hasHeader(name):
                self.setHeader(name, value)

    def _head(self, resource: IResource) -> Any:
        """The resource's answer to a HEAD. Raises UnsupportedMethod when it has no GET either."""
        try:
            return resource.render(self)
        except UnsupportedMethod as error:
            if b"GET" not in error.allowedMethods:
                raise
        except AttributeError as error:
            # Twisted's Resource takes every HEAD for a GET, also where there is none.
            if error.name != "render_GET":
                raise
        self.method = b"GET"
        try:
            return resource.render(self)
        finally:
            self.method = b"HEAD"

    def _send(self, body: bytes) -> None:
        """The whole answer at once."""
        if body or not self._is_head:  # A HEAD without one may have said the length itself.
            self.setHeader(b"Content-Length", b"%d" % len(body))
        self.write(body)
        self.finish()

    def _lacks_envelope(self) -> bool:
        """Whether this is an error of the API that is not JSON: a page of Twisted's, or a plugin's own words."""
        if self.code < 400 or (self.prepath or [])[:2] != API:
            return False
        kind = b"".join(self.responseHeaders.getRawHeaders(b"Content-Type") or ())
        return kind.partition(b";")[0].strip().lower() != b"application/json"

    def _envelope(self) -> bytes:
        """The body of such an error, and its fields."""
        code = "internal" if self.code == 500 else _phrase(self.code).lower().replace(" ", "_")
        body = envelope(self.site.seconds(), error=_sentence(self.code), code=code)
        self.setHeader(b"Content-Type", b"application/json")
        self.setHeader(b"Cache-Control", b"no-store")
        self._protect(DATA)
        self.setHeader(b"Content-Length", b"%d" % len(body))
        return body


class Missing(Resource):
    """Nothing, and nothing below it."""

    isLeaf = True

    def render(self, request: SiteRequest) -> bytes:
        return request.refuse(404)


def host_of(request: http.Request) -> str | None:
    """The Host header, `example.com:8080`; None when it is not one (RFC 9110, 7.2), so that it can be written into an
    address. Without one (HTTP/1.0) it is `localhost`."""
    host: str = (request.getHeader("host") or "localhost").strip()
    return host if _HOST.fullmatch(host) else None


def scheme_of(request: http.Request) -> str:
    return "https" if request.isSecure() else "http"


def base_of(request: http.Request) -> str | None:
    """What addresses in answers begin with, `https://example.com:8443`: what the settings say (`server.public_url`),
    or else how the client knows this server, None when its Host header is none."""
    site: Any = request.site  # type: ignore[attr-defined]  # twisted.web.server's have one
    public: str = site.public_url()
    host = host_of(request)
    return public or (f"{scheme_of(request)}://{host}" if host is not None else None)


def _allowed(methods: Iterable[bytes]) -> list[bytes]:
    """What `Allow` names: HEAD is possible where GET is, and nowhere else."""
    named = set(methods) - {b"HEAD"}
    return sorted(named | {b"HEAD"} if b"GET" in named else named)


def _phrase(status: int) -> str:
    return REASONS.get(status, b"Refused").decode()


def _sentence(status: int) -> str:
    return SENTENCES.get(status) or f"{_phrase(status)}."


def _drop(data: bytes) -> None:
    """The rest of what was replaced."""
