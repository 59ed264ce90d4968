"""Which of what a viewer offers it is sent: from an offer and two tracks to an answer."""

import random
import secrets

import msgspec

from oxidecast.formats.sdp_answer import Sent, Transport, answer
from oxidecast.formats.sdp_offer import Offer, OfferedCodec, OfferedMedium
from oxidecast.media import RemoteProtocolError
from oxidecast.webrtc import offers
from oxidecast.webrtc.certificate import Fingerprint

FEEDBACK = ("nack", "nack pli", "ccm fir", "goog-remb")
"""What is made something of, where it is offered."""

SEND_TIME = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"
"""When a packet left. Without it a receiver compares arrivals with the frames' own times, which a burst has not."""

SHORT_EXTENSIONS = 14
"""The highest number of a header extension whose header has one byte (RFC 8285 4.2)."""

BASELINE = 66

OPUS_PARAMETERS = "minptime=10;useinbandfec=1;stereo=1;sprop-stereo=1"


class Agreed(msgspec.Struct, frozen=True):
    """What a viewer gets."""

    media: tuple[tuple[OfferedMedium, Sent | None], ...]
    fingerprints: tuple[Fingerprint, ...]
    ufrag: str
    """The viewer's."""
    cname: str

    def _of(self, kind: str) -> Sent | None:
        return next((sent for medium, sent in self.media if medium.kind == kind and sent is not None), None)

    @property
    def video(self) -> Sent | None:
        return self._of("video")

    @property
    def audio(self) -> Sent | None:
        return self._of("audio")

    @property
    def mid(self) -> str:
        """Of the first medium that is sent: what a restart is about."""
        return next(medium.mid for medium, sent in self.media if sent is not None)

    def answer(self, transport: Transport) -> str:
        return answer(random.getrandbits(62), self.media, transport, self.cname)


def check(offer: Offer) -> None:
    """Raises RemoteProtocolError for an offer that nothing can be sent to, whatever the codecs."""
    wanted = [medium for medium in offer.media if _is_wanted(medium)]
    if not wanted:
        raise RemoteProtocolError("the offer wants to receive no video and no audio")
    offers.check(offer, wanted)


def wanted(offer: Offer) -> tuple[bool, bool]:
    """Whether an offer wants pictures, and sound in a codec that there is: nothing is made that nobody hears."""
    media = [medium for medium in offer.media if _is_wanted(medium)]
    return (
        any(medium.kind == "video" for medium in media),
        any(medium.kind == "audio" and _audio(medium) is not None for medium in media),
    )


def agree(offer: Offer, video: str, audio: bool) -> Agreed:
    """What of a checked offer is sent of a stream with H.264 of this codec string (empty: no picture), and Opus or not.
    Where both sides have no medium in common, `video` and `audio` of the result are None."""
    media: list[tuple[OfferedMedium, Sent | None]] = []
    has_video = has_audio = False
    for medium in offer.media:
        sent = None
        if medium.kind == "video" and video and not has_video and _is_wanted(medium):
            sent = _video(medium, video)
            has_video = sent is not None
        elif medium.kind == "audio" and audio and not has_audio and _is_wanted(medium):
            sent = _audio(medium)
            has_audio = sent is not None
        media.append((medium, sent))
    first = next(medium for medium in offer.media if _is_wanted(medium))
    return Agreed(tuple(media), offers.fingerprints(first), first.ufrag, secrets.token_hex(8))


def _is_wanted(medium: OfferedMedium) -> bool:
    return (
        medium.kind in ("video", "audio")
        and not medium.rejected
        and medium.direction in ("recvonly", "sendrecv")
    )


def _video(medium: OfferedMedium, codec_string: str) -> Sent | None:
    offered = [
        codec
        for codec in medium.codecs
        if codec.name == "h264"
        and codec.clock_rate == 90_000
        and codec.parameter("packetization-mode") == "1"
    ]
    if not offered:
        return None
    codec = min(offered, key=lambda one: _distance(_profile(one), int(codec_string[5:7], 16)))
    again = medium.retransmission(codec)
    return Sent(
        codec=codec,
        ssrc=_ssrc(),
        parameters=codec.parameters,
        feedback=tuple(one for one in FEEDBACK if one in codec.feedback),
        retransmission=again,
        retransmission_ssrc=_ssrc(),
        extensions=tuple(
            (number, name)
            for number, name in medium.extensions
            if name == SEND_TIME and number <= SHORT_EXTENSIONS
        ),
    )


def _audio(medium: OfferedMedium) -> Sent | None:
    for codec in medium.codecs:
        if (codec.name, codec.clock_rate, codec.channels) == ("opus", 48_000, 2):
            return Sent(codec=codec, ssrc=_ssrc(), parameters=OPUS_PARAMETERS)
    return None


def _profile(codec: OfferedCodec) -> int:
    """profile_idc of a `profile-level-id`; Baseline where there is none (RFC 6184 8.1)."""
    text = codec.parameter("profile-level-id")
    try:
        return int(text[:2], 16)
    except ValueError:
        return BASELINE


def _distance(offered: int, sent: int) -> tuple[int, int]:
    """How far a decoder of a profile is from what is sent: none that reads more comes before any that reads less. The
    last are not left out, since most decoders read more than they say."""
    return (0, offered - sent) if offered >= sent else (1, sent - offered)


def _ssrc() -> int:
    return secrets.randbits(32)
