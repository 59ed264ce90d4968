"""Forward error correction for transport streams over RTP (SMPTE 2022-1, which grew from Pro-MPEG CoP3).

Media packets fill a matrix of L columns and D rows, row by row. A FEC packet is the XOR of one column (which
repairs a burst of up to L losses) or of one row (scattered losses); together they repair what neither does
alone. Column packets travel on the media's port + 2 and row packets on + 4, so that a receiver without FEC
never sees them.
"""

from oxidecast.formats.fec.decoder import FECDecoder
from oxidecast.formats.fec.generator import FECGenerator
from oxidecast.formats.fec.packets import COLUMN_PORT, ROW_PORT, FECPacket, Matrix

__all__ = ["COLUMN_PORT", "ROW_PORT", "FECDecoder", "FECGenerator", "FECPacket", "Matrix"]
