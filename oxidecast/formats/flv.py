"""FLV: what RTMP's audio and video messages hold, and the file that the same tags make. Bytes to tags and
back.

The legacy form names a codec by four bits (FLV 10.1, annex E); Enhanced RTMP v1 and v2 name it by FourCC, and
add several tracks in one message and modifiers in front. Both come out as the same `VideoTag` and `AudioTag`.
A codec that the server does not carry raises nothing: the tag says its name, so that it can be told to
people.
"""

from collections.abc import Iterator
from enum import Enum, auto
from typing import Final

import msgspec

from oxidecast.media.errors import LocalProtocolError, RemoteProtocolError
from oxidecast.media.track import Codec

AUDIO: Final = 8
VIDEO: Final = 9
SCRIPT: Final = 18

FOUR_CCS = {
    "avc1": Codec.H264,
    "hvc1": Codec.HEVC,
    "av01": Codec.AV1,
    "vp09": Codec.VP9,
    "vp08": Codec.VP8,
    "mp4a": Codec.AAC,
    "Opus": Codec.OPUS,
    ".mp3": Codec.MP3,
    "ac-3": Codec.AC3,
}
"""What is carried, by the names of Enhanced RTMP."""

MAX_MODIFIERS = 8
"""ModEx packets before one tag: one kind is defined."""
MAX_TRACKS = 32
"""Tracks in one message: a ladder of ten and some languages."""

_LEGACY_VIDEO: dict[int, Codec | str] = {
    2: "Sorenson H.263",
    3: "Screen Video",
    4: "On2 VP6",
    5: "On2 VP6 with alpha",
    6: "Screen Video 2",
    7: Codec.H264,
    8: "RealH263",
    9: "MPEG-4 part 2",
    12: Codec.HEVC,  # never in the specification, widely sent before Enhanced RTMP
    13: Codec.AV1,
}
_LEGACY_AUDIO: dict[int, Codec | str] = {
    0: "PCM",
    1: "ADPCM",
    2: Codec.MP3,
    3: "PCM",
    4: "Nellymoser",
    5: "Nellymoser",
    6: "Nellymoser",
    7: "G.711 A-law",
    8: "G.711 mu-law",
    10: Codec.AAC,
    11: "Speex",
    14: Codec.MP3,
    15: "device-specific sound",
}
_NAMED_FOUR_CCS = {"fLaC": "FLAC", "ec-3": "E-AC-3", "vvc1": "VVC"}

_EX_AUDIO = 9
_MODEX = 7
_VIDEO_MULTITRACK = 6
_AUDIO_MULTITRACK = 5
_MPEG2TS_SEQUENCE_START = 5
_COMMAND_FRAME = 5
_ONE_TRACK, _MANY_CODECS = 0, 2


class Kind(Enum):
    """What a tag's payload is."""

    SEQUENCE_HEADER = auto()
    """The codec configuration: avcC, hvcC, av1C, vpcC, AudioSpecificConfig, an Opus ID header."""
    FRAMES = auto()
    """Coded frames, in length-prefixed NAL units for H.264 and HEVC."""
    SEQUENCE_END = auto()
    METADATA = auto()
    """Enhanced RTMP's AMF about the video, such as HDR."""
    CHANNELS = auto()
    """Enhanced RTMP's MultichannelConfig."""
    OTHER = auto()
    """Seek commands, and packet types that were undefined when this was written: to be ignored."""


class VideoTag(msgspec.Struct, frozen=True, gc=False):
    """One track's part of a video message."""

    codec: Codec | str
    """A str names what the server does not carry."""
    kind: Kind
    keyframe: bool
    payload: bytes
    composition_time: int = 0
    """Milliseconds from decoding to presentation, signed."""
    nanoseconds: int = 0
    """To be added to the message's timestamp."""
    track_id: int = 0
    more: tuple["VideoTag", ...] = ()
    """The message's further tracks."""


class AudioTag(msgspec.Struct, frozen=True, gc=False):
    """One track's part of an audio message."""

    codec: Codec | str
    kind: Kind
    payload: bytes
    nanoseconds: int = 0
    track_id: int = 0
    more: tuple["AudioTag", ...] = ()


_VIDEO_KINDS = {
    0: Kind.SEQUENCE_HEADER,
    1: Kind.FRAMES,
    2: Kind.SEQUENCE_END,
    3: Kind.FRAMES,
    4: Kind.METADATA,
}
_AUDIO_KINDS = {0: Kind.SEQUENCE_HEADER, 1: Kind.FRAMES, 2: Kind.SEQUENCE_END, 4: Kind.CHANNELS}
_AAC_KINDS = {0: Kind.SEQUENCE_HEADER, 1: Kind.FRAMES}
_LEGACY_KINDS = {0: Kind.SEQUENCE_HEADER, 1: Kind.FRAMES, 2: Kind.SEQUENCE_END}


def video(body: bytes) -> VideoTag:
    """A video message, or the body of a video tag. Raises RemoteProtocolError."""
    if not body:
        raise RemoteProtocolError("video tag is empty")
    first = body[0]
    if first & 0x80:
        return _enhanced_video(body)
    codec = _LEGACY_VIDEO.get(first & 0x0F) or f"video codec {first & 0x0F}"
    frame = first >> 4
    if frame == _COMMAND_FRAME:
        return VideoTag(codec, Kind.OTHER, False, body[1:])
    if not isinstance(codec, Codec):
        return VideoTag(codec, Kind.FRAMES, frame == 1, body[1:])
    if len(body) < 5:
        raise RemoteProtocolError("video tag is shorter than its header")
    kind = _LEGACY_KINDS.get(body[1], Kind.OTHER)
    offset = (body[2] << 16 | body[3] << 8 | body[4]) if kind is Kind.FRAMES else 0
    return VideoTag(codec, kind, frame == 1, body[5:], offset - 0x1000000 if offset & 0x800000 else offset)


def audio(body: bytes) -> AudioTag:
    """An audio message, or the body of an audio tag. Raises RemoteProtocolError."""
    if not body:
        raise RemoteProtocolError("audio tag is empty")
    sound = body[0] >> 4
    if sound == _EX_AUDIO:
        return _enhanced_audio(body)
    codec = _LEGACY_AUDIO.get(sound) or f"audio codec {sound}"
    if codec is not Codec.AAC:
        return AudioTag(codec, Kind.FRAMES, body[1:])
    if len(body) < 2:
        raise RemoteProtocolError("AAC tag is shorter than its header")
    return AudioTag(codec, _AAC_KINDS.get(body[1], Kind.OTHER), body[2:])


def _enhanced_video(body: bytes) -> VideoTag:
    """Enhanced RTMP v2, ExVideoTagHeader and ExVideoTagBody."""
    frame = body[0] >> 4 & 0x07
    packet_type, nanoseconds, offset = _modifiers(body)
    if frame == _COMMAND_FRAME and packet_type != 4:
        return VideoTag("a seek command", Kind.OTHER, False, body[offset:])
    found: list[VideoTag] = []
    for track_id, four_cc, track_type, payload in _tracks(body, offset, packet_type, _VIDEO_MULTITRACK):
        codec = _named(four_cc)
        kind = _VIDEO_KINDS.get(track_type, Kind.OTHER)
        time = 0
        if track_type == _MPEG2TS_SEQUENCE_START:
            codec = f"{four_cc} as MPEG-2 TS"
        elif track_type == 1 and four_cc in ("avc1", "hvc1", "vvc1"):
            if len(payload) < 3:
                raise RemoteProtocolError("video tag is shorter than its composition time")
            time = int.from_bytes(payload[:3], "big", signed=True)
            payload = payload[3:]
        found.append(VideoTag(codec, kind, frame == 1, payload, time, nanoseconds, track_id))
    return msgspec.structs.replace(found[0], more=tuple(found[1:])) if len(found) > 1 else found[0]


def _enhanced_audio(body: bytes) -> AudioTag:
    """Enhanced RTMP v2, ExAudioTagHeader and ExAudioTagBody."""
    packet_type, nanoseconds, offset = _modifiers(body)
    found = [
        AudioTag(_named(four_cc), _AUDIO_KINDS.get(kind, Kind.OTHER), payload, nanoseconds, track_id)
        for track_id, four_cc, kind, payload in _tracks(body, offset, packet_type, _AUDIO_MULTITRACK)
    ]
    return msgspec.structs.replace(found[0], more=tuple(found[1:])) if len(found) > 1 else found[0]


def _modifiers(body: bytes) -> tuple[int, int, int]:
    """Past the ModEx packets: the packet type behind them, the nanoseconds they add, and where to go on."""
    packet_type, offset, nanoseconds = body[0] & 0x0F, 1, 0
    for _ in range(MAX_MODIFIERS):
        if packet_type != _MODEX:
            return packet_type, nanoseconds, offset
        size = body[offset] + 1 if offset < len(body) else 0
        offset += 1
        if size == 256:
            size = int.from_bytes(body[offset : offset + 2], "big") + 1
            offset += 2
        end = offset + size
        if not size or end >= len(body):
            raise RemoteProtocolError("ModEx runs past the end of its tag")
        if body[end] >> 4 == 0 and size >= 3:  # TimestampOffsetNano
            nanoseconds = min(int.from_bytes(body[offset : offset + 3], "big"), 999_999)
        packet_type, offset = body[end] & 0x0F, end + 1
    raise RemoteProtocolError(f"more than {MAX_MODIFIERS - 1} ModEx packets stand before one tag")


def _tracks(
    body: bytes, offset: int, packet_type: int, multitrack: int
) -> Iterator[tuple[int, str, int, bytes]]:
    """Track, FourCC, packet type and payload of each track in the message; at least one."""
    if packet_type != multitrack:
        yield 0, _four_cc(body, offset), packet_type, body[offset + 4 :]
        return
    if offset >= len(body):
        raise RemoteProtocolError("multitrack tag is shorter than its header")
    form, packet_type = body[offset] >> 4, body[offset] & 0x0F
    if form > _MANY_CODECS:
        raise RemoteProtocolError(f"multitrack type {form} is unknown")
    if packet_type == multitrack:
        raise RemoteProtocolError("multitrack tag holds a multitrack tag")
    offset += 1
    four_cc = ""
    if form != _MANY_CODECS:
        four_cc = _four_cc(body, offset)
        offset += 4
    for _ in range(MAX_TRACKS):
        if form == _MANY_CODECS:
            four_cc = _four_cc(body, offset)
            offset += 4
        if offset >= len(body):
            raise RemoteProtocolError("multitrack tag ends before its track id")
        track_id = body[offset]
        offset += 1
        end = len(body)
        if form != _ONE_TRACK:
            size = int.from_bytes(body[offset : offset + 3], "big")
            offset += 3
            if offset + size > end:
                raise RemoteProtocolError("track in a multitrack tag is longer than the tag")
            end = offset + size
        yield track_id, four_cc, packet_type, body[offset:end]
        offset = end
        if offset == len(body):
            return
    raise RemoteProtocolError(f"multitrack tag holds more than {MAX_TRACKS} tracks")


def _four_cc(body: bytes, offset: int) -> str:
    if offset + 4 > len(body):
        raise RemoteProtocolError("tag is shorter than its FourCC")
    return body[offset : offset + 4].decode("latin-1")


def _named(four_cc: str) -> Codec | str:
    """The codec, or a name that is fit to be shown to people."""
    known = FOUR_CCS.get(four_cc) or _NAMED_FOUR_CCS.get(four_cc)
    if known is not None:
        return known
    shown = four_cc if four_cc.isascii() and four_cc.isprintable() else four_cc.encode("latin-1").hex()
    return f"codec {shown}"


# Writing

_FOUR_CC_OF = {codec: four_cc.encode() for four_cc, codec in FOUR_CCS.items()}
_PACKET_TYPE_OF = {Kind.SEQUENCE_HEADER: 0, Kind.FRAMES: 1, Kind.SEQUENCE_END: 2, Kind.METADATA: 4}


def video_body(
    codec: Codec,
    kind: Kind,
    payload: bytes,
    *,
    keyframe: bool,
    composition_time: int = 0,
    enhanced: bool = False,
) -> bytes:
    """A video tag's body: legacy for H.264 unless asked, Enhanced RTMP for all else. Raises
    LocalProtocolError."""
    frame = 1 if keyframe or kind is Kind.SEQUENCE_HEADER else 2
    packet_type = _PACKET_TYPE_OF.get(kind)
    if packet_type is None or not codec.is_video:
        raise LocalProtocolError(f"no video tag holds {kind.name} of {codec.value}")
    if not -0x800000 <= composition_time <= 0x7FFFFF:
        raise LocalProtocolError(f"composition time {composition_time} does not fit in 24 bits")
    time = composition_time.to_bytes(3, "big", signed=True)
    if codec is Codec.H264 and not enhanced and kind is not Kind.METADATA:
        return bytes((frame << 4 | 7, packet_type)) + time + payload
    if kind is not Kind.FRAMES or codec not in (Codec.H264, Codec.HEVC):
        time = b""
    elif composition_time == 0:
        packet_type, time = 3, b""  # CodedFramesX
    return bytes((0x80 | frame << 4 | packet_type,)) + _FOUR_CC_OF[codec] + time + payload


def audio_body(codec: Codec, kind: Kind, payload: bytes) -> bytes:
    """An audio tag's body: legacy for AAC and MP3, Enhanced RTMP for all else. Raises LocalProtocolError."""
    packet_type = _PACKET_TYPE_OF.get(kind)
    if packet_type is None or kind is Kind.METADATA or codec.is_video:
        raise LocalProtocolError(f"no audio tag holds {kind.name} of {codec.value}")
    if codec is Codec.AAC and kind is not Kind.SEQUENCE_END:
        return bytes((0xAF, packet_type)) + payload  # E.4.2.1: AAC always says 44 kHz stereo
    if codec is Codec.MP3 and kind is Kind.FRAMES:
        return b"\x2f" + payload
    return bytes((_EX_AUDIO << 4 | packet_type,)) + _FOUR_CC_OF[codec] + payload


# The file (annex E.2 to E.4.1)

_SIGNATURE = b"FLV\x01"
_TAG_HEADER = 11


class FileTag(msgspec.Struct, frozen=True, gc=False):
    """A tag of an FLV file or of an HTTP-FLV stream."""

    type_id: int
    timestamp: int
    """Milliseconds, 32 bits."""
    body: bytes


def file_header(*, audio: bool, video: bool) -> bytes:
    """The header, and the size of the tag before the first, which is none."""
    return _SIGNATURE + bytes((audio << 2 | video,)) + (9).to_bytes(4, "big") + bytes(4)


def file_tag(type_id: int, timestamp: int, body: bytes) -> bytes:
    """A tag and its own size behind it. Raises LocalProtocolError for a body over 16 MiB."""
    if len(body) > 0xFFFFFF:
        raise LocalProtocolError(f"FLV tag of {len(body)} bytes is longer than 16 MiB")
    time = (timestamp & 0xFFFFFFFF).to_bytes(4, "big")
    head = bytes((type_id,)) + len(body).to_bytes(3, "big") + time[1:] + time[:1] + bytes(3)
    return b"".join((head, body, (_TAG_HEADER + len(body)).to_bytes(4, "big")))


def file_tags(data: bytes) -> Iterator[FileTag]:
    """The tags of a whole file. Raises RemoteProtocolError."""
    if data[:4] != _SIGNATURE or len(data) < 9:
        raise RemoteProtocolError("file does not begin as FLV version 1 does")
    offset = int.from_bytes(data[5:9], "big") + 4
    while offset < len(data):
        start = offset + _TAG_HEADER
        if start > len(data):
            raise RemoteProtocolError("file ends inside a tag header")
        end = start + int.from_bytes(data[offset + 1 : offset + 4], "big")
        if end > len(data):
            raise RemoteProtocolError("file ends inside a tag")
        time = int.from_bytes(data[offset + 4 : offset + 7], "big") | data[offset + 7] << 24
        yield FileTag(data[offset] & 0x1F, time, data[start:end])
        offset = end + 4
