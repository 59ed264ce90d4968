"""The words every room shares: `Track`, `Packet`, their time base, and what codecs say of themselves."""

from oxidecast.media.errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from oxidecast.media.packet import TICKS, Packet
from oxidecast.media.track import Codec, Track

__all__ = ["TICKS", "Codec", "LocalProtocolError", "Packet", "ProtocolError", "RemoteProtocolError", "Track"]
