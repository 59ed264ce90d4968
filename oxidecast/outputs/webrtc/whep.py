"""WHEP (draft-ietf-wish-whep): a viewer posts an offer, and gets an answer and the address of its session.

Addresses below `/api/v1/webrtc/`: `{stream}/whep` takes offers; `{stream}/whep/{session}` is the session, whose id
nobody can guess: who has it may end it (DELETE) and restart its ICE (PATCH, RFC 9725 4.3).
"""
# twisted.web carries few annotations.
# mypy: allow-untyped-calls

from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote_to_bytes

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from oxidecast.delivery.envelope import envelope
from oxidecast.formats.sdp_answer import fragment
from oxidecast.formats.sdp_offer import MAX_OFFER, parse, parse_fragment
from oxidecast.interfaces import PlayRequest, Refused
from oxidecast.media import RemoteProtocolError
from oxidecast.outputs.webrtc import negotiation
from oxidecast.outputs.webrtc.stream import NotCarried, Source, WebRTCStream
from oxidecast.outputs.webrtc.viewer import Viewer
from oxidecast.webrtc.port import PortFull

if TYPE_CHECKING:
    from oxidecast.outputs.webrtc.output import WebRTCOutput

SDP = "application/sdp"
FRAGMENT = "application/trickle-ice-sdpfrag"
METHODS = "POST, PATCH, DELETE, OPTIONS"
SOON = ("Retry-After", "2")
LATER = ("Retry-After", "5")


class _Answer(Exception):
    """What is answered instead of a session."""

    def __init__(self, status: int, code: str, sentence: str, *headers: tuple[str, str]) -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code
        self.sentence = sentence
        self.headers = headers


class WHEPResource(Resource):
    """Everything below `/api/v1/webrtc`."""

    isLeaf = True
    log = Logger()

    def __init__(self, output: "WebRTCOutput") -> None:
        super().__init__()
        self._output = output

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

    # -- what each does

    async def _begin(self, request: Request) -> bytes:
        parts = _parts(request)
        if len(parts) != 2 or parts[1] != "whep":
            raise _nothing()
        found = self._output.streams.get(parts[0])
        if found is None or not found.is_open:
            raise _Answer(404, "no_stream", "This stream is not live.", SOON)
        await self._may_play(request, found)
        text = _body(request, SDP)
        try:
            offer = parse(text)
            negotiation.check(offer)
        except RemoteProtocolError as error:
            raise _Answer(400, "bad_offer", f"The offer cannot be used: {error}.")
        viewer, agreed = await self._viewer(request, found, offer)
        session = self._output.add(viewer)
        transport = self._output.port.transport(viewer.peer, _reached(request))
        request.setResponseCode(201)
        request.setHeader("Content-Type", SDP)
        request.setHeader("Location", f"/api/v1/webrtc/{quote(found.stream.name)}/whep/{session}")
        request.setHeader("ETag", f'"{viewer.peer.ice.local.ufrag}"')
        request.setHeader("Accept-Patch", FRAGMENT)
        for link in self._output.ice_servers():
            request.responseHeaders.addRawHeader("Link", link)
        return agreed.answer(transport).encode()

    async def _viewer(
        self, request: Request, found: WebRTCStream, offer: Any
    ) -> tuple[Viewer, negotiation.Agreed]:
        rendition = _query(request, "rendition")
        wants_pictures, wants_sound = negotiation.wanted(offer)
        try:
            pictures = await found.pictures(rendition) if wants_pictures else Source(None)
        except NotCarried as error:
            raise _Answer(422, "not_carried", str(error))
        if not found.is_open:
            found.let_go(pictures)
            raise _Answer(404, "no_stream", "This stream is not live.", SOON)
        sound = found.sound() if wants_sound else Source(None)
        try:
            track = pictures.feed.track(True) if pictures.feed is not None else None
            has_sound = sound.feed is not None or sound.want is not None
            agreed = negotiation.agree(offer, track.codec_string if track is not None else "", has_sound)
            if agreed.video is None and (track is not None or agreed.audio is None):
                what = "H.264 with packetization-mode 1" if track is not None else "Opus"
                raise _Answer(
                    422, "no_codec", f"The stream is sent as {what}, which the offer does not have."
                )
        except BaseException:
            found.let_go(pictures, sound)
            raise
        viewer = found.viewer(agreed, pictures, sound)
        client = _client(request)
        try:
            viewer.peer = self._output.port.open(agreed.ufrag, agreed.fingerprints, viewer, client)
        except PortFull as error:
            viewer.closed("there is no room")
            raise _Answer(503, "full", f"{error} Try again later.", LATER)
        self._output.joined(viewer, found, client, _query(request, "viewer"))
        return viewer, agreed

    async def _change(self, request: Request) -> bytes:
        viewer = self._session(request)
        local = viewer.peer.ice.local
        condition = (request.getHeader("if-match") or "").strip()
        if not condition:
            raise _Answer(
                428, "no_if_match", "A PATCH needs If-Match: the session's ETag, or * to restart ICE."
            )
        if condition not in ("*", f'"{local.ufrag}"'):
            raise _Answer(412, "changed", "The session's ICE was restarted: its ETag is another now.")
        try:
            ufrag, _ = parse_fragment(_body(request, FRAGMENT))
            if condition == "*" and ufrag and ufrag != viewer.remote_ufrag:
                self._output.port.restart(viewer.peer, ufrag)
                viewer.remote_ufrag = ufrag
            else:
                # Candidates: by ICE-lite they are learned from checks.
                request.setResponseCode(204)
                return b""
        except RemoteProtocolError as error:
            raise _Answer(400, "bad_fragment", f"The fragment cannot be used: {error}.")
        transport = self._output.port.transport(viewer.peer, _reached(request))
        request.setHeader("Content-Type", FRAGMENT)
        request.setHeader("ETag", f'"{transport.ufrag}"')
        return fragment(transport, viewer.agreed.mid).encode()

    async def _end(self, request: Request) -> bytes:
        self._session(request).end("it was ended by its viewer")
        request.setResponseCode(200)
        return b""

    # -- inside

    def _session(self, request: Request) -> Viewer:
        parts = _parts(request)
        viewer = self._output.sessions.get(parts[2]) if len(parts) == 3 and parts[1] == "whep" else None
        if viewer is None:
            raise _nothing()
        return viewer

    async def _may_play(self, request: Request, found: WebRTCStream) -> None:
        scheme, _, bearer = (request.getHeader("authorization") or "").partition(" ")
        token = bearer.strip() if scheme.lower() == "bearer" else _query(request, "token")
        asked = PlayRequest(protocol="webrtc", address=_client(request), token=token)
        try:
            await self._output.services.hub.authorise(found.stream.info, asked)
        except Refused as refused:
            if refused.code == "unavailable":
                raise _Answer(503, refused.code, refused.sentence, LATER)
            raise _Answer(401, refused.code, refused.sentence, ("WWW-Authenticate", "Bearer"))

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
        if not isinstance(error, _Answer):
            if not (gone and isinstance(error, CancelledError)):
                self.log.failure("a WHEP request failed", failure=failure)
            error = _Answer(500, "internal", "Something went wrong on the server.")
        request.setResponseCode(error.status)
        request.setHeader("Content-Type", "application/json")
        for name, value in error.headers:
            request.setHeader(name, value)
        return envelope(self._output.services.reactor.seconds(), error=error.sentence, code=error.code)

    def _send(self, request: Request, body: bytes) -> None:
        request.setHeader("Content-Length", str(len(body)))
        request.write(body)
        request.finish()


def _nothing() -> _Answer:
    return _Answer(404, "not_found", "There is nothing at this address, or not any more.")


def _parts(request: Request) -> list[str]:
    """What follows /api/v1/webrtc/, decoded."""
    return [unquote_to_bytes(part).decode("utf-8", "replace") for part in request.path.split(b"/")[4:]]


def _query(request: Request, name: str) -> str:
    values = request.args.get(name.encode()) if request.args else None
    return str(values[0].decode("utf-8", "replace")).strip() if values else ""


def _body(request: Request, kind: str) -> str:
    """The request's body as text. Raises what is answered to another one."""
    given = (request.getHeader("content-type") or "").partition(";")[0].strip().lower()
    if given != kind:
        raise _Answer(415, "unsupported_media_type", f"The body must be of the type {kind}.")
    body = request.content.read(MAX_OFFER + 1) if request.content is not None else b""
    if len(body) > MAX_OFFER:
        raise _Answer(413, "too_large", f"The body has more than {MAX_OFFER} bytes.")
    try:
        return str(body.decode())
    except UnicodeDecodeError:
        raise _Answer(400, "bad_offer", "The body is not UTF-8.")


def _client(request: Request) -> str:
    return str(getattr(request.getClientAddress(), "host", ""))


def _reached(request: Request) -> list[str]:
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
