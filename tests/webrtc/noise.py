"""What strangers send to the port: true datagrams with faults, and random ones that look like each kind; by a seed."""

import random
from collections.abc import Sequence

_FIRST = (0, 1, 3, 20, 21, 22, 23, 25, 63, 64, 128, 129, 143, 144, 160, 191, 192, 255)
"""First octets on both sides of what tells the kinds apart (RFC 7983 7)."""

_SIZES = (0, 1, 2, 11, 12, 13, 19, 20, 27, 28, 40, 60, 100, 300, 1_200, 1_472, 2_048)

_NAMED = slice(4, 44)
"""Where a check has its transaction and the beginning of its USERNAME."""


class Noise:
    """`corpus` are datagrams that mean something to the port; none of them is sent as it is."""

    def __init__(self, seed: int, corpus: Sequence[bytes]) -> None:
        self._corpus = [datagram for datagram in corpus if datagram]
        self._known = set(self._corpus)
        self._checks = {known[_NAMED]: known for known in self._corpus if known[0] < 4}
        self._random = random.Random(seed)

    def datagram(self) -> bytes:
        """The next one."""
        noise = self._random
        while True:
            if not self._corpus or noise.random() < 0.3:
                made = bytes((noise.choice(_FIRST),)) + noise.randbytes(noise.choice(_SIZES))
            else:
                made = self._spoiled(bytearray(noise.choice(self._corpus)))
            if made not in self._known and not self._is_whole_check(made):
                return made

    def _spoiled(self, data: bytearray) -> bytes:
        noise = self._random
        for _ in range(noise.choice((0, 1, 1, 1, 2, 5))):
            data[noise.randrange(len(data))] ^= 1 << noise.randrange(8)
        way = noise.randrange(6)
        if way == 0:
            del data[noise.randrange(len(data)) :]
        elif way == 1:
            data += noise.randbytes(noise.choice((1, 4, 16, 200)))
        elif way == 2:  # another's end behind its beginning
            at = noise.randrange(len(data))
            data[at:] = noise.choice(self._corpus)[at:]
        elif way == 3:  # two in one
            data += noise.choice(self._corpus)
        elif way == 4:
            at = noise.randrange(len(data))
            data[at : at + 4] = noise.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\1", b"\0\0\0\1"))
        return bytes(data)

    def _is_whole_check(self, made: bytes) -> bool:
        """Whether it is a true check with another fingerprint, or none. Who heard a check can send it again: that is no
        noise."""
        known = self._checks.get(made[_NAMED])
        return known is not None and made[:2] == known[:2] and made[4 : len(known) - 8] == known[4:-8]
