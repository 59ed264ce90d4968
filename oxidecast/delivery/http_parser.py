"""HTTP/1.1 requests out of bytes: httptools does the parsing, this says what it means and where it ends.

Sans-IO. llhttp, inside httptools, refuses what smuggling is made of (bare LF, folded fields, two lengths, a
length beside an encoding); this adds RFC 9112's rules that it leaves to its user, and the bounds. Bytes are
parsed at most `READ_AHEAD` at a time and only while no request waits, so a client that pipelines thousands of
requests in one packet makes a few objects, and the rest stays bytes.
"""

import re
from collections import deque
from dataclasses import dataclass

import httptools
from twisted.internet.interfaces import IAddress

from oxidecast.delivery.hot import HotRequest, HotRoute
from oxidecast.delivery.http_limits import HTTPLimits

READ_AHEAD = 4096
"""Bytes parsed at once: all of a usual head, and at most some two hundred tiny requests ahead of their
turn."""

CHUNKING = 8
"""Bytes on the wire for each byte of a body: what chunks of a single byte take (RFC 9112, 7.1). More is chunk
extensions, which mean nothing to anybody and could go on without end."""

_PLAIN_LINE = re.compile(
    rb"(GET|HEAD) ((/[A-Za-z0-9_.~!$&'()*+,;=:@%/-]*)(?:\?([A-Za-z0-9_.~!$&'()*+,;=:@%/?-]*))?) HTTP/1\.1"
)
"""A request line that needs no parser to be understood; any other goes to it."""

_FRAMING = (b"content-length", b"transfer-encoding")


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that is answered without being understood: the connection ends with it."""

    status: int
    sentence: str


class Incoming(HotRequest):
    """A request as it arrives: what a hot resource may see, and how its connection goes on."""

    __slots__ = (
        "body",
        "body_size",
        "expects_continue",
        "keep_alive",
        "route",
        "target",
        "upgrade",
        "version",
    )

    target: bytes
    """The request target in origin form."""
    version: bytes
    """`HTTP/1.1` or `HTTP/1.0`."""
    route: HotRoute | None
    """Who answers it, once that is known."""
    keep_alive: bool
    upgrade: bool
    """An upgrade to WebSocket was asked for: what follows on the connection may not be HTTP."""
    expects_continue: bool
    """The client waits for `100 Continue` before it sends the body."""
    body: list[bytes]
    body_size: int

    def twin(self) -> "Incoming":
        """A request with the same header fields, and without a body; its first line is the caller's to fill
        in."""
        twin = Incoming()
        twin.client = self.client
        twin.headers = self.headers
        twin.fields = self.fields
        twin.version = self.version
        twin.keep_alive = self.keep_alive
        twin.route = None
        twin.upgrade = twin.expects_continue = False
        twin.body = []
        twin.body_size = 0
        return twin


class RequestParser:
    """Fed with `unparsed`, filled by `parse`: `ready` requests in order, and after them perhaps a
    `refusal`."""

    __slots__ = (
        "_at_start", "_body_bytes", "_body_withheld", "_client", "_final", "_head_bytes", "_headers",
        "_limits", "_max_head", "_parser", "_repeatable", "_repeatable_fields", "_repeated", "_replaying", "_target",
        "_trailer_bytes",
        "partial", "ready", "refusal", "unparsed",
    )  # fmt: skip

    def __init__(self, limits: HTTPLimits, client: IAddress) -> None:
        self._limits = limits
        self._client = client
        self._max_head = READ_AHEAD + limits.max_uri + limits.max_header_bytes
        self._parser = httptools.HttpRequestParser(self)
        self._headers: list[tuple[bytes, bytes]] = []
        self._target = b""
        self._head_bytes = READ_AHEAD
        self._body_bytes = self._trailer_bytes = 0
        self._final = False
        self._body_withheld = False
        self._replaying = False
        self._at_start = True  # All that came so far was whole requests, each in a piece of its own.
        self._repeatable = self._repeatable_fields = b""
        self._repeated: Incoming | None = None
        self.unparsed: bytes | memoryview = b""
        """Bytes whose turn has not come."""
        self.ready: deque[Incoming] = deque()
        """Complete requests, oldest first."""
        self.partial: Incoming | None = None
        """A request whose head is complete and whose body is arriving."""
        self.refusal: Refusal | None = None
        """Why the bytes after the last ready request are not a request; nothing is parsed after it."""

    @property
    def in_head(self) -> bool:
        """Some of a head has come."""
        return self.partial is None and self._head_bytes > READ_AHEAD

    def parse(self) -> None:
        """Parses the next piece of `unparsed`."""
        piece = self.unparsed
        self.unparsed = b""
        if self._final or self.refusal is not None:
            return
        if self._repeated is not None and self._repeat(self._repeated, piece):
            return
        size = len(piece)
        if size > READ_AHEAD:
            piece, self.unparsed = memoryview(piece)[:READ_AHEAD], memoryview(piece)[READ_AHEAD:]
            size = READ_AHEAD
        self._head_bytes += size
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            self._after_upgrade(piece, upgrade.args[0])
        except httptools.HttpParserError as error:
            if not self._final:
                self._malformed(error)
        else:
            if self.partial is not None:
                self._body_bytes += size
                if self._body_bytes > self._limits.max_body * CHUNKING + READ_AHEAD:
                    self.refusal = Refusal(413, "The body's chunks are too wasteful.")
            elif self._head_bytes > self._max_head and not self.ready:
                self.refusal = Refusal(431, "The header fields are too large.")
        self._remember(piece)

    def _remember(self, piece: bytes | memoryview) -> None:
        """Notes what these very bytes mean, when they were one whole request and nothing else.

        A player that polls a playlist says the same bytes again and again, and other requests of its differ
        in their first line. A parser in the same state makes the same of the same bytes, so the header
        fields, which are most of a request, need not be parsed again.
        """
        if self._at_start and len(self.ready) == 1 and not self._final and isinstance(piece, bytes):
            incoming = self.ready[0]
            if not incoming.body and not incoming.upgrade and piece.find(b"\r\n\r\n") == len(piece) - 4:
                self._repeatable, self._repeated = piece, incoming
                self._repeatable_fields = piece[piece.index(b"\r\n") :]
                return
        self._at_start = False
        self._repeatable = self._repeatable_fields = b""
        self._repeated = None

    def _repeat(self, repeated: Incoming, piece: bytes | memoryview) -> bool:
        """Takes `piece` as a repetition of the request before it, if it is one."""
        if piece == self._repeatable:
            self.ready.append(repeated)
            return True
        if not isinstance(piece, bytes) or not piece.endswith(self._repeatable_fields):
            return False
        line = _PLAIN_LINE.fullmatch(piece, 0, len(piece) - len(self._repeatable_fields))
        if line is None or repeated.version != b"HTTP/1.1" or len(piece) > self._limits.max_uri:
            return False
        incoming = repeated.twin()
        incoming.method, incoming.target, incoming.raw_path, query = line.groups()
        incoming.raw_query = query or b""
        self.ready.append(incoming)
        return True

    def release(self) -> None:
        """Lets go of the parser, which refers back to this object."""
        del self._parser

    def _malformed(self, error: Exception) -> None:
        if self.refusal is not None:
            return  # One of the callbacks below has refused, and stopped the parser by raising.
        if isinstance(error, httptools.HttpParserCallbackError):
            raise error.__context__ or error
        self.refusal = Refusal(
            400, f"This is not a valid HTTP/1.1 request: {str(error) or 'it cannot be parsed'}."
        )

    def _refuse(self, status: int, sentence: str) -> None:
        self.refusal = Refusal(status, sentence)
        raise ValueError(sentence)

    def _after_upgrade(self, piece: bytes | memoryview, offset: int) -> None:
        """llhttp stops after any request that asks to upgrade, and takes it to have no body.

        Few are granted: `Upgrade: h2c`, which curl and Java's client add to any request, never is. So the
        parser is made anew, and is told of the body by a head that holds nothing else.
        """
        rest = memoryview(piece)[offset:]
        self.unparsed = b"".join((rest, self.unparsed))
        if self.refusal is not None or self._final:
            return
        self._parser = httptools.HttpRequestParser(self)
        incoming = self.partial
        if incoming is None:
            return
        framing = [b"%b: %b\r\n" % header for header in incoming.headers if header[0] in _FRAMING]
        if not incoming.keep_alive:
            framing.append(b"Connection: close\r\n")
        self._replaying = True
        self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % b"".join(framing))

    # What httptools calls. An exception stops it; `parse` knows why by `refusal`.

    def on_url(self, url: bytes) -> None:
        self._target = self._target + url if self._target else url
        if len(self._target) > self._limits.max_uri:
            self._refuse(414, "The address is too long.")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.partial is not None:
            # A trailer (RFC 9112, 7.1.2): nobody here asks for one, so none is kept.
            self._trailer_bytes += len(name) + len(value) + 4
            if self._trailer_bytes > self._limits.max_header_bytes:
                self._refuse(431, "The trailer fields are too large.")
            return
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        headers, self._headers = self._headers, []
        target, self._target = self._target, b""
        if self._replaying:
            self._replaying = False
            return
        limits, parser = self._limits, self._parser
        if len(headers) > limits.max_headers:
            self._refuse(431, "There are too many header fields.")
        if (
            self._head_bytes > limits.max_header_bytes
        ):  # An upper bound; the sum is only worth its time above it.
            size = sum(len(name) + len(value) + 4 for name, value in headers)
            if size > limits.max_header_bytes:
                self._refuse(431, "The header fields are too large.")
        self._head_bytes = READ_AHEAD
        self._body_bytes = self._trailer_bytes = 0
        fields = dict(headers)

        incoming = Incoming()
        incoming.client = self._client
        incoming.method = parser.get_method()
        incoming.headers = headers
        incoming.fields = fields
        incoming.route = None
        incoming.keep_alive = parser.should_keep_alive()
        # Without a Connection field only HTTP/1.1 is kept alive, and asking for the version is dear.
        if incoming.keep_alive and b"connection" not in fields:
            incoming.version = b"HTTP/1.1"
        else:
            incoming.version = self._version(parser.get_http_version())
        if target[:1] != b"/":
            target = self._origin_form(target, incoming.method)
        incoming.target = target
        incoming.raw_path, _, incoming.raw_query = target.partition(b"?")
        if len(fields) != len(headers) or b"host" not in fields:
            self._check_host(incoming)
        incoming.upgrade = b"upgrade" in fields and parser.should_upgrade() and _to_websocket(incoming)
        incoming.expects_continue = False
        incoming.body = []
        incoming.body_size = 0
        if b"content-length" in fields or b"transfer-encoding" in fields:
            self._check_body(incoming)
        self.partial = incoming

    def on_body(self, data: bytes) -> None:
        incoming = self.partial
        assert incoming is not None
        incoming.body.append(data)
        incoming.body_size += len(data)
        if incoming.body_size > self._limits.max_body:
            self._refuse(413, "The request's body is too large.")

    def on_message_complete(self) -> None:
        incoming = self.partial
        assert incoming is not None
        if self._body_withheld:
            self._body_withheld = False
            return  # Not complete at all: see _after_upgrade.
        self._headers = []  # Trailers, which nobody here reads.
        self._head_bytes = READ_AHEAD
        self.partial = None
        self._final = not incoming.keep_alive
        self.ready.append(incoming)

    def _version(self, version: str) -> bytes:
        if version == "1.1":
            return b"HTTP/1.1"
        if version != "1.0":
            self._refuse(505, "Only HTTP/1.1 and HTTP/1.0 are spoken here.")
        return b"HTTP/1.0"

    def _origin_form(self, target: bytes, method: bytes) -> bytes:
        """The target as a path: a proxy's absolute form is to be understood by all servers (RFC 9112,
        3.2.2)."""
        if target == b"*" and method == b"OPTIONS":
            return target
        scheme, separator, rest = target.partition(b"://")
        if separator and scheme.lower() in (b"http", b"https"):
            authority, slash, path = rest.partition(b"/")
            if slash and b"?" not in authority:
                return b"/" + path
            return b"/?" + rest.partition(b"?")[2] if b"?" in rest else b"/"
        self._refuse(400, "The request's target must be a path.")
        raise AssertionError

    def _check_host(self, incoming: Incoming) -> None:
        """RFC 9112, 3.2: one Host field, which only HTTP/1.0 may leave out."""
        hosts = sum(name == b"host" for name, _ in incoming.headers)
        if hosts > 1 or (hosts == 0 and incoming.version == b"HTTP/1.1"):
            self._refuse(400, "A request needs exactly one Host field.")

    def _check_body(self, incoming: Incoming) -> None:
        fields = incoming.fields
        encoding = fields.get(b"transfer-encoding")
        if encoding is not None:
            if incoming.version == b"HTTP/1.0":  # Faulty framing, by RFC 9112, 6.1.
                self._refuse(400, "HTTP/1.0 has no Transfer-Encoding.")
            if encoding.strip().lower() != b"chunked":
                self._refuse(501, "The only transfer coding known here is chunked.")
        elif fields[b"content-length"].strip(b"0") == b"":
            return
        elif int(fields[b"content-length"]) > self._limits.max_body:
            self._refuse(413, "The request's body is too large.")
        self._body_withheld = self._parser.should_upgrade()
        incoming.upgrade = False
        expectation = fields.get(b"expect")
        if expectation is not None and incoming.version == b"HTTP/1.1":
            if expectation.strip().lower() != b"100-continue":
                self._refuse(417, "The only expectation met here is 100-continue.")
            incoming.expects_continue = True


def _to_websocket(incoming: Incoming) -> bool:
    return incoming.method == b"GET" and incoming.fields[b"upgrade"].strip().lower() == b"websocket"
