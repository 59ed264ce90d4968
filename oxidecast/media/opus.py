"""Opus: OpusHead and dOps, which say the same in two byte orders, and how long a packet lasts.

OpusHead is RFC 7845 5.1; dOps is "Encapsulation of Opus in ISO Base Media File Format" 4.3.2; packets are
RFC 6716 3.
"""

from struct import Struct

from oxidecast.media.errors import RemoteProtocolError
from oxidecast.media.track import Codec, Track

SAMPLE_RATE = 48_000
"""Opus always decodes at 48 kHz; the input rate in its header is for people."""

MAX_PACKET_SAMPLES = 5_760
"""120 ms, the longest packet (RFC 6716 3.2.5)."""

_MAGIC = b"OpusHead"
_OPUS_HEAD = Struct("<BBHIhB")
_DOPS = Struct(">BBHIhB")

# RFC 6716 table 2: samples of one frame at 48 kHz, by the configuration number of the TOC byte.
_FRAME_SAMPLES = (480, 960, 1920, 2880) * 3 + (480, 960) * 2 + (120, 240, 480, 960) * 4


def track(extradata: bytes, id: int = 2) -> Track:
    """The track of an OpusHead (with its magic) or a dOps body; `Track.extradata` is the dOps body."""
    body = dops(extradata) if extradata.startswith(_MAGIC) else extradata
    channels = _checked(body, "dOps", _DOPS, 0)
    return Track(
        id=id,
        codec=Codec.OPUS,
        extradata=body,
        codec_string="opus",
        sample_rate=SAMPLE_RATE,
        channels=channels,
    )


def dops(opus_head: bytes) -> bytes:
    """The body of a dOps box from an OpusHead."""
    head = opus_head[len(_MAGIC) :]
    channels = _checked(head, "OpusHead", _OPUS_HEAD, 1)
    _, _, pre_skip, rate, gain, family = _OPUS_HEAD.unpack_from(head)
    mapping = head[_OPUS_HEAD.size : _OPUS_HEAD.size + 2 + channels] if family else b""
    return _DOPS.pack(0, channels, pre_skip, rate, gain, family) + mapping


def _checked(head: bytes, what: str, layout: Struct, version: int) -> int:
    """Check what both forms hold; the number of channels."""
    if len(head) < layout.size:
        raise RemoteProtocolError(f"{what} has {len(head)} bytes, and the shortest has {layout.size}")
    said, channels = head[0], head[1]
    family = head[layout.size - 1]
    if said >> 4 or (said and not version):
        raise RemoteProtocolError(f"{what} version is {said}, not {version}")
    if not channels or (family == 0 and channels > 2):
        raise RemoteProtocolError(f"{what} says {channels} channels in mapping family {family}")
    if family and len(head) < layout.size + 2 + channels:
        raise RemoteProtocolError(f"{what} ends in the middle of its channel mapping")
    return channels


def samples(payload: bytes) -> int:
    """Samples at 48 kHz in one packet, from its first two bytes (RFC 6716 3.1)."""
    if not payload:
        raise RemoteProtocolError("Opus packet is empty")
    code = payload[0] & 3
    if code == 3:
        if len(payload) < 2:
            raise RemoteProtocolError("Opus packet ends before its frame count")
        frames = payload[1] & 63
    else:
        frames = 1 if code == 0 else 2
    total = frames * _FRAME_SAMPLES[payload[0] >> 3]
    if not 0 < total <= MAX_PACKET_SAMPLES:
        raise RemoteProtocolError(f"Opus packet lasts {total} samples, not 1 to {MAX_PACKET_SAMPLES}")
    return total
