"""VP9: the vpcC record, and the uncompressed header of a keyframe, which alone tells the picture's size.

Clauses are of the VP9 Bitstream and Decoding Process Specification; the record is from "VP Codec ISO Media
File Format Binding".
"""

from dataclasses import dataclass

import msgspec

from oxidecast.media.bits import BitReader
from oxidecast.media.errors import RemoteProtocolError
from oxidecast.media.picture import check_size
from oxidecast.media.track import Codec, Track

MAX_CONFIGURATION = 64
"""Bytes of vpcC: 12, and codec initialisation data that VP9 does not have."""

_LEVELS = (
    (10, 36_864),
    (11, 73_728),
    (20, 122_880),
    (21, 245_760),
    (30, 552_960),
    (31, 983_040),
    (40, 2_228_224),
    (50, 8_912_896),
    (60, 35_651_584),
)
"""Levels and the most pixels of a picture."""

_SYNC_CODE = 0x498342
_RGB = 7
_FULL_BOX = b"\x01\x00\x00\x00"
"""Version 1, no flags: how the body of the vpcC box begins."""


@dataclass(frozen=True, slots=True)
class KeyframeHeader:
    """What a keyframe says of the stream."""

    profile: int
    bit_depth: int
    width: int
    height: int


def track(extradata: bytes, id: int = 1) -> Track:
    """The track of a vpcC record, with or without the box's version and flags: encoders send both.

    The record says no size; `in_band` learns it from the first keyframe. `Track.extradata` is the body of
    the vpcC box, version and flags included.
    """
    # A bare record has its bit depth in the third byte, which is never 0.
    record = extradata[4:] if extradata[:4] == _FULL_BOX else extradata
    if not 8 <= len(record) <= MAX_CONFIGURATION:
        raise RemoteProtocolError(f"vpcC record has {len(record)} bytes, not 8 to {MAX_CONFIGURATION}")
    profile, level, depth = record[0], record[1], record[2] >> 4
    if profile > 3:
        raise RemoteProtocolError(f"vpcC profile is {profile}, above 3")
    if depth not in (8, 10, 12):
        raise RemoteProtocolError(f"vpcC bitDepth is {depth}, not 8, 10 or 12")
    return Track(
        id=id,
        codec=Codec.VP9,
        extradata=_FULL_BOX + record,
        codec_string=f"vp09.{profile:02d}.{level:02d}.{depth:02d}",
        profile=f"Profile {profile}",
        level=f"{level // 10}.{level % 10}" if level else "",
    )


def is_keyframe(payload: bytes) -> bool:
    """Whether the frame is a keyframe (6.2: frame_type after the marker, profile and show_existing_frame)."""
    if not payload or payload[0] >> 6 != 2:
        raise RemoteProtocolError("VP9 frame_marker is not 2")
    # Profile 3 has a reserved bit before show_existing_frame. Both flags must be 0 for a keyframe.
    shift = 1 if payload[0] & 0x30 == 0x30 else 2
    return payload[0] >> shift & 3 == 0


def parse_keyframe(payload: bytes) -> KeyframeHeader:
    """Read the uncompressed header of a keyframe as far as frame_size (6.2)."""
    if not is_keyframe(payload):
        raise RemoteProtocolError("VP9 frame is no keyframe")
    bits = BitReader(payload[:32], "VP9 frame header")
    bits.skip(2)
    profile = bits.u(1) | bits.u(1) << 1
    bits.skip(5 if profile == 3 else 4)
    if bits.u(24) != _SYNC_CODE:
        raise RemoteProtocolError("VP9 frame_sync_code is not 0x498342")
    depth = 8 if profile < 2 else 12 if bits.flag() else 10
    if bits.u(3) != _RGB:
        bits.skip(4 if profile & 1 else 1)
    elif profile & 1:
        bits.skip(1)
    else:
        raise RemoteProtocolError(f"VP9 color_space is RGB, which profile {profile} has not")
    width, height = bits.u(16) + 1, bits.u(16) + 1
    check_size(width, height, "VP9 frame")
    return KeyframeHeader(profile, depth, width, height)


def configuration(payload: bytes) -> bytes:
    """A vpcC record for the stream that begins with this keyframe, which says all but the level: that is the least for
    its size (VP9 levels, the table of the codec string's registration)."""
    header = parse_keyframe(payload)
    area = header.width * header.height
    level = next((level for level, most in _LEVELS if area <= most), 62)
    chroma = 3 if header.profile & 1 else 1
    # Colours are unspecified (2), and there is no codec initialisation data.
    return bytes((header.profile, level, header.bit_depth << 4 | chroma << 1, 2, 2, 2, 0, 0))


def in_band(payload: bytes, track: Track) -> Track | None:
    """The track that goes on from this frame where a keyframe changes the size, else None."""
    if not is_keyframe(payload):
        return None
    header = parse_keyframe(payload)
    if (header.width, header.height) == (track.width, track.height):
        return None
    return msgspec.structs.replace(track, width=header.width, height=header.height)
