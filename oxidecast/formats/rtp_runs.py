"""Payloads of one frame, gathered into runs that one system call can send to a viewer.

UDP_SEGMENT cuts a send into datagrams of one size, of which only the last may be shorter. So payloads that
nearly have one size are padded to it (RFC 3550 5.1), once for all viewers, and a frame is one run or few.
"""

from typing import Final

import msgspec

PLAIN: Final = 0x8000
"""The first two octets of an RTP header without payload type: version 2 and nothing else."""
PADDING: Final = 0x2000
MARKER: Final = 0x0080

Payload = tuple[int, bytes]
"""`PLAIN`, with PADDING and MARKER where they apply, and the payload (padding included)."""

MAX_SEGMENTS = 64
"""Datagrams of one send: UDP_MAX_SEGMENTS of the kernels that are in use."""

MAX_RUN = 65_507 - 64 * 64
"""Bytes of payload of one send: a UDP length, less 64 bytes a datagram for headers, extensions and tags."""

_MAX_PADDING = 255


class Run(msgspec.Struct, frozen=True, gc=False):
    """Payloads of `size` bytes each, the last of `size` or fewer."""

    size: int
    payloads: tuple[Payload, ...]


def runs(payloads: list[bytes]) -> list[Run]:
    """The payloads of one frame in order, the last of them marked."""
    made: list[Run] = []
    start, count = 0, len(payloads)
    while start < count:
        end, size = _reach(payloads, start)
        last = end - 1
        run = [_padded(payload, size) for payload in payloads[start:last]]
        run.append((PLAIN | MARKER if end == count else PLAIN, payloads[last]))
        made.append(Run(size, tuple(run)))
        start = end
    return made


def _reach(payloads: list[bytes], start: int) -> tuple[int, int]:
    """How far the run goes that begins at `start`, and its size."""
    most = least = len(payloads[start])
    end = start + 1
    while end < len(payloads) and end - start < MAX_SEGMENTS:
        size = len(payloads[end])
        larger = max(most, size)
        # All so far must be paddable to it; the new one may be the short last.
        if larger - least > _MAX_PADDING or larger * (end - start + 1) > MAX_RUN:
            break
        end += 1
        most = larger
        if most - size > _MAX_PADDING:
            break
        least = min(least, size)
    return end, most


def _padded(payload: bytes, size: int) -> Payload:
    missing = size - len(payload)
    if not missing:
        return PLAIN, payload
    return PLAIN | PADDING, payload + bytes(missing - 1) + bytes((missing,))
