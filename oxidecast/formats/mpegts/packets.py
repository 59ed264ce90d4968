"""Transport packets of one PID: cutting bytes into 184-byte payloads behind 4-byte headers (H.222.0, 2.4.3).

The one idea: a frame is a hundred packets, so Python must not touch each of them. A precompiled `struct` cuts
the bytes into pieces, the headers are a slice of a list that repeats the sixteen continuity counters, and one
join weaves them: three times faster than a loop. Only the first packet (adaptation field) and the last one
(stuffing) are made by hand.
"""

import struct
from functools import lru_cache

PACKET_SIZE = 188
_ROOM = PACKET_SIZE - 4
_BLOCK = 256
"""Packets cut by one call at most; so there are no more than this many structs, of 3 KB on average."""

NULL_PACKET = b"\x47\x1f\xff\x10" + b"\xff" * _ROOM
"""Fills a constant bitrate; receivers drop it (2.4.3.3)."""

DISCONTINUITY, RANDOM_ACCESS, _PCR = 0x80, 0x40, 0x10
"""Flags of the adaptation field (2.4.3.4)."""
PCR_CYCLE = (1 << 33) * 300
"""Where the 27 MHz clock wraps: 26.5 hours."""


class PID:
    """One packet identifier and its continuity counter, which lives as long as the writer."""

    __slots__ = ("_clocks", "_counter", "_firsts", "_firsts_with_field", "_lasts", "_middles", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self._counter = 0
        # Each kind of header by the counter in it: they are what all packets but their payloads are made of.
        self._middles = _headers(number)
        self._firsts = _headers(number, start=True)
        self._firsts_with_field = _headers(number, start=True, adaptation=True)
        self._lasts = _headers(number, adaptation=True)
        self._clocks = _headers(number, adaptation=True, payload=False)

    def unit(self, data: bytes, field: bytes = b"") -> bytes:
        """The transport packets of one PES packet, with `field` (see `adaptation_field`) in the first."""
        counter = self._counter
        body = bytes((len(field),)) + field + data if field else data
        count, rest = divmod(len(body), _ROOM)
        if not count:
            self._counter = counter + 1 & 15
            return self._firsts_with_field[counter] + _stuffed(field, data)
        pieces: list[bytes] = []
        for first in range(0, count, _BLOCK):
            pieces += _knife(min(_BLOCK, count - first)).unpack_from(body, first * _ROOM)
        woven = [b""] * (2 * count)
        woven[::2] = (self._middles * (count // 16 + 2))[counter : counter + count]
        woven[1::2] = pieces
        woven[0] = (self._firsts_with_field if field else self._firsts)[counter]
        counter += count
        if rest:
            woven += (self._lasts[counter & 15], _stuffed(b"", body[-rest:]))
            counter += 1
        self._counter = counter & 15
        return b"".join(woven)

    def section(self, data: bytes) -> bytes:
        """One packet that holds a whole section of a table (2.4.4)."""
        header = self._firsts[self._counter]
        self._counter = self._counter + 1 & 15
        return (header + b"\0" + data).ljust(PACKET_SIZE, b"\xff")

    def clock(self, pcr: int, flags: int = 0) -> bytes:
        """One packet of nothing but the clock; without payload, the counter stands still (2.4.3.3)."""
        return self._clocks[self._counter - 1 & 15] + _stuffed(adaptation_field(flags, pcr), b"")


def _headers(number: int, start: bool = False, adaptation: bool = False, payload: bool = True) -> list[bytes]:
    """The 4-byte headers of a PID, one for each value of the counter (2.4.3.2)."""
    high, low = start << 6 | number >> 8, number & 0xFF
    return [bytes((0x47, high, low, adaptation << 5 | payload << 4 | counter)) for counter in range(16)]


SECTION_ROOM = _ROOM - 1
"""Bytes of a section that fits in one packet, behind the pointer field."""


@lru_cache(_BLOCK)
def _knife(count: int) -> struct.Struct:
    return struct.Struct(f"{_ROOM}s" * count)


def _stuffed(field: bytes, data: bytes) -> bytes:
    """Less than 184 bytes behind an adaptation field that fills the packet (2.4.3.5)."""
    length = _ROOM - 1 - len(data)
    if length and not field:
        field = b"\0"
    return bytes((length,)) + field.ljust(length, b"\xff") + data


def adaptation_field(flags: int, pcr: int | None) -> bytes:
    """The field behind its length byte; empty when it would say nothing. `pcr` (27 MHz) wraps here."""
    if pcr is None:
        return bytes((flags,)) if flags else b""
    base, extension = divmod(pcr % PCR_CYCLE, 300)
    return bytes((flags | _PCR,)) + (base << 15 | 0x3F << 9 | extension).to_bytes(6, "big")
