"""What is protected together, and a FEC packet on the wire (SMPTE 2022-1, 6 to 8; RFC 2733, 6).

The FEC header stands behind an ordinary RTP header, and its fields are sums (XOR) over the protected packets:

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    |       SNBase low bits         |        length recovery        |
    |E| PT recovery |                  mask (0)                     |
    |                          TS recovery                          |
    |N|D|type |index|    offset     |      NA       |SNBase ext bits|
"""

import re
import struct
from dataclasses import dataclass
from typing import Self

from oxidecast.formats.rtp import HEADER_SIZE, VERSION
from oxidecast.media import LocalProtocolError, RemoteProtocolError

COLUMN_PORT, ROW_PORT = 2, 4
"""Where FEC goes: added to the port of the media."""
PAYLOAD_TYPE = 96
"""Of both FEC streams, whose SSRC is 0."""
MOST_PACKETS = 100
"""Of one matrix: what every receiver has memory for."""

_RTP = struct.Struct(">BBHII")
_FEC = struct.Struct(">HHIIBBBB")
FEC_HEADER_SIZE = HEADER_SIZE + _FEC.size

_COLUMNS, _ROWS = range(1, 21), range(4, 21)
_FEWEST_COLUMNS_WITH_ROWS = 4


@dataclass(frozen=True, slots=True)
class Matrix:
    """How many packets are protected at once."""

    columns: int
    """L."""
    rows: int
    """D."""
    both: bool = True
    """Rows are protected too, and not only columns."""

    def __post_init__(self) -> None:
        fewest = _FEWEST_COLUMNS_WITH_ROWS if self.both else _COLUMNS[0]
        if not (
            self.columns in _COLUMNS
            and self.columns >= fewest
            and self.rows in _ROWS
            and self.columns * self.rows <= MOST_PACKETS
        ):
            raise LocalProtocolError(
                f"a FEC matrix of {self} does not exist: it has {fewest} to 20 columns and 4 to 20 rows, and "
                f"at most {MOST_PACKETS} packets"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "10x10", columns by rows, both protected, or "10x10 columns", where only columns are."""
        match = re.fullmatch(r"([0-9]{1,2})x([0-9]{1,2})( columns)?", text)
        if match is None:
            raise LocalProtocolError(f'a FEC matrix looks like "10x10" or "10x10 columns", not {text[:40]!r}')
        return cls(int(match[1]), int(match[2]), match[3] is None)

    def __str__(self) -> str:
        return f"{self.columns}x{self.rows}" + ("" if self.both else " columns")


@dataclass(frozen=True, slots=True)
class FECPacket:
    """One FEC packet: `bytes(packet)` is its wire form, `FECPacket.parse` the way back."""

    sequence: int
    timestamp: int
    base: int
    """Sequence number of the first packet protected (SNBase, 24 bits)."""
    row: bool
    """The D bit: a row, and not a column."""
    offset: int
    """From one protected packet to the next: L, or 1 in a row."""
    count: int
    """How many are protected (NA): D, or L in a row."""
    flags: int
    """The sum of P, X and CC."""
    kind: int
    """The sum of M and the payload type."""
    time: int
    """The sum of the timestamps."""
    length: int
    """The sum of the lengths behind the fixed RTP header."""
    payload: bytes
    """The sum of what is behind the fixed RTP header, filled up with zeros to the longest."""

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a datagram; raises RemoteProtocolError."""
        if len(data) < FEC_HEADER_SIZE:
            raise RemoteProtocolError(f"a FEC packet has {len(data)} bytes, less than its headers")
        first, second, sequence, timestamp, _ = _RTP.unpack_from(data)
        low, length, types, time, form, offset, count, high = _FEC.unpack_from(data, HEADER_SIZE)
        if first >> 6 != VERSION:
            raise RemoteProtocolError(f"the RTP version of a FEC packet is {first >> 6}, not {VERSION}")
        if not types >> 31:
            raise RemoteProtocolError("a FEC packet has no extended header (E is 0)")
        if form & 0xB8:
            raise RemoteProtocolError(
                f"a FEC packet is not made by XOR (N is {form >> 7}, type {form >> 3 & 7})"
            )
        row = bool(form & 0x40)
        if not offset or not count or offset * count > MOST_PACKETS or (row and offset != 1):
            raise RemoteProtocolError(f"a FEC packet has offset {offset} and NA {count}")
        # RFC 2733, 6.1: the packet's own P, X, CC and M are sums, and say nothing of the packet itself.
        kind = second & 0x80 | types >> 24 & 0x7F
        payload = bytes(data[FEC_HEADER_SIZE:])
        return cls(
            sequence,
            timestamp,
            high << 16 | low,
            row,
            offset,
            count,
            first & 0x3F,
            kind,
            time,
            length,
            payload,
        )

    def __bytes__(self) -> bytes:
        first, second = VERSION << 6 | self.flags, self.kind & 0x80 | PAYLOAD_TYPE
        types = 0x80000000 | (self.kind & 0x7F) << 24
        low, high = self.base & 0xFFFF, self.base >> 16
        try:
            head = _RTP.pack(first, second, self.sequence, self.timestamp, 0)
            head += _FEC.pack(
                low, self.length, types, self.time, self.row << 6, self.offset, self.count, high
            )
        except struct.error as error:
            raise LocalProtocolError(f"no FEC header can say this: {error}")
        return head + self.payload
