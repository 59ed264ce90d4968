"""WHEP (draft-ietf-wish-whep): a viewer posts an offer, and gets an answer and the address of its session.

Addresses below `/api/v1/webrtc/`: `{stream}/whep` takes offers; `{stream}/whep/{session}` is the session.
"""
# twisted.web carries few annotations.
# mypy: allow-untyped-calls

from typing import TYPE_CHECKING
from urllib.parse import quote

from twisted.web.server import Request

from oxidecast.formats.sdp_offer import Offer, parse
from oxidecast.interfaces import PlayRequest, Refused
from oxidecast.media import RemoteProtocolError
from oxidecast.outputs.webrtc import negotiation
from oxidecast.outputs.webrtc.stream import NotCarried, NotNow, Source, WebRTCStream
from oxidecast.outputs.webrtc.viewer import Viewer
from oxidecast.webrtc.port import PortFull
from oxidecast.webrtc.signalling import (
    LATER,
    SDP,
    SOON,
    Answer,
    SignallingResource,
    body,
    client,
    nothing,
    path_parts,
    query,
    reached,
)

if TYPE_CHECKING:
    from oxidecast.outputs.webrtc.output import WebRTCOutput


class WHEPResource(SignallingResource):
    """The way in for viewers."""

    def __init__(self, output: "WebRTCOutput") -> None:
        super().__init__(output.port)
        self._output = output

    def find(self, parts: list[str]) -> Viewer | None:
        return self._output.sessions.get(parts[2]) if len(parts) == 3 and parts[1] == "whep" else None

    async def begin(self, request: Request) -> bytes:
        parts = path_parts(request)
        if len(parts) != 2 or parts[1] != "whep":
            raise nothing()
        found = self._output.streams.get(parts[0])
        if found is None or not found.is_open:
            raise Answer(404, "no_stream", "This stream is not live.", SOON)
        await self._may_play(request, found)
        text = body(request, SDP)
        try:
            offer = parse(text)
            negotiation.check(offer)
        except RemoteProtocolError as error:
            raise Answer(400, "bad_offer", f"The offer cannot be used: {error}.")
        viewer, agreed = await self._viewer(request, found, offer)
        session = self._output.add(viewer)
        transport = self._output.port.transport(viewer.peer, reached(request))
        self.created(request, viewer.peer, f"/api/v1/webrtc/{quote(found.stream.name)}/whep/{session}")
        return agreed.answer(transport).encode()

    async def _viewer(
        self, request: Request, found: WebRTCStream, offer: Offer
    ) -> tuple[Viewer, negotiation.Agreed]:
        rendition = query(request, "rendition")
        wants_pictures, wants_sound = negotiation.wanted(offer)
        try:
            pictures = await found.pictures(rendition, offer) if wants_pictures else Source(None)
        except NotNow as error:
            raise Answer(503, "no_quality", str(error), LATER)
        except NotCarried as error:
            raise Answer(422, error.code, str(error))
        if not found.is_open:
            found.let_go(pictures)
            raise Answer(404, "no_stream", "This stream is not live.", SOON)
        sound = found.sound() if wants_sound else Source(None)
        try:
            track = pictures.feed.track(True) if pictures.feed is not None else None
            has_sound = sound.feed is not None or sound.want is not None
            agreed = negotiation.agree(offer, track, has_sound)
            if agreed.video is None and (track is not None or agreed.audio is None):
                what = negotiation.NAMES[track.codec] if track is not None else "Opus"
                raise Answer(422, "no_codec", f"The stream is sent as {what}, which the offer does not have.")
        except BaseException:
            found.let_go(pictures, sound)
            raise
        viewer = found.viewer(agreed, pictures, sound)
        address = client(request)
        try:
            viewer.peer = self._output.port.open(agreed.ufrag, agreed.fingerprints, viewer, address)
        except PortFull as error:
            viewer.closed("there is no room")
            raise Answer(503, "full", f"{error} Try again later.", LATER)
        self._output.joined(viewer, found, address, query(request, "viewer"))
        return viewer, agreed

    async def _may_play(self, request: Request, found: WebRTCStream) -> None:
        scheme, _, bearer = (request.getHeader("authorization") or "").partition(" ")
        token = bearer.strip() if scheme.lower() == "bearer" else query(request, "token")
        asked = PlayRequest(protocol="webrtc", address=client(request), token=token)
        try:
            await self._output.services.hub.authorise(found.stream.info, asked)
        except Refused as refused:
            if refused.code == "unavailable":
                raise Answer(503, refused.code, refused.sentence, LATER)
            raise Answer(401, refused.code, refused.sentence, ("WWW-Authenticate", "Bearer"))
