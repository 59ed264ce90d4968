"""MP3 (MPEG-1, 2 and 2.5 audio layer III): all is in the four bytes before each frame (ISO 11172-3)."""

from dataclasses import dataclass

from oxidecast.media.errors import RemoteProtocolError
from oxidecast.media.track import Codec, Track

CODEC_STRING = "mp4a.40.34"
"""MPEG-4 audio object type 34. Apple's HLS tools write it, and hls.js knows it by name and then looks into
the stream; the bare "mp3" is understood by some browsers' MSE only and is no RFC 6381 string."""

_VERSIONS = {3: "MPEG-1", 2: "MPEG-2", 0: "MPEG-2.5"}
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_KBITS_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBITS_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """What a frame header says."""

    version: str
    bit_rate: int
    sample_rate: int
    channels: int
    samples: int
    """In the frame: 1152, or 576 below 32 kHz."""
    length: int
    """Bytes of the frame, header included."""


def parse_header(data: bytes) -> FrameHeader:
    """Read the frame header at the start of `data`."""
    if len(data) < 4:
        raise RemoteProtocolError(f"MP3 frame header has {len(data)} bytes of 4")
    if data[0] != 0xFF or data[1] & 0xE0 != 0xE0:
        raise RemoteProtocolError("MP3 frame does not begin with its sync word")
    version, layer = data[1] >> 3 & 3, data[1] >> 1 & 3
    if version not in _VERSIONS or layer != 1:
        raise RemoteProtocolError(f"MPEG audio version {version}, layer code {layer} is not layer III")
    rate_code, bit_rate_code = data[2] >> 2 & 3, data[2] >> 4
    # 0 is "free format": such a frame's length shows only in the next one; no live encoder makes it.
    if rate_code == 3 or bit_rate_code in (0, 15):
        raise RemoteProtocolError(
            f"MP3 bit rate code {bit_rate_code} or rate code {rate_code} is not carried"
        )
    rate = _RATES[version][rate_code]
    bit_rate = (_KBITS_1 if version == 3 else _KBITS_2)[bit_rate_code] * 1000
    samples = 1152 if version == 3 else 576
    length = samples // 8 * bit_rate // rate + (data[2] >> 1 & 1)
    return FrameHeader(_VERSIONS[version], bit_rate, rate, 1 if data[3] >> 6 == 3 else 2, samples, length)


def track(extradata: bytes, id: int = 2) -> Track:
    """The track that the first frame describes; there is no other configuration to keep."""
    header = parse_header(extradata)
    return Track(
        id=id,
        codec=Codec.MP3,
        extradata=b"",
        codec_string=CODEC_STRING,
        sample_rate=header.sample_rate,
        channels=header.channels,
        profile=f"{header.version} layer III",
    )
