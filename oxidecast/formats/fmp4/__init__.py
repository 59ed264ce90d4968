"""ISO base media files for live use: one initialisation segment, then fragments that stand alone behind it.

The writer is made of functions, not of a muxer that holds packets back: what is handed in comes out at once,
and the same packets always give the same bytes. An HLS segment, a low-latency part and a WebSocket message
are each one `fragment` or several in a row. Follows ISO/IEC 14496-12 (boxes and fragments), 14496-15 (AVC,
HEVC), 14496-14 (AAC), 23000-19 (CMAF), and the AV1, VP9, Opus and AC-3 (ETSI TS 102 366 annex F) bindings.
"""

from oxidecast.formats.fmp4.fragment import fragment
from oxidecast.formats.fmp4.index import Reference, segment_index
from oxidecast.formats.fmp4.init import carries, init_segment
from oxidecast.formats.fmp4.timescale import timescale

__all__ = ["Reference", "carries", "fragment", "init_segment", "segment_index", "timescale"]
