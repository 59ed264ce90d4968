"""What both profiles have in common: the streams that we send, and the form of what comes in."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from struct import Struct
from typing import Final

from oxidecast.formats.rtp_runs import Payload
from oxidecast.media.errors import LocalProtocolError, RemoteProtocolError

EXTENSION: Final = 0x1000

MAX_STREAMS = 32
"""SSRCs of one direction. Three simulcast layers and audio, each with RTX, are eight."""

MAX_INDEX = 1 << 48
"""Packets under one key (RFC 3711 9.2). At 10,000 packets a second it lasts 892 years."""

pack_header = Struct(">HHII").pack


class SrtpStream(ABC):
    """One SSRC that we send. It numbers its packets itself, and no number serves twice.

    A retransmission is a packet of another stream (RTX, RFC 4588): there is no way to send under an index that
    was used.
    """

    __slots__ = ("_next", "octets", "packets", "payload_type", "ssrc")

    def __init__(self, ssrc: int, payload_type: int, sequence: int) -> None:
        if not 0 <= ssrc < 1 << 32:
            raise LocalProtocolError(f"SSRC {ssrc} is not of 32 bits")
        if not 0 <= payload_type < 128:
            raise LocalProtocolError(f"RTP payload type {payload_type} is not of 7 bits")
        if not 0 <= sequence < 0x8000:
            # A receiver that misses packets around an early roll-over could never find the counter.
            raise LocalProtocolError(f"first RTP sequence number {sequence} is not below 32768")
        self.ssrc = ssrc
        self.payload_type = payload_type
        self.packets = 0
        self.octets = 0
        """Payload octets, for sender reports."""
        self._next = sequence

    @property
    def next_index(self) -> int:
        """The roll-over counter and sequence number of the next packet: what NACKs are counted against."""
        return self._next

    def _reserve(self, count: int) -> int:
        """The first of `count` indexes, none of which will be given again, whatever becomes of the packets."""
        first = self._next
        if first + count > MAX_INDEX:
            raise LocalProtocolError("SRTP key has no index left")
        self._next = first + count
        return first

    @abstractmethod
    def protect(self, payloads: Sequence[Payload], timestamp: int, extension: bytes = b"") -> bytes:
        """The SRTP packets of `payloads`, one behind the other: with payloads of equal size (the last may be
        shorter) one GSO send takes them all, cut every `overhead + len(extension) + size` bytes.

        `timestamp` is taken modulo 2**32. `extension` is a whole header extension, a multiple of 4 bytes.
        """


class SrtpSender(ABC):
    """All that we send under one key."""

    __slots__ = ("_ssrcs",)

    overhead: int
    """Bytes of header and tag around an RTP payload without header extension."""

    def __init__(self) -> None:
        self._ssrcs: set[int] = set()

    def stream(self, ssrc: int, payload_type: int, sequence: int) -> SrtpStream:
        """A new stream that starts at `sequence`. An SSRC is for one stream, for the life of the key."""
        if ssrc in self._ssrcs:
            raise LocalProtocolError(f"SSRC {ssrc} has a stream already")
        if len(self._ssrcs) >= MAX_STREAMS:
            raise LocalProtocolError(f"SRTP key has {MAX_STREAMS} streams already")
        stream = self._stream(ssrc, payload_type, sequence)
        self._ssrcs.add(ssrc)
        return stream

    @abstractmethod
    def _stream(self, ssrc: int, payload_type: int, sequence: int) -> SrtpStream: ...

    @abstractmethod
    def protect_rtcp(self, packet: bytes) -> bytes:
        """An SRTCP packet of a compound RTCP packet."""


class SrtpReceiver(ABC):
    """All that the peer sends under one key."""

    @abstractmethod
    def unprotect(self, datagram: bytes) -> bytes:
        """The RTP packet in an SRTP packet. Raises RemoteProtocolError on a forged, replayed or malformed one;
        it then changed nothing."""

    @abstractmethod
    def unprotect_rtcp(self, datagram: bytes) -> bytes:
        """The same for RTCP."""


def rtp_header_size(datagram: bytes, trailer: int) -> int:
    """Bytes of fixed header, CSRCs and extension of an RTP packet with `trailer` bytes of tag behind it."""
    size = len(datagram)
    if size < 12 + trailer:
        raise RemoteProtocolError(f"SRTP packet has {size} bytes, fewer than {12 + trailer}")
    first = datagram[0]
    if first >> 6 != 2:
        raise RemoteProtocolError(f"RTP version is {first >> 6}, not 2")
    end = 12 + 4 * (first & 0x0F)
    if first & 0x10:
        # Bytes beyond the datagram read as nothing, and the test below finds it out.
        end += 4 + 4 * int.from_bytes(datagram[end + 2 : end + 4], "big")
    if end + trailer > size:
        raise RemoteProtocolError(f"RTP header needs {end} bytes of a packet with {size - trailer}")
    return end


def check_rtcp(datagram: bytes, trailer: int) -> None:
    """Raises RemoteProtocolError unless an RTCP header with `trailer` bytes behind it can be there."""
    if len(datagram) < 8 + trailer:
        raise RemoteProtocolError(f"SRTCP packet has {len(datagram)} bytes, fewer than {8 + trailer}")
    if datagram[0] >> 6 != 2:
        raise RemoteProtocolError(f"RTCP version is {datagram[0] >> 6}, not 2")


def check_room(known: int) -> None:
    """Raises RemoteProtocolError when a peer with `known` SSRCs begins another one."""
    if known >= MAX_STREAMS:
        raise RemoteProtocolError(f"peer sends more than {MAX_STREAMS} SSRCs")
