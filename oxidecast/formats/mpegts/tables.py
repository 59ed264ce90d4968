"""The tables that tell a receiver what is in the stream: PAT, PMT, and the service's name in the SDT.

Each is one section that fits in one transport packet, which bounds how long names and how many tracks may be
(H.222.0, 2.4.4; EN 300 468, 5.2.3).
"""

import struct
from collections.abc import Sequence

from oxidecast.formats.mpegts.elementary import carriage, descriptor
from oxidecast.formats.mpegts.packets import SECTION_ROOM
from oxidecast.media import LocalProtocolError, Track

PAT_PID, SDT_PID, PMT_PID = 0x0000, 0x0011, 0x1000
CLOCK_PID = 0x1001
"""Of a clock that no track carries."""
FIRST_PID = 0x0100
"""Of track id 1; the others follow by their ids."""
MAX_TRACK_ID = 0x0E00
"""Keeps the tracks' PIDs below the PMT's."""

_TRANSPORT_STREAM, _PROGRAM = 1, 1
_ORIGINAL_NETWORK = 0xFF01
"""The first of the identifiers for private, temporary use (ETSI TS 101 162)."""
_TELEVISION, _RADIO = 0x01, 0x02

MAX_NAME = 64
"""Bytes of a service's or provider's name: two of them fit in the SDT's one packet."""


def pat() -> bytes:
    """The program association table: one program."""
    return _section(0x00, 0xB000, _TRANSPORT_STREAM, 0, struct.pack(">HH", _PROGRAM, 0xE000 | PMT_PID))


def pmt(tracks: Sequence[Track], clock: int, version: int) -> bytes:
    """The program map table: each track's PID, type and descriptors; `clock` is the PID of the PCR."""
    parts = [struct.pack(">HH", 0xE000 | clock, 0xF000)]
    for track in tracks:
        how = carriage(track)
        descriptors = how.descriptors(track)
        parts.append(struct.pack(">BHH", how.stream_type, 0xE000 | pid(track), 0xF000 | len(descriptors)))
        parts.append(descriptors)
    return _section(0x02, 0xB000, _PROGRAM, version, b"".join(parts))


def sdt(service: str, provider: str, tracks: Sequence[Track], version: int) -> bytes:
    """The service description table: what a receiver's channel list shows."""
    kind = _TELEVISION if any(track.is_video for track in tracks) else _RADIO
    names = b"".join(bytes((len(name),)) + name for name in (_text(provider), _text(service)))
    description = descriptor(0x48, bytes((kind,)) + names)
    running = 4 << 13
    body = (
        struct.pack(">HBHBH", _ORIGINAL_NETWORK, 0xFF, _PROGRAM, 0xFC, running | len(description))
        + description
    )
    return _section(0x42, 0xF000, _TRANSPORT_STREAM, version, body)


def pid(track: Track) -> int:
    """Where a track travels."""
    if not 1 <= track.id <= MAX_TRACK_ID:
        raise LocalProtocolError(f"MPEG-TS has PIDs for track ids 1 to {MAX_TRACK_ID}, not for {track.id}")
    return FIRST_PID - 1 + track.id


def _text(name: str) -> bytes:
    """A DVB string: ASCII as it is, else UTF-8 behind its selector 0x15 (EN 300 468, A.2)."""
    printable = "".join(letter for letter in name if letter.isprintable())
    if printable.isascii():
        return printable.encode()[:MAX_NAME]
    return b"\x15" + printable.encode()[: MAX_NAME - 1].decode("utf-8", "ignore").encode()


def _section(table: int, flags: int, extension: int, version: int, body: bytes) -> bytes:
    """A section with its CRC (2.4.4.3). It is the only one of its table and applies at once."""
    length = 5 + len(body) + 4
    if 3 + length > SECTION_ROOM:
        raise LocalProtocolError(
            f"a table of {3 + length} bytes exceeds the {SECTION_ROOM} of one transport packet"
        )
    data = struct.pack(">BHHBBB", table, flags | length, extension, 0xC1 | (version & 31) << 1, 0, 0) + body
    return data + crc32(data).to_bytes(4, "big")


def crc32(data: bytes) -> int:
    """The CRC of annex A: polynomial 04C11DB7, highest bit first, all ones to start, not inverted."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C11DB7) & 0xFFFFFFFF if crc & 0x80000000 else crc << 1
    return crc
