"""MPEG transport streams, written packet by packet with every field in our own hands.

`TSWriter` turns Packets into 188-byte transport packets: `segment` for an HLS segment, which starts with its
own tables, and `write`, `tables` and `clock` for a sender that decides itself what leaves when. Follows ITU-T
H.222.0 (the text of ISO/IEC 13818-1), and ETSI EN 300 468 for the service's name.
"""

from oxidecast.formats.mpegts.elementary import carries, obstacle
from oxidecast.formats.mpegts.packets import NULL_PACKET, PACKET_SIZE
from oxidecast.formats.mpegts.writer import BUNDLED, TSWriter, continues

__all__ = ["BUNDLED", "NULL_PACKET", "PACKET_SIZE", "TSWriter", "carries", "continues", "obstacle"]
