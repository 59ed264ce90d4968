"""What RTP and its FEC cost, in CPU time per packet and in percent of a core, for one stream."""

import random
import time
from collections.abc import Callable

from oxidecast.formats.fec import FECDecoder, FECGenerator, Matrix
from oxidecast.formats.rtp import TS_DATAGRAM, TSWrapper

PACKETS = 2000
BATCH = 5
"""Packets of a pacing tick."""
RUNS = 7
RATES = (5_000_000, 20_000_000)


def best(run: Callable[[], object]) -> float:
    """Seconds of CPU per packet in the best run: the others were disturbed."""
    times = []
    for _ in range(RUNS):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times) / PACKETS


def show(what: str, seconds: float) -> None:
    shares = (f"{100 * seconds * rate / 8 / TS_DATAGRAM:.2f} %" for rate in RATES)
    print(f"| {what} | {seconds * 1e6:.2f} us | {' | '.join(shares)} |")


def main() -> None:
    source = random.Random(1)
    payloads = [source.randbytes(TS_DATAGRAM) for _ in range(PACKETS)]
    batches = range(0, PACKETS, BATCH)
    media = TSWrapper(1).wrap(payloads, 0)

    def wrap() -> None:
        wrapper = TSWrapper(1)
        for first in batches:
            b"".join(wrapper.wrap(payloads[first : first + BATCH], first))

    show("RTP headers", best(wrap))
    for matrix in map(Matrix.parse, ("10x10 columns", "10x10", "20x5", "5x5", "4x4")):

        def protect(matrix: Matrix = matrix) -> None:
            generator = FECGenerator(matrix)
            for first in batches:
                generator.protect(media[first : first + BATCH])

        show(f"FEC {matrix}", best(protect))

    generator = FECGenerator(Matrix(10, 10))
    sent = [(packet, *generator.protect([packet])) for packet in media]
    for every in (0, 100, 10):

        def receive(every: int = every) -> None:
            decoder = FECDecoder()
            for number, (packet, columns, rows) in enumerate(sent):
                if not every or number % every != 3:
                    decoder.media(packet)
                for fec in columns + rows:
                    decoder.fec(fec)

        show(f"receiving 10x10, {f'one in {every} lost' if every else 'nothing lost'}", best(receive))


if __name__ == "__main__":
    main()
