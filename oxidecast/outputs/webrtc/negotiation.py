"""Which of what a viewer offers it is sent: from an offer and two tracks to an answer.

The one idea: a codec that is offered fits a track by how far its decoder is from it, and the nearest one is taken.
"""

import random
import secrets
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from oxidecast.formats.sdp_answer import Sent, Transport, answer
from oxidecast.formats.sdp_offer import Offer, OfferedCodec, OfferedMedium
from oxidecast.media import Codec, RemoteProtocolError, Track
from oxidecast.webrtc import offers
from oxidecast.webrtc.certificate import Fingerprint

FEEDBACK = ("nack", "nack pli", "ccm fir", "goog-remb")
"""What is made something of, where it is offered."""

REPAIRED: Final = (Codec.H264, Codec.VP8)
"""What pictures are made into for who cannot take them as they are, best first. Every WebRTC endpoint has one of them:
browsers have to have both (RFC 7742 5)."""

NAMES: Final[Mapping[Codec, str]] = {
    Codec.H264: "H.264",
    Codec.HEVC: "HEVC",
    Codec.AV1: "AV1",
    Codec.VP9: "VP9",
    Codec.VP8: "VP8",
}
"""For people."""

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


def takes(offer: Offer, track: Track) -> bool:
    """Whether pictures of this track can be sent as they are."""
    return any(_fitting(medium, track) for medium in offer.media if _is_wanted(medium))


def repaired(offer: Offer) -> Codec | None:
    """What pictures are to be made into for this viewer; None where it has none of `REPAIRED`."""
    names = {
        _name(codec)
        for medium in offer.media
        if _is_wanted(medium)
        for codec in medium.codecs
        if _usable(codec)
    }
    return next((codec for codec in REPAIRED if codec in names), None)


def goes_on(codec: OfferedCodec, track: Track) -> bool:
    """Whether who agreed to `codec` can be sent this track."""
    return _name(codec) is track.codec and _DISTANCES[track.codec](codec, track) is not None


def agree(offer: Offer, video: Track | None, audio: bool) -> Agreed:
    """What of a checked offer is sent of a stream with these pictures, and Opus or not. Where both sides have no medium
    in common, `video` and `audio` of the result are None."""
    media: list[tuple[OfferedMedium, Sent | None]] = []
    has_video = has_audio = False
    for medium in offer.media:
        sent = None
        if medium.kind == "video" and video is not None and not has_video and _is_wanted(medium):
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


def _video(medium: OfferedMedium, track: Track) -> Sent | None:
    fitting = _fitting(medium, track)
    if not fitting:
        return None
    _, _, codec = min(fitting, key=lambda one: one[:2])
    again = medium.retransmission(codec)
    return Sent(
        codec=codec,
        ssrc=_ssrc(),
        parameters=codec.parameters,
        feedback=tuple(one for one in FEEDBACK if one in codec.feedback),
        retransmission=again,
        retransmission_ssrc=_ssrc(),
    )


def _fitting(medium: OfferedMedium, track: Track) -> list[tuple[tuple[int, int], int, OfferedCodec]]:
    """What of a medium can be used for a track: how far it is from it, its place, and itself."""
    found = []
    for place, codec in enumerate(medium.codecs):
        if _usable(codec) and _name(codec) is track.codec:
            distance = _DISTANCES[track.codec](codec, track)
            if distance is not None:
                found.append((distance, place, codec))
    return found


def _audio(medium: OfferedMedium) -> Sent | None:
    for codec in medium.codecs:
        if (codec.name, codec.clock_rate, codec.channels) == ("opus", 48_000, 2):
            return Sent(codec=codec, ssrc=_ssrc(), parameters=OPUS_PARAMETERS)
    return None


def _name(codec: OfferedCodec) -> Codec | None:
    return _BY_NAME.get(codec.name)


def _usable(codec: OfferedCodec) -> bool:
    """Whether it is a video codec as we send it."""
    if codec.name == "h264" and codec.parameter("packetization-mode") != "1":
        return False
    if codec.name == "h265" and codec.parameter("tx-mode", "srst") != "srst":
        return False
    return codec.name in _BY_NAME and codec.clock_rate == 90_000


def _h264(codec: OfferedCodec, track: Track) -> tuple[int, int]:
    """None that reads more comes before any that reads less. The last are not left out, since most decoders read more
    than they say."""
    offered, sent = (
        _hexadecimal(codec.parameter("profile-level-id")[:2], BASELINE),
        int(track.codec_string[5:7], 16),
    )
    return (0, offered - sent) if offered >= sent else (1, sent - offered)


def _hevc(codec: OfferedCodec, track: Track) -> tuple[int, int] | None:
    """By profile-id (RFC 7798 7.1): Main 10 reads Main, and Main cannot read Main 10."""
    return _at_least(codec.parameter("profile-id"), 1, track.codec_string.split(".")[1].lstrip("ABC"))


def _av1(codec: OfferedCodec, track: Track) -> tuple[int, int] | None:
    """By profile ("RTP Payload Format For AV1" 7.2): High reads Main, Professional reads all."""
    return _at_least(codec.parameter("profile"), 0, track.codec_string.split(".")[1])


def _vp9(codec: OfferedCodec, track: Track) -> tuple[int, int] | None:
    """By profile-id (RFC 9628 7): a decoder says one by one which it reads."""
    distance = _at_least(codec.parameter("profile-id"), 0, track.codec_string.split(".")[1])
    return distance if distance == (0, 0) else None


def _at_least(offered: str, default: int, sent: str) -> tuple[int, int] | None:
    try:
        more = (int(offered) if offered else default) - int(sent)
    except ValueError:
        return None
    return (0, more) if more >= 0 else None


def _hexadecimal(text: str, default: int) -> int:
    try:
        return int(text, 16)
    except ValueError:
        return default  # RFC 6184 8.1: where there is none, Baseline.


_BY_NAME: Final[Mapping[str, Codec]] = {
    "h264": Codec.H264,
    "h265": Codec.HEVC,
    "av1": Codec.AV1,
    "vp9": Codec.VP9,
    "vp8": Codec.VP8,
}

_DISTANCES: Final[Mapping[Codec, Callable[[OfferedCodec, Track], tuple[int, int] | None]]] = {
    Codec.H264: _h264,
    Codec.HEVC: _hevc,
    Codec.AV1: _av1,
    Codec.VP9: _vp9,
    Codec.VP8: lambda codec, track: (0, 0),
}
"""How far a decoder is from a track, less is nearer; None where it cannot read it."""


def _ssrc() -> int:
    return secrets.randbits(32)
