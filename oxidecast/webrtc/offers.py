"""What any offer of WebRTC must have before its codecs matter: one bundle, one transport, a fingerprint.

Both directions ask the same: WHEP of the media that it may send, WHIP of those that it may receive.
"""

from collections.abc import Sequence
from typing import Final

from oxidecast.formats.sdp_offer import Offer, OfferedMedium
from oxidecast.media import RemoteProtocolError
from oxidecast.webrtc.certificate import Fingerprint, usable

PROTOCOL: Final = "UDP/TLS/RTP/SAVPF"


def check(
    offer: Offer, used: Sequence[OfferedMedium], setups: tuple[str, ...] = ("actpass", "active")
) -> None:
    """Raises RemoteProtocolError unless the media `used`, at least one, can share a transport with us."""
    if len(used) > 1 and not {medium.mid for medium in used} <= set(offer.bundle):
        raise RemoteProtocolError("the offer's media are not in one a=group:BUNDLE")
    first = used[0]
    for medium in used:
        if medium.protocol != PROTOCOL:
            raise RemoteProtocolError(f"the offer's media are not of the protocol {PROTOCOL}")
        if not medium.rtcp_mux:
            raise RemoteProtocolError("the offer has media without a=rtcp-mux")
        if medium.ufrag and medium.ufrag != first.ufrag:
            raise RemoteProtocolError("the offer has media with more than one a=ice-ufrag in one bundle")
    if not first.ufrag:
        raise RemoteProtocolError("the offer has no a=ice-ufrag and a=ice-pwd")
    if first.setup not in setups:
        raise RemoteProtocolError(f"the offer has no {' or '.join(f'a=setup:{one}' for one in setups)}")
    if not usable(fingerprints(first)):
        raise RemoteProtocolError("the offer has no a=fingerprint of SHA-256, SHA-384 or SHA-512")


def fingerprints(medium: OfferedMedium) -> tuple[Fingerprint, ...]:
    return tuple(Fingerprint.parse(text) for text in medium.fingerprints)
