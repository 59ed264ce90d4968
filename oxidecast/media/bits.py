"""Reading codec headers bit by bit, with an end that is always checked.

Every header parser of this room reads through one `BitReader`. It never allocates by what the bits say and
it raises `RemoteProtocolError` where the data runs out, so a parser built on it needs a bound only for its
own loops.
"""

from oxidecast.media.errors import RemoteProtocolError

MAX_EXP_GOLOMB_ZEROS = 32
"""ue(v) codes of H.264 9.1 and HEVC 9.2 stay below 2^32, so more leading zeros are never sent."""


class BitReader:
    """A cursor over the bits of `data`, highest bit first. `what` names the structure in errors."""

    __slots__ = ("_data", "_end", "_what", "position")

    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._end = len(data) * 8
        self._what = what
        self.position = 0
        """Bits read so far."""

    @property
    def left(self) -> int:
        """Bits not yet read."""
        return self._end - self.position

    def u(self, bits: int) -> int:
        """u(n): an unsigned number of `bits` bits."""
        start = self.position
        end = start + bits
        if end > self._end:
            raise RemoteProtocolError(f"{self._what} ends in the middle of a field (at bit {start})")
        self.position = end
        window = int.from_bytes(self._data[start >> 3 : (end + 7) >> 3], "big")
        return (window >> (-end & 7)) & ((1 << bits) - 1)

    def flag(self) -> bool:
        """u(1), as a truth value."""
        start = self.position
        if start >= self._end:
            raise RemoteProtocolError(f"{self._what} ends in the middle of a field (at bit {start})")
        self.position = start + 1
        return bool(self._data[start >> 3] >> (~start & 7) & 1)

    def ue(self) -> int:
        """ue(v): an unsigned Exp-Golomb number (H.264 9.1)."""
        zeros = 0
        while not self.flag():
            zeros += 1
            if zeros > MAX_EXP_GOLOMB_ZEROS:
                raise RemoteProtocolError(f"{self._what} has an Exp-Golomb number above 32 bits")
        return (1 << zeros) - 1 + self.u(zeros) if zeros else 0

    def se(self) -> int:
        """se(v): a signed Exp-Golomb number (H.264 9.1.1)."""
        code = self.ue()
        return (code + 1) // 2 if code & 1 else -(code // 2)

    def skip(self, bits: int) -> None:
        """Pass over `bits` bits, which must be there."""
        if bits > self.left:
            raise RemoteProtocolError(f"{self._what} ends in the middle of a field (at bit {self.position})")
        self.position += bits

    def align(self) -> None:
        """Go on at the next byte boundary."""
        self.position = (self.position + 7) & ~7

    def rest(self) -> bytes:
        """The whole bytes after the cursor, which must be at a byte boundary."""
        return self._data[self.position >> 3 :]


def unescape(unit: bytes) -> bytes:
    """A NAL unit without its emulation prevention bytes (H.264 7.4.1): 00 00 03 becomes 00 00.

    `bytes.replace` goes from left to right without overlap, which is exactly the clause's rule.
    """
    return unit.replace(b"\x00\x00\x03", b"\x00\x00")
