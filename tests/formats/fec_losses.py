"""A sender with FEC, the losses on its way, and what can be saved of them: shared by the tests of FEC."""

import random
from collections.abc import Iterable, Iterator, Set

from oxidecast.formats.fec import FECGenerator, FECPacket, Matrix
from oxidecast.formats.rtp import TSWrapper

COLUMN, ROW = "column", "row"


class Sender:
    """Packets of one stream in the order of sending: media by number, FEC by direction."""

    def __init__(self, matrix: Matrix, payloads: Iterable[bytes], sequence: int = 0, time: int = 0) -> None:
        wrapper, generator = TSWrapper(0x5EED, sequence), FECGenerator(matrix)
        self.media: list[bytes] = []
        self.sent: list[tuple[str | int, bytes]] = []
        for number, payload in enumerate(payloads):
            packets = wrapper.wrap([payload], time + number * 47)
            columns, rows = generator.protect(packets)
            self.media += packets
            self.sent.append((number, packets[0]))
            self.sent += [(COLUMN, packet) for packet in columns]
            self.sent += [(ROW, packet) for packet in rows]

    def fec(self) -> Iterator[FECPacket]:
        return (FECPacket.parse(data) for what, data in self.sent if isinstance(what, str))


def payloads(count: int, size: int = 60, seed: int = 1) -> list[bytes]:
    """Random bytes, so that no wrong packet looks right."""
    source = random.Random(seed)
    return [source.randbytes(size) for _ in range(count)]


def beyond_repair(lost: Set[int], groups: Iterable[Set[int]]) -> set[int]:
    """What stays lost when every group can give back one packet, again and again: the rule, said plainly."""
    left, known = set(lost), [set(group) for group in groups]
    while True:
        saved = {next(iter(group & left)) for group in known if len(group & left) == 1}
        if not saved:
            return left
        left -= saved
