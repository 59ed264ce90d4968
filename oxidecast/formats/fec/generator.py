"""Makes FEC packets beside the media packets of one stream.

The one idea: a little-endian integer made of a whole RTP packet, header included, lines up with any other at the
first byte, whatever their lengths. So one conversion and two XORs of Python integers protect a packet, and the
sums of all header fields come with it.
"""

import struct
from collections import deque
from collections.abc import Iterable

from oxidecast.formats.fec.packets import FECPacket, Matrix
from oxidecast.formats.rtp import HEADER_SIZE

_SUMS = struct.Struct(">BBHI")


class _Line:
    """The sum of the packets of one row or column."""

    __slots__ = ("base", "bits", "lengths", "longest")

    def __init__(self, base: int) -> None:
        self.base = base
        self.bits = self.lengths = self.longest = 0

    def add(self, bits: int, size: int) -> None:
        self.bits ^= bits
        self.lengths ^= size
        if size > self.longest:
            self.longest = size


class FECGenerator:
    """The FEC of one stream.

    A row's packet follows its row. The packets of the columns are spread over the next matrix, one for each of
    its `rows` media packets, so that FEC adds no bursts and the burst that kills media spares their FEC.
    """

    __slots__ = ("_columns", "_due", "_matrix", "_place", "_row", "_sequences")

    def __init__(self, matrix: Matrix, column_sequence: int = 0, row_sequence: int = 0) -> None:
        self._matrix = matrix
        self._sequences = [column_sequence, row_sequence]
        self._columns: list[_Line] = []
        self._due: deque[_Line] = deque()
        """Columns of the last matrix that are not yet sent."""
        self._row = _Line(0)
        self._place = 0
        """Of the next packet in the matrix."""

    def protect(self, packets: Iterable[bytes]) -> tuple[list[bytes], list[bytes]]:
        """Take the next media packets, and return the column and the row packets that are now to be sent.

        `packets` are whole RTP packets with consecutive sequence numbers; only their header is looked at.
        """
        matrix = self._matrix
        width, height, both = matrix.columns, matrix.rows, matrix.both
        columns: list[bytes] = []
        rows: list[bytes] = []
        for packet in packets:
            bits, size = int.from_bytes(packet, "little"), len(packet) - HEADER_SIZE
            row, column = divmod(self._place, width)
            if row == 0:
                self._columns.append(_Line(packet[2] << 8 | packet[3]))
            self._columns[column].add(bits, size)
            if both:
                if column == 0:
                    self._row = _Line(packet[2] << 8 | packet[3])
                self._row.add(bits, size)
                if column == width - 1:
                    rows.append(self._packet(self._row, packet, True))
            if self._due and self._place % height == 0:
                columns.append(self._packet(self._due.popleft(), packet, False))
            self._place += 1
            if self._place == width * height:
                self._place = 0
                self._due.extend(self._columns)
                self._columns = []
        return columns, rows

    def _packet(self, line: _Line, media: bytes, row: bool) -> bytes:
        data = line.bits.to_bytes(HEADER_SIZE + line.longest, "little")
        flags, kind, _, time = _SUMS.unpack_from(data)
        width, height = self._matrix.columns, self._matrix.rows
        sequence = self._sequences[row]
        self._sequences[row] = sequence + 1 & 0xFFFF
        fec = FECPacket(
            sequence=sequence,
            # RFC 2733, 6.1: the media's clock at the instant at which the FEC packet leaves.
            timestamp=int.from_bytes(media[4:8], "big"),
            base=line.base,
            row=row,
            offset=1 if row else width,
            count=width if row else height,
            flags=flags & 0x3F,
            kind=kind,
            time=time,
            length=line.lengths,
            payload=data[HEADER_SIZE:],
        )
        return bytes(fec)
