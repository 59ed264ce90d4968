"""Puts lost media packets together again from FEC packets, and hands all out in order.

A FEC packet that lacks one of its media packets gives that packet back; the packet may be the last but one that
another FEC packet lacks, and so on, row by column, until nothing moves. FEC packets that lack more wait here.
Everything that is held lies within a window of sequence numbers behind the newest packet.
"""

import struct
from dataclasses import dataclass

from oxidecast.formats.fec.packets import MOST_PACKETS, FECPacket
from oxidecast.formats.rtp import HEADER_SIZE, RTPPacket, nearest
from oxidecast.media import RemoteProtocolError

_HEADER = struct.Struct(">BBHII")

_MARGIN = 50
"""Packets by which FEC may come later than it left: it takes another port, and perhaps another way."""
_LONGEST_GAP = 3000
"""Packets that a stream may lose and go on; beyond, it was restarted (MAX_DROPOUT of RFC 3550, A.1)."""
_MOST_WAITING = 256
"""FEC packets that wait: those of all matrices in the window, at the smallest matrix."""


@dataclass(slots=True)
class _Waiting:
    """A FEC packet that lacks at least two of its media packets."""

    fec: FECPacket
    members: list[int]
    missing: set[int]


class FECDecoder:
    """The receiving end of one stream.

    A hole holds back what comes after it until it is filled or given up: after two matrices of `matrix` packets,
    when the last FEC packet that could have filled it is gone.
    """

    def __init__(self, matrix: int = MOST_PACKETS) -> None:
        self._patience = 2 * matrix + _MARGIN
        self.recovered = 0
        self.lost = 0
        """Packets given up."""
        self.refused = 0
        """Sums that were no packet: the FEC does not belong to this media."""
        self._packets: dict[int, bytes] = {}
        self._waiting: dict[tuple[int, int, int], _Waiting] = {}
        self._newest = -1
        """Sequence number of the newest packet, which does not wrap; -1 before the first."""
        self._next = 0
        """The next to hand out."""
        self._oldest = 0
        """Nothing before this is held."""
        self._stream = (0, 0)
        """SSRC and payload type."""
        self._stranger = (-1, -1)
        """SSRC and sequence number that would show that the stream was restarted."""

    def media(self, data: bytes) -> list[bytes]:
        """Take a media packet; return the packets that can now be handed out. Raises RemoteProtocolError."""
        packet = RTPPacket.parse(data)
        if self._newest < 0:
            self._start(packet)
        number = nearest(packet.sequence, self._newest)
        if packet.ssrc != self._stream[0] or not self._oldest <= number <= self._newest + _LONGEST_GAP:
            # RFC 3550, A.1: two packets in a row are a new stream, one alone is none.
            if (packet.ssrc, packet.sequence) != self._stranger:
                self._stranger = packet.ssrc, packet.sequence + 1 & 0xFFFF
                return []
            left = self.flush()
            self._start(packet)
            self._store(self._newest, data)
            return left + self._release()
        if number not in self._packets:
            self._store(number, data)
        return self._release()

    def fec(self, data: bytes) -> list[bytes]:
        """Take a FEC packet, of a column or a row; otherwise like `media`."""
        fec = FECPacket.parse(data)
        if self._newest < 0:
            return []
        base = nearest(fec.base & 0xFFFF, self._newest)
        members = [base + distance for distance in range(0, fec.offset * fec.count, fec.offset)]
        if base < self._oldest or members[-1] > self._newest + MOST_PACKETS:
            return []
        missing = {number for number in members if number not in self._packets}
        waiting = _Waiting(fec, members, missing)
        if len(missing) == 1:
            number = next(iter(missing))
            recovered = self._recover(waiting, number)
            if recovered is not None:
                self._store(number, recovered)
        elif missing:
            self._waiting.setdefault((base, fec.offset, fec.count), waiting)
            if len(self._waiting) > _MOST_WAITING:
                del self._waiting[next(iter(self._waiting))]
        return self._release()

    def flush(self) -> list[bytes]:
        """Give up on all holes, at the end of the stream."""
        return self._release(patience=0)

    def _start(self, packet: RTPPacket) -> None:
        # One cycle above zero, so that no number in the window is ever negative.
        self._newest = self._next = packet.sequence + 0x10000
        self._oldest = self._newest - _MARGIN
        self._stream = packet.ssrc, packet.payload_type
        self._stranger = -1, -1
        self._packets.clear()
        self._waiting.clear()

    def _store(self, number: int, data: bytes) -> None:
        """Keep a packet, and recover what it was the last but one for, and what that was the last but one for."""
        found: list[tuple[int, bytes]] = [(number, data)]
        while found:
            number, data = found.pop()
            self._packets[number] = data
            self._newest = max(self._newest, number)
            for key, waiting in list(self._waiting.items()):
                waiting.missing.discard(number)
                if len(waiting.missing) > 1:
                    continue
                del self._waiting[key]
                # Two lines that cross at a lost packet may both be ready for it: the first one has it.
                for missing in waiting.missing.difference(lost for lost, _ in found):
                    recovered = self._recover(waiting, missing)
                    if recovered is not None:
                        found.append((missing, recovered))
        self._forget()

    def _recover(self, waiting: _Waiting, number: int) -> bytes | None:
        """The packet `number`, of which alone `waiting` lacks; None when the sum is no packet."""
        fec = waiting.fec
        head = _HEADER.pack(fec.flags, fec.kind, 0, fec.time, 0)
        bits, length, longest = int.from_bytes(head + fec.payload, "little"), fec.length, len(fec.payload)
        for member in waiting.members:
            if member != number:
                packet = self._packets[member]
                size = len(packet) - HEADER_SIZE
                bits ^= int.from_bytes(packet, "little")
                length ^= size
                longest = max(longest, size)
        total = bits.to_bytes(HEADER_SIZE + longest, "little")
        flags, kind, _, time, _ = _HEADER.unpack_from(total)
        end = HEADER_SIZE + length
        data = _HEADER.pack(0x80 | flags & 0x3F, kind, number & 0xFFFF, time, self._stream[0])
        data += total[HEADER_SIZE:end]
        try:
            fits = RTPPacket.parse(data).payload_type == self._stream[1]
        except RemoteProtocolError:
            fits = False
        if not fits or end > len(total) or any(total[end:]):
            self.refused += 1
            return None
        self.recovered += 1
        return data

    def _forget(self) -> None:
        """Drop what is so old that no hole needs it."""
        oldest = self._newest - self._patience - MOST_PACKETS
        if oldest <= self._oldest:
            return
        for number in range(self._oldest, oldest):
            self._packets.pop(number, None)
        self._oldest = oldest
        for key in [key for key, waiting in self._waiting.items() if waiting.members[0] < oldest]:
            del self._waiting[key]

    def _release(self, patience: int | None = None) -> list[bytes]:
        if patience is None:
            patience = self._patience
        packets = []
        while self._next <= self._newest:
            packet = self._packets.get(self._next)
            if packet is not None:
                packets.append(packet)
            elif self._newest - self._next >= patience:
                self.lost += 1
            else:
                break
            self._next += 1
        return packets
