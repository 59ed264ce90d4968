"""Signalling by HTTP, as WHIP (RFC 9725) and WHEP have it in common: an offer is posted, and its session is an address.

The one idea: both are the same but for what a POST means. Who has a session's address, which nobody can guess, may end
it (DELETE) and restart its ICE (PATCH, 4.3); `Gates` sends each request to the one that it is for.
"""
# twisted.web carries few annotations.
# mypy: allow-untyped-calls

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any, Protocol
from urllib.parse import unquote_to_bytes

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from oxidecast.delivery.envelope import envelope
from oxidecast.formats.sdp_answer import fragment
from oxidecast.formats.sdp_offer import MAX_OFFER, parse_fragment
from oxidecast.media import RemoteProtocolError
from oxidecast.webrtc.peer import Peer
from oxidecast.webrtc.port import WebRTCPort
from oxidecast.webrtc.settings import WebrtcSettings

SDP = "application/sdp"
FRAGMENT = "application/trickle-ice-sdpfrag"
METHODS = "POST, PATCH, DELETE, OPTIONS"
OF_ENDPOINT = "POST, OPTIONS"
OF_SESSION = "PATCH, DELETE, OPTIONS"
"""Others are answered by 405 (RFC 9725 4.2)."""

SOON = ("Retry-After", "2")
LATER = ("Retry-After", "5")


class Answer(Exception):
    """What is answered instead of a session."""

    def __init__(self, status: int, code: str, sentence: str, *headers: tuple[str, str]) -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code
        self.sentence = sentence
        self.headers = headers


class Session(Protocol):
    """A viewer or a publisher, as its address sees it."""

    peer: Peer
    remote_ufrag: str
    """Of its newest offer of ICE."""

    @property
    def mid(self) -> str:
        """Of a medium: what a restart is about."""

    def end(self, reason: str) -> None: ...


class Gates(Resource):
    """Everything below `/api/v1/webrtc`: `whip` and `whip/{session}`, `{stream}/whep` and `{stream}/whep/{session}`."""

    isLeaf = True

    def __init__(self, gates: Mapping[str, Resource]) -> None:
        super().__init__()
        self._gates = gates

    def render(self, request: Request) -> Any:
        # A stream may be named "whip".
        parts = path_parts(request)
        is_whip = "whip" in self._gates and parts[:1] == ["whip"] and parts[1:2] != ["whep"]
        return self._gates["whip" if is_whip else "whep"].render(request)


class SignallingResource(Resource):
    """What both do alike."""

    isLeaf = True
    log = Logger()

    def __init__(self, port: WebRTCPort) -> None:
        super().__init__()
        self._port = port

    async def begin(self, request: Request) -> bytes:
        """Take the offer that was posted; the answer's text, or raises `Answer`."""
        raise NotImplementedError

    def find(self, parts: list[str]) -> Session | None:
        """The session of an address."""
        raise NotImplementedError

    def render_OPTIONS(self, request: Request) -> bytes:
        self._open_to_all(request)
        request.setHeader("Access-Control-Allow-Methods", METHODS)
        request.setHeader("Access-Control-Allow-Headers", "Authorization, Content-Type, If-Match")
        request.setHeader("Access-Control-Max-Age", "600")
        request.setHeader("Accept-Post", SDP)
        request.setHeader("Allow", METHODS)
        request.setResponseCode(204)
        return b""

    def render_POST(self, request: Request) -> Any:
        return self._later(request, self._begin(request))

    def render_PATCH(self, request: Request) -> Any:
        return self._later(request, self._change(request))

    def render_DELETE(self, request: Request) -> Any:
        return self._later(request, self._end(request))

    def created(self, request: Request, peer: Peer, location: str) -> None:
        """The headers of a session that has begun."""
        request.setResponseCode(201)
        request.setHeader("Content-Type", SDP)
        request.setHeader("Location", location)
        request.setHeader("ETag", f'"{peer.ice.local.ufrag}"')
        request.setHeader("Accept-Patch", FRAGMENT)
        for link in ice_servers(self._port.settings):
            request.responseHeaders.addRawHeader("Link", link)

    # -- inside

    async def _begin(self, request: Request) -> bytes:
        if self.find(path_parts(request)) is not None:
            raise Answer(
                405, "method_not_allowed", "A session takes PATCH and DELETE.", ("Allow", OF_SESSION)
            )
        return await self.begin(request)

    def _session(self, request: Request) -> Session:
        parts = path_parts(request)
        session = self.find(parts)
        if session is None:
            if parts[-1] in ("whip", "whep"):
                raise Answer(405, "method_not_allowed", "Offers are posted here.", ("Allow", OF_ENDPOINT))
            raise nothing()
        return session

    async def _change(self, request: Request) -> bytes:
        session = self._session(request)
        local = session.peer.ice.local
        condition = (request.getHeader("if-match") or "").strip()
        if not condition:
            raise Answer(
                428, "no_if_match", "A PATCH needs If-Match: the session's ETag, or * to restart ICE."
            )
        if condition not in ("*", f'"{local.ufrag}"'):
            raise Answer(412, "changed", "The session's ICE was restarted: its ETag is another now.")
        try:
            ufrag, _ = parse_fragment(body(request, FRAGMENT))
            if condition == "*" and ufrag and ufrag != session.remote_ufrag:
                self._port.restart(session.peer, ufrag)
                session.remote_ufrag = ufrag
            else:
                # Candidates: by ICE-lite they are learned from checks.
                request.setResponseCode(204)
                return b""
        except RemoteProtocolError as error:
            raise Answer(400, "bad_fragment", f"The fragment cannot be used: {error}.")
        transport = self._port.transport(session.peer, reached(request))
        request.setHeader("Content-Type", FRAGMENT)
        request.setHeader("ETag", f'"{transport.ufrag}"')
        return fragment(transport, session.mid).encode()

    async def _end(self, request: Request) -> bytes:
        self._session(request).end("it was ended by its client")
        request.setResponseCode(200)
        return b""

    def _open_to_all(self, request: Request) -> None:
        request.setHeader("Access-Control-Allow-Origin", "*")
        request.setHeader("Access-Control-Expose-Headers", "Location, Link, ETag, Accept-Patch, Retry-After")
        request.setHeader("Cross-Origin-Resource-Policy", "cross-origin")
        request.setHeader("Cache-Control", "no-store")

    def _later(self, request: Request, work: Any) -> int:
        self._open_to_all(request)
        doing: Deferred[bytes] = Deferred.fromCoroutine(work)
        gone: list[Failure] = []

        def left(failure: Failure) -> None:
            gone.append(failure)
            doing.cancel()

        request.notifyFinish().addErrback(left)
        doing.addErrback(self._refuse, request, gone)
        doing.addCallback(lambda body: None if gone else self._send(request, body))
        return NOT_DONE_YET

    def _refuse(self, failure: Failure, request: Request, gone: list[Failure]) -> bytes:
        error = failure.value
        if not isinstance(error, Answer):
            if not (gone and isinstance(error, CancelledError)):
                self.log.failure("a request of WebRTC signalling failed", failure=failure)
            error = Answer(500, "internal", "Something went wrong on the server.")
        request.setResponseCode(error.status)
        request.setHeader("Content-Type", "application/json")
        for name, value in error.headers:
            request.setHeader(name, value)
        return envelope(self._port.reactor.seconds(), error=error.sentence, code=error.code)

    def _send(self, request: Request, body: bytes) -> None:
        request.setHeader("Content-Length", str(len(body)))
        request.write(body)
        request.finish()


def nothing() -> Answer:
    return Answer(404, "not_found", "There is nothing at this address, or not any more.")


def path_parts(request: Request) -> list[str]:
    """What follows /api/v1/webrtc/, decoded."""
    return [unquote_to_bytes(part).decode("utf-8", "replace") for part in request.path.split(b"/")[4:]]


def query(request: Request, name: str) -> str:
    values = request.args.get(name.encode()) if request.args else None
    return str(values[0].decode("utf-8", "replace")).strip() if values else ""


def body(request: Request, kind: str) -> str:
    """The request's body as text. Raises what is answered to another one."""
    given = (request.getHeader("content-type") or "").partition(";")[0].strip().lower()
    if given != kind:
        raise Answer(415, "unsupported_media_type", f"The body must be of the type {kind}.")
    body = request.content.read(MAX_OFFER + 1) if request.content is not None else b""
    if len(body) > MAX_OFFER:
        raise Answer(413, "too_large", f"The body has more than {MAX_OFFER} bytes.")
    try:
        return str(body.decode())
    except UnicodeDecodeError:
        raise Answer(400, "bad_offer", "The body is not UTF-8.")


def client(request: Request) -> str:
    return str(getattr(request.getClientAddress(), "host", ""))


def reached(request: Request) -> list[str]:
    """The addresses by which the client reached this machine: what it wrote into its address bar, if that is one, and
    the connection's own. So a server behind a port mapping offers an address that works."""
    host = (request.getHeader("host") or "").strip()
    host = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    found = []
    for text in (host, str(getattr(request.getHost(), "host", ""))):
        try:
            ip_address(text)
        except ValueError:
            continue
        if "%" not in text:
            found.append(text)
    return found


def ice_servers(settings: WebrtcSettings) -> list[str]:
    """Values of `Link` (RFC 9725 4.6)."""
    links = [f'<{url}>; rel="ice-server"' for url in settings.stun_servers]
    for server in settings.turn_servers:
        link = f'<{server.url}>; rel="ice-server"'
        if server.username:
            name, word = _quoted(server.username), _quoted(server.credential)
            link += f'; username="{name}"; credential="{word}"; credential-type="password"'
        links.append(link)
    return links


def _quoted(text: str) -> str:
    """As a quoted-string (RFC 9110 5.6.4)."""
    return text.replace("\\", "\\\\").replace('"', '\\"')
