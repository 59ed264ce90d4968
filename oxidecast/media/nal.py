"""NAL units of H.264 and HEVC: length-prefixed as in files and RTMP, or between start codes as in MPEG-TS.

A `Packet` holds units behind 4-byte lengths (ISO 14496-15 4.3.2). What runs for every frame here walks the
lengths only; it never looks into slice data, so its cost does not grow with the bitrate.
"""

from collections.abc import Iterable, Iterator
from struct import Struct

from oxidecast.media.errors import RemoteProtocolError

MAX_UNITS = 2_048
"""Units in one access unit. The most slices a level allows is 600 (HEVC 6.2); the rest is room for SEI and
filler. Without a bound, 16 MiB of empty units would keep the reactor for a second."""

START_CODE = b"\x00\x00\x00\x01"

_length_at = Struct(">I").unpack_from
_pack_length = Struct(">I").pack


def nal_units(payload: bytes) -> Iterator[bytes]:
    """The NAL units of a payload, each checked to lie inside it; empty ones are passed over.

    Raises RemoteProtocolError on a length that leads out of the payload and on more than MAX_UNITS units.
    """
    for start, end in spans(payload):
        if start < end:
            yield payload[start:end]


def spans(payload: bytes) -> list[tuple[int, int]]:
    """Where each NAL unit lies: (first byte after its length, first byte after it)."""
    found = []
    at, size = 0, len(payload)
    while at < size:
        if at + 4 > size:
            raise RemoteProtocolError(f"NAL unit length is cut short: {size - at} bytes are left of 4")
        start = at + 4
        at = start + _length_at(payload, at)[0]
        if at > size:
            raise RemoteProtocolError(
                f"NAL unit length {at - start} leads {at - size} bytes out of the frame"
            )
        found.append((start, at))
        if len(found) > MAX_UNITS:
            raise RemoteProtocolError(f"frame has more than {MAX_UNITS} NAL units")
    return found


def without(payload: bytes, found: list[tuple[int, int]], unwanted: Iterable[int]) -> bytes:
    """The payload without the units whose index in `found` is in `unwanted`, and without empty units."""
    dropped = set(unwanted)
    return b"".join(payload[start - 4 : end] for i, (start, end) in enumerate(found) if i not in dropped)


def length_prefixed(units: Iterable[bytes]) -> bytes:
    """A payload made of NAL units."""
    parts: list[bytes] = []
    for unit in units:
        parts += (_pack_length(len(unit)), unit)
    return b"".join(parts)


def four_byte_lengths(payload: bytes, length_size: int) -> bytes:
    """The payload with lengths of `length_size` bytes (1 to 4, from avcC or hvcC) widened to 4."""
    if length_size == 4:
        return payload
    units: list[bytes] = []
    at, size = 0, len(payload)
    while at < size:
        start = at + length_size
        if start > size:
            raise RemoteProtocolError(
                f"NAL unit length is cut short: {size - at} bytes are left of {length_size}"
            )
        at = start + int.from_bytes(payload[at:start], "big")
        if at > size:
            raise RemoteProtocolError(
                f"NAL unit length {at - start} leads {at - size} bytes out of the frame"
            )
        units.append(payload[start:at])
        if len(units) > MAX_UNITS:
            raise RemoteProtocolError(f"frame has more than {MAX_UNITS} NAL units")
    return length_prefixed(units)


def split_annexb(data: bytes) -> list[bytes]:
    """The NAL units of a byte stream with start codes (H.264 and HEVC annex B), without trailing zeros.

    What stands before the first start code is no unit and is left out. Raises RemoteProtocolError on more
    than MAX_UNITS units.
    """
    units: list[bytes] = []
    at = data.find(b"\x00\x00\x01")
    while at >= 0:
        start = at + 3
        at = data.find(b"\x00\x00\x01", start)
        # A unit never ends in 00 (7.4.1): zeros there belong to the next start code or are padding.
        if unit := data[start : at if at >= 0 else len(data)].rstrip(b"\x00"):
            units.append(unit)
            if len(units) > MAX_UNITS:
                raise RemoteProtocolError(f"frame has more than {MAX_UNITS} NAL units")
    return units


def from_annexb(data: bytes) -> bytes:
    """A byte stream with start codes as a payload with 4-byte lengths."""
    return length_prefixed(split_annexb(data))


def to_annexb(payload: bytes, found: list[tuple[int, int]], head: bytes) -> bytes:
    """`head`, then the units behind 4-byte start codes, which overwrite the lengths in one copy."""
    out = bytearray(head)
    out += payload
    shift = len(head) - 4
    for start, _ in found:
        out[start + shift : start + shift + 4] = START_CODE
    return bytes(out)


MAX_PARAMETER_SET = 4_096
"""Bytes. An SPS with every scaling list written out stays below 3 KB; real ones have 30."""

MAX_CONFIGURATION = 65_536
"""Bytes of avcC or hvcC. It is kept with the track and written into every init segment."""


def counted_units(data: bytes, at: int, count: int, what: str) -> tuple[list[bytes], int]:
    """`count` parameter sets behind 16-bit lengths, as in avcC and hvcC, and where they end."""
    units: list[bytes] = []
    for _ in range(count):
        start = at + 2
        at = start + int.from_bytes(data[at:start], "big")
        if start > len(data) or at > len(data):
            raise RemoteProtocolError(f"{what} ends in the middle of its parameter sets")
        # Some encoders leave zeros behind a set; without them it compares equal to the one in the stream.
        if unit := checked_set(data[start:at].rstrip(b"\x00"), what):
            units.append(unit)
    return units, at


def checked_set(unit: bytes, what: str) -> bytes:
    """The parameter set, when its size is believable."""
    if len(unit) > MAX_PARAMETER_SET:
        raise RemoteProtocolError(
            f"{what} holds a parameter set of {len(unit)} bytes, above {MAX_PARAMETER_SET}"
        )
    return unit


def counted(units: Iterable[bytes]) -> bytes:
    """Parameter sets behind 16-bit lengths."""
    return b"".join(len(unit).to_bytes(2, "big") + unit for unit in units)
