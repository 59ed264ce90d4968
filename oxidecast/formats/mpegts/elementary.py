"""How each codec travels in a transport stream: stream type, descriptors, access units, PES packets.

H.264 and HEVC go as byte streams with a delimiter before each picture and parameter sets before each IDR, so
that decoding can start at any of them; AAC goes in ADTS; Opus behind the control header of its own binding
(the draft "OpusTS" of the Opus project).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from oxidecast.media import Codec, LocalProtocolError, Packet, RemoteProtocolError, Track, aac, h264, hevc

_VIDEO, _AUDIO, _PRIVATE = 0xE0, 0xC0, 0xBD
"""stream_id (H.222.0, table 2-22)."""

_TIMESTAMP_CYCLE = 1 << 33
_MAX_LENGTH = 0xFFFF


@dataclass(frozen=True, slots=True)
class Carriage:
    """What the transport stream says of a codec."""

    stream_type: int
    stream_id: int
    access_unit: Callable[[bytes, Track], bytes]
    """What stands in the stream for a packet's payload."""
    descriptors: Callable[[Track], bytes] = lambda track: b""
    parameters: Callable[[bytes], object] = lambda extradata: None
    """Reads the configuration that pictures need; raises RemoteProtocolError."""


def carries(codec: Codec) -> bool:
    """Whether MPEG-TS can hold this codec: there is no binding of AV1 and VP9 that players know."""
    return codec in _CARRIAGES


def carriage(track: Track) -> Carriage:
    """How `track` travels. Raises LocalProtocolError for a codec that cannot."""
    found = _CARRIAGES.get(track.codec)
    if found is None:
        raise LocalProtocolError(f"MPEG-TS does not carry {track.codec.value}")
    if track.codec is Codec.MP3 and track.sample_rate < 32_000:
        return _MPEG2_AUDIO
    return found


def obstacle(track: Track) -> str:
    """Why `track` cannot travel, for people; "" when it can."""
    if not carries(track.codec):
        return f"MPEG-TS cannot carry {track.codec.value}"
    try:
        how = carriage(track)
        how.descriptors(track)
        if track.codec is Codec.AAC:
            aac.adts_header(track, 0)
        elif track.is_video:
            how.parameters(track.extradata)
    except (LocalProtocolError, RemoteProtocolError) as error:
        return str(error)
    return ""


def pes(how: Carriage, packets: Sequence[Packet], lead: int) -> bytes:
    """The packets as one PES packet, stamped with the first one's times plus `lead` ticks (2.4.3.6).

    The length is written whenever it fits, since a receiver then need not wait for the next frame to know
    this one's end; only video may leave it out. Raises LocalProtocolError where sound is too long for it.
    """
    first = packets[0]
    data = b"".join([how.access_unit(packet.payload, packet.track) for packet in packets])
    if first.dts == first.pts:
        flags, stamps = 0x80, _timestamp(0x2, first.pts + lead)
    else:
        flags, stamps = 0xC0, _timestamp(0x3, first.pts + lead) + _timestamp(0x1, first.dts + lead)
    length = 3 + len(stamps) + len(data)
    if length > _MAX_LENGTH:
        if how.stream_id != _VIDEO:
            raise LocalProtocolError(f"an audio PES packet of {length} bytes exceeds {_MAX_LENGTH}")
        length = 0
    # 0x84: the marker bits '10', and data_alignment_indicator: an access unit begins right behind the header.
    header = (0x100 | how.stream_id) << 40 | length << 24 | 0x84 << 16 | flags << 8 | len(stamps)
    return header.to_bytes(9, "big") + stamps + data


def _timestamp(prefix: int, ticks: int) -> bytes:
    ticks %= _TIMESTAMP_CYCLE
    return (
        prefix << 36
        | (ticks >> 30) << 33
        | 1 << 32
        | (ticks >> 15 & 0x7FFF) << 17
        | 1 << 16
        | (ticks & 0x7FFF) << 1
        | 1
    ).to_bytes(5, "big")


def descriptor(tag: int, body: bytes) -> bytes:
    """A descriptor (2.6)."""
    return bytes((tag, len(body))) + body


def _registration(identifier: bytes) -> bytes:
    return descriptor(0x05, identifier)


def _opus_descriptors(track: Track) -> bytes:
    """Registration, and the extension descriptor 0x80, whose channel configuration is their count."""
    channels = track.channels or 2
    if channels > 8:
        raise LocalProtocolError(f"Opus in MPEG-TS has at most 8 channels, not {channels}")
    return _registration(b"Opus") + descriptor(0x7F, bytes((0x80, channels)))


def _opus_access_unit(payload: bytes, _: Track) -> bytes:
    """The frame behind its control header: 0x3FF in 11 bits, no trims, and its size as a run of 255s."""
    full, rest = divmod(len(payload), 255)
    return b"\x7f\xe0" + b"\xff" * full + bytes((rest,)) + payload


def _adts_access_unit(payload: bytes, track: Track) -> bytes:
    return aac.adts_header(track, len(payload)) + payload


def _as_it_is(payload: bytes, _: Track) -> bytes:
    return payload


_CARRIAGES = {
    Codec.H264: Carriage(0x1B, _VIDEO, h264.annexb, parameters=h264.parse_configuration),
    Codec.HEVC: Carriage(
        0x24, _VIDEO, hevc.annexb, lambda track: _registration(b"HEVC"), hevc.parse_configuration
    ),
    Codec.AAC: Carriage(0x0F, _AUDIO, _adts_access_unit),
    Codec.MP3: Carriage(0x03, _AUDIO, _as_it_is),
    Codec.AC3: Carriage(0x81, _PRIVATE, _as_it_is, lambda track: _registration(b"AC-3")),
    Codec.OPUS: Carriage(0x06, _PRIVATE, _opus_access_unit, _opus_descriptors),
}
_MPEG2_AUDIO = Carriage(0x04, _AUDIO, _as_it_is)
"""MP3 below 32 kHz is MPEG-2 audio."""
