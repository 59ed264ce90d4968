"""Who may play, asked of the hub for a hot request: for every output with addresses of its own."""

from oxidecast.delivery.envelope import envelope
from oxidecast.delivery.hot import HotAnswer, HotRequest
from oxidecast.interfaces import IServices, PlayRequest, Refused
from oxidecast.streams.info import StreamInfo

RETRY_AFTER = b"5"
"""Seconds after which to ask again, when nobody can say now: the database is away."""


def client_of(request: HotRequest) -> str:
    """The client's address, or empty."""
    return str(getattr(request.client, "host", ""))


async def admitted(
    services: IServices, info: StreamInfo, request: HotRequest, protocol: str
) -> bool | HotAnswer:
    """Whether the stream may be played; if not, the refusal to answer with. The token is in `Authorization: Bearer`, or
    in `?token=`. True says that it is good at this client's address only."""
    scheme, _, bearer = (request.header(b"authorization") or b"").partition(b" ")
    token = bearer if scheme.lower() == b"bearer" else request.query.get(b"token", b"")
    asked = PlayRequest(
        protocol=protocol, address=client_of(request), token=token.decode("utf-8", "replace").strip()
    )
    try:
        return bool(await services.hub.authorise(info, asked))
    except Refused as refused:
        if refused.code == "unavailable":
            return refusal(services, 503, refused.code, refused.sentence, (b"Retry-After", RETRY_AFTER))
        return refusal(services, 401, refused.code, refused.sentence, (b"WWW-Authenticate", b"Bearer"))


def refusal(
    services: IServices, status: int, code: str, sentence: str, *headers: tuple[bytes, bytes]
) -> HotAnswer:
    """The JSON envelope that all refusals are."""
    return HotAnswer(
        envelope(services.reactor.seconds(), error=sentence, code=code),
        b"application/json",
        status=status,
        cache_control=b"no-store",
        cors=True,
        headers=headers,
    )
