"""AC-3: everything is in the first bytes of each frame, ETSI TS 102 366 4.3."""

from dataclasses import dataclass

from oxidecast.media.bits import BitReader
from oxidecast.media.errors import RemoteProtocolError
from oxidecast.media.track import Codec, Track

SAMPLES = 1_536
"""In every frame: six blocks of 256."""

_RATES = (48000, 44100, 32000)
_KBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
_CHANNELS = (2, 1, 2, 3, 3, 4, 4, 5)  # acmod, table 4.3


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """What a frame says of itself."""

    sample_rate: int
    bit_rate: int
    channels: int
    """With the low-frequency one."""
    length: int
    """Bytes of the frame."""


def parse_header(data: bytes) -> FrameHeader:
    """Read the header at the start of a frame."""
    bits = BitReader(data[:16], "AC-3 frame header")
    if bits.u(16) != 0x0B77:
        raise RemoteProtocolError("AC-3 frame does not begin with its sync word")
    bits.skip(16)
    rate_code, size_code = bits.u(2), bits.u(6)
    if rate_code == 3 or size_code >= 2 * len(_KBITS):
        raise RemoteProtocolError(f"AC-3 fscod {rate_code} or frmsizecod {size_code} is reserved")
    version = bits.u(5)
    if version > 8:  # 9 and 10 are half and quarter rates that nobody makes; 16 is E-AC-3
        raise RemoteProtocolError(f"AC-3 bsid is {version}, above 8")
    bits.skip(3)
    mode = bits.u(3)
    if mode & 1 and mode != 1:
        bits.skip(2)
    if mode & 4:
        bits.skip(2)
    if mode == 2:
        bits.skip(2)
    rate, bit_rate = _RATES[rate_code], _KBITS[size_code >> 1] * 1000
    # At 44.1 kHz two lengths alternate, and the code's lowest bit tells which this is (table 4.13).
    words = bit_rate * SAMPLES // rate // 16 + (size_code & 1 if rate == 44100 else 0)
    return FrameHeader(rate, bit_rate, _CHANNELS[mode] + bits.u(1), words * 2)


def track(extradata: bytes, id: int = 2) -> Track:
    """The track that the first frame describes; there is no other configuration to keep."""
    header = parse_header(extradata)
    return Track(
        id=id,
        codec=Codec.AC3,
        extradata=b"",
        codec_string="ac-3",
        sample_rate=header.sample_rate,
        channels=header.channels,
    )
