"""Datagrams in a stream of bytes (RFC 4571): each is preceded by its length, in two octets.

ICE-TCP carries all of WebRTC so: checks, the handshake and media (RFC 6544 3).
"""

from typing import Final

from oxidecast.media.errors import RemoteProtocolError
from oxidecast.webrtc.datagrams import LARGEST

PREFIX: Final = 2
"""Octets of a length."""


class Unframer:
    """What one peer sends, a piece at a time. It keeps no more than one datagram that is not whole yet."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def receive(self, data: bytes) -> list[bytes]:
        """The datagrams that are whole now. Raises RemoteProtocolError on one that is larger than any that this
        server understands: what follows it is no use either."""
        if self._rest:
            data = self._rest + data
        found = []
        at, size = 0, len(data)
        while at + PREFIX <= size:
            length = int.from_bytes(data[at : at + PREFIX], "big")
            if length > LARGEST:
                raise RemoteProtocolError(f"frame has {length} bytes, more than {LARGEST}")
            end = at + PREFIX + length
            if end > size:
                break
            if length:  # An empty one says nothing (RFC 4571 2).
                found.append(data[at + PREFIX : end])
            at = end
        self._rest = data[at:]
        return found


def frame(packets: bytes, size: int) -> bytes:
    """Packets of `size` bytes each, the last of at most that, as they go into a stream."""
    pieces: list[bytes] = []
    for at in range(0, len(packets), size):
        packet = packets[at : at + size]
        pieces += (len(packet).to_bytes(PREFIX, "big"), packet)
    return b"".join(pieces)
