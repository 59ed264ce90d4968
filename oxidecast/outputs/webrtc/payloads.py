"""A picture of any codec as RTP payloads: which format, and what goes before a keyframe that lacks it."""

from collections.abc import Callable, Mapping
from typing import Final

from oxidecast.formats import rtp_av1, rtp_h264, rtp_hevc, rtp_vp8, rtp_vp9
from oxidecast.formats.rtp_runs import Run
from oxidecast.media import Codec, Packet, av1, h264, hevc


def _h264(packet: Packet, limit: int) -> list[Run]:
    sets = h264.parse_configuration(packet.track.extradata)
    return rtp_h264.packetize(packet.payload, limit, (*sets.sps, *sets.pps))


def _hevc(packet: Packet, limit: int) -> list[Run]:
    sets = hevc.parse_configuration(packet.track.extradata)
    return rtp_hevc.packetize(packet.payload, limit, (*sets.vps, *sets.sps, *sets.pps))


def _av1(packet: Packet, limit: int) -> list[Run]:
    return rtp_av1.packetize(packet.payload, limit, av1.parse_configuration(packet.track.extradata))


_PACKETIZERS: Final[Mapping[Codec, Callable[[Packet, int], list[Run]]]] = {
    Codec.H264: _h264,
    Codec.HEVC: _hevc,
    Codec.AV1: _av1,
    Codec.VP9: lambda packet, limit: rtp_vp9.packetize(packet.payload, limit),
    Codec.VP8: lambda packet, limit: rtp_vp8.packetize(packet.payload, limit),
}


def packetize(packet: Packet, limit: int) -> tuple[Run, ...]:
    """Runs of payloads of at most `limit` bytes; none where nothing of it is sent. Raises RemoteProtocolError for what
    is no picture of its codec."""
    return tuple(_PACKETIZERS[packet.track.codec](packet, limit))
