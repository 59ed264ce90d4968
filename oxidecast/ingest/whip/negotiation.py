"""Which of what a publisher offers is taken: from an offer to an answer that receives.

The one idea: one codec for each kind, the one that most viewers can be given as it is; of those that are alike in
that, the publisher's own order decides.
"""

import random
import secrets
from collections.abc import Mapping
from typing import Final

import msgspec

from oxidecast.formats.sdp_answer import Received, Transport, answer
from oxidecast.formats.sdp_offer import Offer, OfferedCodec, OfferedMedium
from oxidecast.media import Codec, RemoteProtocolError
from oxidecast.webrtc import offers
from oxidecast.webrtc.certificate import Fingerprint

VIDEO: Final[Mapping[str, Codec]] = {
    "h264": Codec.H264,
    "h265": Codec.HEVC,
    "av1": Codec.AV1,
    "vp9": Codec.VP9,
    "vp8": Codec.VP8,
}
"""By the names of SDP."""

_LAST: Final = {"vp9": 1, "vp8": 2}
"""Few players take VP9 in HLS, and none takes VP8."""

TRANSPORT_WIDE: Final = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
MID: Final = "urn:ietf:params:rtp-hdrext:sdes:mid"
RID: Final = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"
REPAIRED_RID: Final = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"
"""What says of which stream a packet is, and of which one that is sent again (RFC 8852)."""
MAX_ELEMENT: Final = 14
"""The highest number of a header extension whose header has one byte (RFC 8285 4.2)."""
LONGEST_RID: Final = 16
"""Bytes that such an extension holds."""
MAX_LAYERS: Final = 4
"""Streams of one picture that are taken, each with a buffer and a rendition of its own: browsers send three."""

VIDEO_FEEDBACK: Final = ("nack", "nack pli", "transport-cc", "goog-remb")
AUDIO_FEEDBACK: Final = ("nack", "transport-cc")
"""What we send, where it is offered."""

SETUPS: Final = ("actpass", "active", "passive")
"""RFC 9725 4.4.3 wants the first or second; FFmpeg offers the third."""


class Agreed(msgspec.Struct, frozen=True):
    """What a publisher sends."""

    media: tuple[tuple[OfferedMedium, Received | None], ...]
    fingerprints: tuple[Fingerprint, ...]
    ufrag: str
    """The publisher's."""
    cname: str
    active: bool
    """Whether we begin the handshake."""

    def _of(self, kind: str) -> Received | None:
        return next((one for medium, one in self.media if medium.kind == kind and one is not None), None)

    @property
    def video(self) -> Received | None:
        return self._of("video")

    @property
    def audio(self) -> Received | None:
        return self._of("audio")

    @property
    def mid(self) -> str:
        """Of the first medium that is received: what a restart is about."""
        return next(medium.mid for medium, one in self.media if one is not None)

    def answer(self, transport: Transport) -> str:
        return answer(random.getrandbits(62), self.media, transport, self.cname)


def check(offer: Offer) -> None:
    """Raises RemoteProtocolError for an offer that nothing can be received of, whatever the codecs."""
    sent = [medium for medium in offer.media if _is_sent(medium)]
    if not sent:
        raise RemoteProtocolError("the offer sends no video and no audio")
    offers.check(offer, sent, SETUPS)


def agree(offer: Offer) -> Agreed:
    """What of a checked offer is received: the first video and the first audio, where there is a codec that fits."""
    media: list[tuple[OfferedMedium, Received | None]] = []
    taken: set[str] = set()
    for medium in offer.media:
        received = None
        if _is_sent(medium) and medium.kind not in taken:
            received = _video(medium) if medium.kind == "video" else _audio(medium)
            if received is not None:
                taken.add(medium.kind)
        media.append((medium, received))
    first = next(medium for medium in offer.media if _is_sent(medium))
    numbers = [number for _, one in media if one is not None for number in payload_types(one)]
    if len(set(numbers)) < len(numbers):
        raise RemoteProtocolError("the offer has one payload type for two codecs of one bundle")
    return Agreed(
        tuple(media),
        offers.fingerprints(first),
        first.ufrag,
        secrets.token_hex(8),
        first.setup == "passive",
    )


def payload_types(received: Received) -> list[int]:
    """All that a medium comes by."""
    again = received.retransmission
    return [received.codec.payload_type, *([again.payload_type] if again is not None else [])]


def _is_sent(medium: OfferedMedium) -> bool:
    return (
        medium.kind in ("video", "audio")
        and not medium.rejected
        and medium.direction in ("sendonly", "sendrecv")
    )


def _video(medium: OfferedMedium) -> Received | None:
    fitting = [one for one in medium.codecs if one.name in VIDEO and one.clock_rate == 90_000]
    if not fitting:
        return None
    codec = min(fitting, key=_rank)
    layers = _layers(medium, codec)
    names = (TRANSPORT_WIDE, MID, RID, REPAIRED_RID) if layers else (TRANSPORT_WIDE,)
    return Received(
        codec,
        codec.parameters,
        tuple(one for one in VIDEO_FEEDBACK if one in codec.feedback),
        medium.retransmission(codec),
        _extensions(medium, *names),
        layers,
    )


def _layers(medium: OfferedMedium, codec: OfferedCodec) -> tuple[str, ...]:
    """The streams of a simulcast that are received; none where their packets do not say which they are of."""
    if not _extensions(medium, RID):
        return ()
    return tuple(
        layer.rid
        for layer in medium.layers
        if len(layer.rid) <= LONGEST_RID
        and (not layer.payload_types or codec.payload_type in layer.payload_types)
    )[:MAX_LAYERS]


def _rank(codec: OfferedCodec) -> tuple[int, bool]:
    single = codec.name == "h264" and codec.parameter("packetization-mode") != "1"
    return _LAST.get(codec.name, 0), single


def _audio(medium: OfferedMedium) -> Received | None:
    for codec in medium.codecs:
        if (codec.name, codec.clock_rate, codec.channels) == ("opus", 48_000, 2):
            feedback = tuple(one for one in AUDIO_FEEDBACK if one in codec.feedback)
            return Received(
                codec,
                "minptime=10;useinbandfec=1;stereo=1",
                feedback,
                None,
                _extensions(medium, TRANSPORT_WIDE),
            )
    return None


def _extensions(medium: OfferedMedium, *names: str) -> tuple[tuple[int, str], ...]:
    """Those that are made something of, each once."""
    found = {
        name: number for number, name in medium.extensions if name in names and 0 < number <= MAX_ELEMENT
    }
    return tuple((number, name) for name, number in found.items())
