"""What encoders make, as the house has it: tracks of their configurations, payloads of their packets.

x264, x265 and the devices' encoders write start codes, AV1's write OBUs behind a temporal
delimiter, and VP8's say all in each keyframe.
"""

from collections.abc import Callable, Collection
from typing import NamedTuple

from oxidecast.media import Track, av1, h264, hevc, nal, vp8

_H264_SEI = (6,)
_HEVC_SEI = (39, 40)


class Coded(NamedTuple):
    """The two conversions of one codec."""

    track: Callable[[bytes], Track]
    """Of an encoder's extradata."""
    payload: Callable[[bytes], bytes]
    """Of an encoder's packet."""
    in_band: Callable[[bytes], Track] | None = None
    """Of a keyframe's payload, where only that says what the track is."""


def coded_by(encoder: str) -> Coded:
    """By FFmpeg's name of the encoder."""
    if "libvpx" in encoder:
        return Coded(vp8.track, bytes, vp8.track)
    if "av1" in encoder:
        return Coded(lambda data: av1.track(av1.configuration(_obus(data))), av1.strip)
    if "hevc" in encoder or "265" in encoder:
        return Coded(lambda data: hevc.track(hevc.configuration_from_annexb(data)), _hevc)
    return Coded(lambda data: h264.track(h264.configuration_from_annexb(data)), _h264)


def _obus(data: bytes) -> bytes:
    """FFmpeg's containers keep av1C where encoders have OBUs alone; none of these begins as it does (av1C 2.3.3)."""
    return av1.parse_configuration(data) if data[:1] == b"\x81" else data


def _h264(data: bytes) -> bytes:
    return _without(nal.from_annexb(data), lambda head: head & 31, _H264_SEI)


def _hevc(data: bytes) -> bytes:
    return _without(hevc.strip(nal.from_annexb(data)), lambda head: head >> 1 & 63, _HEVC_SEI)


def _without(payload: bytes, kind: Callable[[int], int], unwanted: Collection[int]) -> bytes:
    """x264 writes its settings into the first picture; nobody needs to know them."""
    found = nal.spans(payload)
    gone = [at for at, (start, end) in enumerate(found) if start == end or kind(payload[start]) in unwanted]
    return nal.without(payload, found, gone) if gone else payload
