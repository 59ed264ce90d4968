"""Hot GETs: the few addresses that nearly all viewers ask for, answered from bytes that all viewers share.

This page is the plugin author's manual for them. A playlist, a segment, an init section or a part exists once
in memory, as a `HotAnswer`; whoever asks gets those very bytes, by one system call, without `twisted.web`. An
output gives the server an `IHotResource` for a path prefix and answers `hot(request)`; all that HTTP asks
beyond that (HEAD, ranges, conditions, CORS preflights, keep-alive, slow readers, limits, counters) is done
for it by `oxidecast.delivery.http`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from zope.interface import Interface

from oxidecast.media.errors import LocalProtocolError

REASONS = {
    200: b"OK",
    204: b"No Content",
    206: b"Partial Content",
    301: b"Moved Permanently",
    302: b"Found",
    304: b"Not Modified",
    307: b"Temporary Redirect",
    308: b"Permanent Redirect",
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    410: b"Gone",
    413: b"Content Too Large",
    414: b"URI Too Long",
    416: b"Range Not Satisfiable",
    417: b"Expectation Failed",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
}
"""Reason phrases of RFC 9110, 15 and RFC 6585; a status that is not here goes out without one, which is
legal."""

CORS_FIELDS = (
    b"Access-Control-Allow-Origin: *\r\n"
    b"Access-Control-Expose-Headers: Accept-Ranges, Content-Length, Content-Range, Date, ETag\r\n"
    b"Cross-Origin-Resource-Policy: cross-origin\r\n"
)
"""What any page may know of public media: no credentials, so `*` is safe (Fetch, 3.2)."""

_DOT_SEGMENT = re.compile(rb"(?:^|/)\.\.?(?:/|$)")
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_FIELD_NAME = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_BAD_FIELD_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class HotAnswer:
    """One representation, immutable and shared by all who ask for it. Make it once, give it a thousand times.

    The head is rendered on first use and kept, so the same object for a thousand viewers costs one rendering;
    a new object per request costs a few microseconds more and is right for what differs per viewer.

    `body` is `bytes`, or a `memoryview` of something that will not change. `etag` is the opaque tag without
    quotes, a new one whenever the bytes change. `modified` is the UTC second of their last change, where there is
    one to tell. `cache_control` is the field's value. `cors=True` lets
    scripts of any origin read the answer, and answers their preflights; it carries no credentials. `headers`
    are further fields as `(name, value)`; `Date`, `Connection`, `Content-Length` and `Accept-Ranges` are the
    server's own.
    """

    __slots__ = (
        "_head",
        "_not_modified",
        "body",
        "cache_control",
        "content_type",
        "cors",
        "etag",
        "headers",
        "modified",
        "status",
    )

    def __init__(
        self,
        body: bytes | memoryview = b"",
        content_type: bytes = b"application/octet-stream",
        *,
        status: int = 200,
        etag: bytes | None = None,
        modified: float | None = None,
        cache_control: bytes | None = None,
        cors: bool = False,
        headers: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        self.body = body
        self.content_type = content_type
        self.status = status
        self.etag = etag
        self.modified = modified
        self.cache_control = cache_control
        self.cors = cors
        self.headers = tuple(headers)
        self._head: bytes | None = None
        self._not_modified: bytes | None = None

    @property
    def head(self) -> bytes:
        """Status line and fields without `Date`, `Connection` and the empty line, which differ per second and
        viewer."""
        if self._head is None:
            if self.status in (204, 304):
                self._head = self.partial_head(self.status, b"")
            else:
                accepts = b"Accept-Ranges: bytes\r\n" if self.status == 200 else b""
                self._head = self.partial_head(self.status, accepts, len(self.body))
        return self._head

    @property
    def not_modified_head(self) -> bytes:
        """The head of `304 Not Modified` for this representation (RFC 9110, 15.4.5)."""
        if self._not_modified is None:
            self._not_modified = self.partial_head(304, b"")
        return self._not_modified

    def partial_head(self, status: int, fields: bytes, length: int | None = None) -> bytes:
        """The head of another status of the same representation: 206, 304 and 416 carry its CORS and cache
        fields."""
        lines = [b"HTTP/1.1 %d %b\r\n" % (status, REASONS.get(status, b"")), fields]
        if length is not None:
            if self.content_type and status != 416:
                lines.append(b"Content-Type: %b\r\n" % _value(self.content_type))
            lines.append(b"Content-Length: %d\r\n" % length)
        if self.etag is not None:
            lines.append(b'ETag: "%b"\r\n' % _value(self.etag))
        if self.modified is not None:
            lines.append(b"Last-Modified: %b\r\n" % formatdate(int(self.modified), usegmt=True).encode())
        if self.cache_control is not None:
            lines.append(b"Cache-Control: %b\r\n" % _value(self.cache_control))
        if self.cors:
            lines.append(CORS_FIELDS)
        for name, value in self.headers:
            if not _FIELD_NAME.fullmatch(name):
                raise LocalProtocolError(f"the field name {name!r} is not a token")
            lines.append(b"%b: %b\r\n" % (name, _value(value)))
        return b"".join(lines)


def _value(value: bytes) -> bytes:
    if _BAD_FIELD_VALUE.search(value):
        raise LocalProtocolError(f"the field value {value!r} holds a control character")
    return value


class HotRequest:
    """One request, as far as a hot resource needs it; what costs time is worked out only when asked for."""

    __slots__ = ("_query", "client", "fields", "headers", "method", "path", "raw_path", "raw_query")

    client: IAddress
    """Who asks: the address of the connection's other end, or what a trusted proxy there says of its own."""
    method: bytes
    """`GET`, `HEAD` or `OPTIONS`. Answer all three as a GET: the server leaves out the body, and turns the
    OPTIONS of a preflight into a 204 when the answer has `cors`."""
    path: bytes
    """What follows the route's prefix, percent-decoded. It never holds a dot segment, an encoded slash, a
    backslash or a control character: requests with such paths do not reach a hot resource. It is still a
    stranger's text: look it up, do not open it."""
    raw_path: bytes
    """The whole path as it came, without the query."""
    raw_query: bytes
    """What followed `?` as it came; empty without one."""
    headers: list[tuple[bytes, bytes]]
    """All header fields in their order, names in lower case."""
    fields: dict[bytes, bytes]
    """Header fields by lower-case name; of a repeated one the last."""

    def header(self, name: bytes) -> bytes | None:
        """The value of the header field `name`, given in lower case."""
        return self.fields.get(name)

    @property
    def query(self) -> dict[bytes, bytes]:
        """The query's parameters, decoded; of a repeated one the first."""
        try:
            return self._query
        except AttributeError:
            self._query: dict[bytes, bytes] = {}
            # As Latin-1, in which each byte stands for itself: bytes themselves would have to come out as ASCII.
            text = self.raw_query.decode("latin-1")
            for name, value in parse_qsl(text, keep_blank_values=True, encoding="latin-1"):
                self._query.setdefault(name.encode("latin-1"), value.encode("latin-1"))
            return self._query


class IHotResource(Interface):
    """Answers the GETs below one path prefix, such as `b"/api/v1/hls/"`."""

    def hot(request: HotRequest) -> HotAnswer | Deferred[Any] | None:
        """The answer, a Deferred of it, or None when the request is not for you (it then goes to the web
        site).

        Called on the reactor's thread for each request, so be quick: a dictionary look-up. A Deferred may
        wait (a blocking playlist reload) up to the server's `answer_timeout`; when the client leaves, or the
        time is over, it is cancelled. What you raise is logged, and the client gets a 500 that says nothing
        of it.
        """


@dataclass(frozen=True, slots=True)
class HotRoute:
    """One path prefix, and who answers below it."""

    prefix: bytes
    label: str
    """Its name in the counters."""
    resource: Any


COLD = HotRoute(b"", "site", None)
"""The route of all that is not hot, and its label where a resource of the site gives none of its own."""


def decode_path(raw: bytes) -> bytes | None:
    """The path percent-decoded, or None when it tries to be more than a name: see `HotRequest.path`."""
    if b"%" in raw:
        if _BROKEN_ESCAPE.search(raw) or b"%2f" in raw.lower():
            return None
        raw = unquote_to_bytes(raw)
        if _CONTROL.search(raw):
            return None
    if b"\\" in raw or ((b"/." in raw or raw[:1] == b".") and _DOT_SEGMENT.search(raw)):
        return None
    return raw
