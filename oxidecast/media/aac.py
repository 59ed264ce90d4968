"""AAC: what an AudioSpecificConfig says, and the ADTS header that MPEG-TS wants before each frame.

Clauses are of ISO/IEC 14496-3. HE-AAC is signalled in three ways; the two explicit ones (object type 5 or
29 first, or a sync extension behind an LC configuration) are read here, and the implicit one cannot be seen
without decoding.
"""

from dataclasses import dataclass
from functools import lru_cache

from oxidecast.media.bits import BitReader
from oxidecast.media.errors import LocalProtocolError, RemoteProtocolError
from oxidecast.media.track import Codec, Track

MAX_CONFIGURATION = 1_024
"""Bytes of AudioSpecificConfig: 2 to 5 as a rule, some 400 with the longest program_config_element."""

MAX_SAMPLE_RATE = 192_000
"""Above twice the highest rate that has an index."""

MAX_ADTS_FRAME = 8_191
"""aac_frame_length has 13 bits and counts the header (1.A.2.2.1)."""

_RATES = (
    96000,
    88200,
    64000,
    48000,
    44100,
    32000,
    24000,
    22050,
    16000,
    12000,
    11025,
    8000,
    7350,
)  # table 1.18
_EXPLICIT_RATE = 15
_CHANNELS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6, 7: 8, 11: 7, 12: 8, 14: 8}  # table 1.19

_SBR, _ER_BSAC, _PS = 5, 22, 29
_GENERAL_AUDIO = frozenset(
    {1, 2, 3, 4, 6, 7, 17, 19, 20, 21, 22, 23}
)  # those with GASpecificConfig (1.6.2.1)
_PROFILES = {1: "Main", 2: "LC", 3: "SSR", 4: "LTP"}


@dataclass(frozen=True, slots=True)
class Configuration:
    """An AudioSpecificConfig, taken apart (1.6.2.1)."""

    object_type: int
    """Of the core: 2 for LC, also under SBR."""
    core_rate: int
    """Samples a second before SBR; what ADTS says."""
    channel_configuration: int
    sbr: bool
    ps: bool
    sample_rate: int
    """Samples a second after decoding."""
    channels: int
    """After decoding: parametric stereo makes two of one."""
    samples_per_frame: int
    """At `sample_rate`: 1024 or 960, twice that with SBR at twice the core's rate."""
    program: bytes
    """The program_config_element as it stands in a raw_data_block, where channel_configuration is 0."""

    @property
    def codec_string(self) -> str:
        return f"mp4a.40.{_PS if self.ps else _SBR if self.sbr else self.object_type}"

    @property
    def profile(self) -> str:
        if self.sbr:
            return "HE-AACv2" if self.ps else "HE-AAC"
        return _PROFILES.get(self.object_type, f"object type {self.object_type}")


@lru_cache(maxsize=64)
def parse_configuration(extradata: bytes) -> Configuration:
    """Read an AudioSpecificConfig. Cached, since the ADTS header of every frame asks for it."""
    if len(extradata) > MAX_CONFIGURATION:
        raise RemoteProtocolError(
            f"AudioSpecificConfig has {len(extradata)} bytes, above {MAX_CONFIGURATION}"
        )
    bits = BitReader(extradata, "AudioSpecificConfig")
    object_type = _read_object_type(bits)
    core_rate = sample_rate = _read_rate(bits)
    channel_configuration = bits.u(4)
    ps = object_type == _PS
    sbr = ps or object_type == _SBR
    if sbr:
        sample_rate = _read_rate(bits)
        object_type = _read_object_type(bits)
        if object_type == _ER_BSAC:
            bits.skip(4)
    if object_type not in _GENERAL_AUDIO:
        raise RemoteProtocolError(f"AudioSpecificConfig's audio object type {object_type} is not AAC")
    frame = 960 if bits.flag() else 1024
    if bits.flag():
        bits.skip(14)  # coreCoderDelay
    extended = bits.flag()
    channels, program = _CHANNELS.get(channel_configuration, 0), b""
    if channel_configuration == 0:
        channels, program = _read_program(bits)
    if not channels:
        raise RemoteProtocolError(
            f"AudioSpecificConfig's channel configuration {channel_configuration} is reserved"
        )
    if not sbr:
        _skip_extension(bits, object_type, extended)
        sbr, ps, sample_rate = _read_sync_extension(bits, core_rate)
    if sbr and sample_rate not in (core_rate, 2 * core_rate):
        raise RemoteProtocolError(
            f"AudioSpecificConfig's SBR rate {sample_rate} does not fit its core's {core_rate}"
        )
    return Configuration(
        object_type,
        core_rate,
        channel_configuration,
        sbr,
        ps,
        sample_rate,
        2 if ps and channels == 1 else channels,
        frame * (sample_rate // core_rate),
        program,
    )


def _read_object_type(bits: BitReader) -> int:
    kind = bits.u(5)
    return kind if kind < 31 else 32 + bits.u(6)


def _read_rate(bits: BitReader) -> int:
    index = bits.u(4)
    if index == _EXPLICIT_RATE:
        rate = bits.u(24)
        if not 0 < rate <= MAX_SAMPLE_RATE:
            raise RemoteProtocolError(f"AudioSpecificConfig's samplingFrequency is {rate}")
        return rate
    if index >= len(_RATES):
        raise RemoteProtocolError(f"AudioSpecificConfig's samplingFrequencyIndex {index} is reserved")
    return _RATES[index]


def _read_program(bits: BitReader) -> tuple[int, bytes]:
    """program_config_element() (4.4.1.1): its channels, and the element for a raw_data_block.

    In a raw_data_block three bits of element ID stand before it, so its bits are shifted; its comment is
    left out.
    """
    start = bits.position
    bits.skip(10)
    elements = [bits.u(4), bits.u(4), bits.u(4)]  # front, side, back
    lfe, data, coupling = bits.u(2), bits.u(3), bits.u(4)
    for mixdown in (4, 4, 3):  # mono, stereo, matrix
        if bits.flag():
            bits.skip(mixdown)
    channels = lfe
    for _ in range(sum(elements)):
        channels += 1 + bits.u(1)
        bits.skip(4)
    bits.skip(4 * (lfe + data) + 5 * coupling)
    length = bits.position - start
    bits.position = start
    body = 0b101 << length | bits.u(length)  # ID_PCE
    bits.align()
    bits.skip(8 * bits.u(8))
    used = length + 3
    return channels, (body << (-used & 7)).to_bytes((used + 7) // 8, "big") + b"\x00"


def _skip_extension(bits: BitReader, object_type: int, extended: bool) -> None:
    """The end of GASpecificConfig (4.4.1)."""
    if object_type in (6, 20):
        bits.skip(3)
    if extended:
        if object_type == _ER_BSAC:
            bits.skip(16)
        elif object_type in (17, 19, 20, 23):
            bits.skip(3)
        bits.skip(1)
    if object_type >= 17:
        bits.skip(2)  # epConfig


def _read_sync_extension(bits: BitReader, core_rate: int) -> tuple[bool, bool, int]:
    """The backward-compatible signal of SBR and PS (1.6.5): whether each is there, and the decoded rate."""
    if bits.left < 16 or bits.u(11) != 0x2B7 or _read_object_type(bits) != _SBR or not bits.flag():
        return False, False, core_rate
    rate = _read_rate(bits)
    ps = bits.left >= 12 and bits.u(11) == 0x548 and bits.flag()
    return True, ps, rate


def track(extradata: bytes, id: int = 2) -> Track:
    """The track that an AudioSpecificConfig describes."""
    parsed = parse_configuration(extradata)
    return Track(
        id=id,
        codec=Codec.AAC,
        extradata=extradata,
        codec_string=parsed.codec_string,
        sample_rate=parsed.sample_rate,
        channels=parsed.channels,
        profile=parsed.profile,
    )


def samples_per_frame(track: Track) -> int:
    """Samples of one frame at the track's decoded rate."""
    return parse_configuration(track.extradata).samples_per_frame


def adts_header(track: Track, frame_length: int) -> bytes:
    """What goes before a raw frame of `frame_length` bytes in MPEG-TS (1.A.2): 7 bytes as a rule.

    HE-AAC is said as its core, which every decoder understands (implicit signalling). Raises
    LocalProtocolError for what ADTS has no bits for.
    """
    head, program = _adts_template(track.extradata)
    length = 7 + len(program) + frame_length
    if length > MAX_ADTS_FRAME:
        raise LocalProtocolError(f"ADTS frame of {length} bytes is above {MAX_ADTS_FRAME}")
    return (head | length << 13).to_bytes(7, "big") + program


@lru_cache(maxsize=64)
def _adts_template(extradata: bytes) -> tuple[int, bytes]:
    """The header with a length of 0, as a number of 56 bits, and the program_config_element."""
    parsed = parse_configuration(extradata)
    if parsed.object_type > 4:
        raise LocalProtocolError(f"ADTS cannot carry audio object type {parsed.object_type}")
    if parsed.channel_configuration > 7:
        raise LocalProtocolError(f"ADTS cannot carry channel configuration {parsed.channel_configuration}")
    if parsed.core_rate not in _RATES:
        raise LocalProtocolError(f"ADTS cannot carry {parsed.core_rate} samples a second")
    # syncword, MPEG-4, layer 0, no CRC; then profile, rate, channels; buffer fullness "variable", one block
    head = 0xFFF1 << 40 | (parsed.object_type - 1) << 38 | _RATES.index(parsed.core_rate) << 34
    return head | parsed.channel_configuration << 30 | 0x7FF << 2, parsed.program
