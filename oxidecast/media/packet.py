"""One coded access unit, as every ingest makes it and every output takes it."""

import msgspec

from oxidecast.media.track import Track

TICKS = 90_000
"""Media time runs in ticks of 1/90000 s: MPEG-TS and RTP video use them, and no frame rate is far off."""


class Packet(msgspec.Struct, frozen=True, gc=False):
    """One coded access unit of one track. Immutable, and shared by all who read the stream.

    `payload` is length-prefixed NAL units (4 bytes) for H.264 and HEVC without access unit delimiters, a
    temporal unit of OBUs without temporal delimiters for AV1, a frame for VP8 and VP9, and a raw frame for AAC (no
    ADTS), Opus, MP3 and AC-3.
    """

    track: Track
    dts: int
    """Decoding time in ticks, 64-bit, never wrapping, strictly rising within a track."""
    pts: int
    """Presentation time in ticks, at least `dts` as a rule; the order of B-frames is in it."""
    duration: int
    """Ticks until the track's next packet, as far as is known when this one is made; at least 1."""
    keyframe: bool
    """True where decoding can start: IDR, CRA, an AV1 key frame; always true for audio."""
    payload: bytes
