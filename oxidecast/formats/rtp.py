"""RTP packets (RFC 3550, 5.1), and MPEG transport streams in them (RFC 2250, 2).

`RTPPacket` reads and writes one packet of any kind. The sender's path is `TSWrapper`, which puts twelve bytes
before each datagram of transport packets, once for all receivers. RFC 2250 makes the timestamp the time at
which the datagram is meant to leave, so it follows the send clock and not the pictures in the stream.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from oxidecast.media import LocalProtocolError, RemoteProtocolError

VERSION = 2
MP2T = 33
"""Payload type of an MPEG-2 transport stream (RFC 3551, 6)."""
TS_DATAGRAM = 7 * 188
"""Bytes of transport packets in a datagram: seven fit in an Ethernet frame, behind IP, UDP and RTP."""
HEADER_SIZE = 12

_HEADER = struct.Struct(">BBHII")
_EXTENSION = struct.Struct(">HH")
_ONE_BYTE, _STOP = 0xBEDE, 15
"""The profile of header extensions with headers of one byte, and the number that ends them."""
_LONGEST = 0xFFFF
"""Bytes of a UDP datagram at most."""
_MOST_CSRC = 15


@dataclass(frozen=True, slots=True)
class RTPPacket:
    """One packet: `bytes(packet)` is its wire form, `RTPPacket.parse` the way back."""

    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes = b""
    marker: bool = False
    csrc: tuple[int, ...] = ()
    """Contributing sources."""
    extension: tuple[int, bytes] | None = None
    """The profile's number and whole 32-bit words (5.3.1)."""
    padding: int = 0
    """Bytes behind the payload, the one that counts them included."""

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a datagram; raises RemoteProtocolError."""
        if len(data) < HEADER_SIZE:
            raise RemoteProtocolError(f"an RTP packet has {len(data)} bytes, less than its fixed header")
        first, second, sequence, timestamp, ssrc = _HEADER.unpack_from(data)
        if first >> 6 != VERSION:
            raise RemoteProtocolError(f"the RTP version is {first >> 6}, not {VERSION}")
        count = first & 0x0F
        start, end = HEADER_SIZE + 4 * count, len(data)
        if start > end:
            raise RemoteProtocolError("an RTP packet has truncated CSRC identifiers")
        csrc = struct.unpack_from(f">{count}I", data, HEADER_SIZE) if count else ()
        extension = None
        if first & 0x10:
            if start + 4 > end:
                raise RemoteProtocolError("an RTP packet has a truncated extension header")
            profile, words = _EXTENSION.unpack_from(data, start)
            start += 4 + 4 * words
            if start > end:
                raise RemoteProtocolError("an RTP packet has a truncated extension")
            extension = profile, bytes(data[start - 4 * words : start])
        padding = 0
        if first & 0x20:
            padding = data[-1] if end > start else 0
            if not 0 < padding <= end - start:
                raise RemoteProtocolError(f"an RTP packet's padding length is {padding}")
        payload = bytes(data[start : end - padding])
        return cls(second & 0x7F, sequence, timestamp, ssrc, payload, second > 0x7F, csrc, extension, padding)

    def __bytes__(self) -> bytes:
        if len(self.csrc) > _MOST_CSRC or not 0 <= self.padding <= 0xFF or not 0 <= self.payload_type <= 0x7F:
            raise LocalProtocolError(f"no RTP header can say this: {self!r:.200}")
        first = VERSION << 6 | (self.padding > 0) << 5 | (self.extension is not None) << 4 | len(self.csrc)
        second = self.marker << 7 | self.payload_type
        try:
            head = _HEADER.pack(first, second, self.sequence, self.timestamp, self.ssrc)
            head += struct.pack(f">{len(self.csrc)}I", *self.csrc)
            if self.extension is not None:
                profile, words = self.extension
                if len(words) % 4:
                    raise LocalProtocolError("an RTP extension is made of whole 32-bit words")
                head += _EXTENSION.pack(profile, len(words) // 4) + words
        except struct.error as error:
            raise LocalProtocolError(f"no RTP header can say this: {error}")
        tail = b"\0" * (self.padding - 1) + bytes((self.padding,)) if self.padding else b""
        data = b"".join((head, self.payload, tail))
        if len(data) > _LONGEST:
            raise LocalProtocolError(f"an RTP packet of {len(data)} bytes does not fit in a datagram")
        return data


class TSWrapper:
    """The RTP headers of one transport stream.

    `ssrc` and the first `sequence` should be random (5.1), and so should the zero of the clock that `wrap` is
    told. The marker stays 0: it says that timestamps jump (RFC 2250, 2), and a send clock does not.
    """

    __slots__ = ("sequence", "ssrc")

    def __init__(self, ssrc: int, sequence: int = 0) -> None:
        if not 0 <= ssrc <= 0xFFFFFFFF or not 0 <= sequence <= 0xFFFF:
            raise LocalProtocolError(f"SSRC {ssrc} or sequence number {sequence} does not fit its field")
        self.ssrc = ssrc
        self.sequence = sequence
        """Of the next packet."""

    def wrap(self, datagrams: Iterable[bytes], time: int, step: int = 0) -> list[bytes]:
        """RTP packets of `datagrams` (whole transport packets each).

        The first leaves at `time`, each other `step` later; both in ticks of 90 kHz, and `time` may run past
        32 bits.
        """
        sequence, ssrc, pack = self.sequence, self.ssrc, _HEADER.pack
        packets = []
        for datagram in datagrams:
            packets.append(pack(0x80, MP2T, sequence, time & 0xFFFFFFFF, ssrc) + datagram)
            sequence = sequence + 1 & 0xFFFF
            time += step
        self.sequence = sequence
        return packets


def nearest(sequence: int, reference: int) -> int:
    """The number, of those that `sequence` stands for in 16 bits, that is nearest to `reference`."""
    return reference + ((sequence - reference + 0x8000) & 0xFFFF) - 0x8000


def element(extension: tuple[int, bytes] | None, number: int) -> bytes:
    """What one header extension says (RFC 8285 4.2, with headers of one byte); empty where it is not there."""
    if extension is None or extension[0] != _ONE_BYTE:
        return b""
    words, at = extension[1], 0
    while at < len(words):
        head = words[at]
        if head >> 4 == _STOP:
            break
        if head >> 4 == number:
            return words[at + 1 : at + 2 + (head & 15)]
        at += 2 + (head & 15) if head else 1  # a zero is padding
    return b""
