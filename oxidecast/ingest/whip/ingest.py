"""WHIP (RFC 9725) as an ingest plugin: a publisher posts an offer with its stream key, and gets an answer and the
address of its session.

Addresses below `/api/v1/webrtc/`: `whip` takes offers; `whip/{session}` is the session.
"""
# twisted.web carries few annotations.
# mypy: allow-untyped-calls

import secrets
from collections.abc import Iterable
from typing import Final

from twisted.application.service import Service
from twisted.web.server import Request
from zope.interface import implementer

from oxidecast.formats.sdp_offer import parse
from oxidecast.ingest.whip import negotiation
from oxidecast.ingest.whip.publisher import WHIPPublisher
from oxidecast.interfaces import IIngest, IServices, PublishRequest, Refused
from oxidecast.media import RemoteProtocolError
from oxidecast.webrtc.port import PortFull, WebRTCPort
from oxidecast.webrtc.settings import WebrtcSettings
from oxidecast.webrtc.signalling import (
    LATER,
    SDP,
    Answer,
    SignallingResource,
    body,
    client,
    nothing,
    path_parts,
    reached,
)

ADDRESS: Final = "/api/v1/webrtc/whip"

LONGEST_NAME: Final = 120
"""Characters of an encoder's name that are kept."""

LONGEST_KEY: Final = 200
"""Characters: ours have fewer, and what is longer is nobody's."""

_STATUS: Final = {
    "bad_key": 401,
    "too_many_failed_keys": 429,
    "unavailable": 503,
    "shutting_down": 503,
    "name_in_use": 409,
    "stream_busy": 409,
}
"""What a refusal is in HTTP; others are 403."""


@implementer(IIngest)
class WHIPIngest(Service):
    """The plugin while it runs."""

    def __init__(self, settings: WebrtcSettings, services: IServices) -> None:
        self.hub = services.hub
        self.port: WebRTCPort = services.ports["webrtc"]
        self.port.used = True
        self.sessions: dict[str, WHIPPublisher] = {}
        """By the id in their address."""
        self.port.gates["whip"] = WHIPResource(self)

    def addresses(self) -> Iterable[str]:
        """On the server's own HTTP port, as the API is."""
        yield ADDRESS


class WHIPResource(SignallingResource):
    """The way in for publishers."""

    def __init__(self, ingest: WHIPIngest) -> None:
        super().__init__(ingest.port)
        self._ingest = ingest

    def find(self, parts: list[str]) -> WHIPPublisher | None:
        return self._ingest.sessions.get(parts[1]) if len(parts) == 2 else None

    async def begin(self, request: Request) -> bytes:
        if len(path_parts(request)) != 1:
            raise nothing()
        address, port = client(request), self._ingest.port
        wait = port.admit(address) if port.admit is not None else 0
        if wait:
            raise Answer(
                429,
                "too_many_requests",
                f"Too many publishers came from your network: try again in {wait} s.",
                ("Retry-After", str(wait)),
            )
        key = _key(request)
        text = body(request, SDP)
        try:
            offer = parse(text)
            negotiation.check(offer)
            agreed = negotiation.agree(offer)
        except RemoteProtocolError as error:
            raise Answer(400, "bad_offer", f"The offer cannot be used: {error}.")
        if agreed.video is None and agreed.audio is None:
            raise Answer(
                422, "no_codec", "The offer has none of H.264, HEVC, AV1, VP9, VP8 and Opus, which are taken."
            )
        session = secrets.token_urlsafe(18)
        publisher = WHIPPublisher(agreed, port.reactor, lambda: self._forget(session))
        await self._publish(request, publisher, key, address)
        try:
            publisher.peer = port.open(agreed.ufrag, agreed.fingerprints, publisher, address, agreed.active)
        except PortFull as error:
            publisher.closed("there is no room")
            raise Answer(503, "full", f"{error} Try again later.", LATER)
        self._ingest.sessions[session] = publisher
        self.created(request, publisher.peer, f"{ADDRESS}/{session}")
        return agreed.answer(port.transport(publisher.peer, reached(request))).encode()

    async def _publish(self, request: Request, publisher: WHIPPublisher, key: str, address: str) -> None:
        encoder = (request.getHeader("user-agent") or "")[:LONGEST_NAME]
        asked = PublishRequest(protocol="whip", address=address, key=key, encoder=encoder)
        try:
            publisher.begin(await self._ingest.hub.publish(asked, publisher))
        except Refused as refused:
            status = _STATUS.get(refused.code, 403)
            headers = {401: [("WWW-Authenticate", "Bearer")], 429: [LATER], 503: [LATER]}.get(status, [])
            raise Answer(status, refused.code, refused.sentence, *headers)

    def _forget(self, session: str) -> None:
        self._ingest.sessions.pop(session, None)


def _key(request: Request) -> str:
    """The stream key. Raises what is answered to who has none."""
    scheme, _, key = (request.getHeader("authorization") or "").partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or not key or len(key) > LONGEST_KEY:
        raise Answer(
            401,
            "no_key",
            "Publishing needs the stream key: Authorization: Bearer KEY.",
            ("WWW-Authenticate", "Bearer"),
        )
    return key
