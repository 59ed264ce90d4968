"""H.264 in RTP, packetization-mode 1 (RFC 6184): frames to payloads, once for all viewers, and back.

Out: a NAL unit that fits is a payload, one that does not becomes FU-A fragments of equal size, and parameter
sets travel together in a STAP-A. In: packets in order of sequence, with gaps where some were lost; a frame
comes out whole or not at all, and the frame after a loss says so.
"""

from collections.abc import Iterable

import msgspec

from oxidecast.formats.rtp_runs import Run, runs
from oxidecast.media import h264, nal
from oxidecast.media.errors import LocalProtocolError, RemoteProtocolError

STAP_A = 24
FU_A = 28
_START, _END = 0x80, 0x40
_SEI = 6
_IDR, _SLICE = 5, 1

_NOT_SENT = frozenset((_SEI, h264.DELIMITER, h264.FILLER))
"""A browser shows the same picture without them, and each would end a run of equal payloads."""

MAX_ACCESS_UNIT = 8 << 20
"""Bytes. A keyframe of 4K at 100 Mbit/s has 2 MB; this is what a peer can make us keep."""

SMALLEST_LIMIT = 64
"""Bytes of payload: below it fragments are mostly headers."""


def packetize(payload: bytes, limit: int, parameter_sets: Iterable[bytes] = ()) -> list[Run]:
    """A frame of length-prefixed NAL units as runs of payloads of at most `limit` bytes.

    `parameter_sets` go before an IDR picture that brings none of its own. A frame of nothing that is sent has
    no runs.
    """
    if limit < SMALLEST_LIMIT:
        raise LocalProtocolError(f"RTP payloads of {limit} bytes are too small for H.264")
    units = [unit for unit in nal.nal_units(payload) if 0 < unit[0] & 31 < STAP_A]
    kinds = {unit[0] & 31 for unit in units}
    if h264.IDR in kinds and h264.SPS not in kinds:
        units = [*parameter_sets, *units]
    payloads: list[bytes] = []
    together: list[bytes] = []
    for unit in units:
        kind = unit[0] & 31
        if kind in _NOT_SENT:
            continue
        if kind in (h264.SPS, h264.PPS) and len(unit) + 3 <= limit:
            if together and 1 + sum(len(other) + 2 for other in (*together, unit)) > limit:
                payloads.append(_aggregate(together))
                together = []
            together.append(unit)
            continue
        if together:
            payloads.append(_aggregate(together))
            together = []
        if len(unit) <= limit:
            payloads.append(unit)
        else:
            payloads += _fragments(unit, limit)
    if together:
        payloads.append(_aggregate(together))
    return runs(payloads)


def _aggregate(units: list[bytes]) -> bytes:
    """A STAP-A (5.7.1), or the unit itself where it is alone."""
    if len(units) == 1:
        return units[0]
    first = STAP_A | max(unit[0] & 0x60 for unit in units)
    return bytes((first,)) + nal.counted(units)


def _fragments(unit: bytes, limit: int) -> list[bytes]:
    """FU-A fragments (5.8): as few as can be, all as long as the first, but the last."""
    indicator, kind = unit[0] & 0xE0 | FU_A, unit[0] & 31
    count = -(-(len(unit) - 1) // (limit - 2))
    size = -(-(len(unit) - 1) // count)
    fragments = [bytes((indicator, kind)) + unit[at : at + size] for at in range(1, len(unit), size)]
    fragments[0] = bytes((indicator, kind | _START)) + fragments[0][2:]
    fragments[-1] = bytes((indicator, kind | _END)) + fragments[-1][2:]
    return fragments


class AccessUnit(msgspec.Struct, frozen=True, gc=False):
    """A frame that came whole."""

    timestamp: int
    """As sent: 32 bits, 90 kHz."""
    payload: bytes
    """NAL units behind 4-byte lengths, without delimiters and filler."""
    keyframe: bool
    after_loss: bool
    """True when something before it was lost: unless it is a keyframe, what it refers to may be missing."""


class Depacketizer:
    """One stream's packets back to frames. Feed them in order of sequence (a jitter buffer does)."""

    __slots__ = ("_broken", "_fragment", "_lost", "_next", "_open", "_size", "_timestamp", "_units", "lost")

    def __init__(self) -> None:
        self._next: int | None = None
        self._timestamp = 0
        self._units: list[bytes] = []
        self._size = 0
        self._fragment: list[bytes] | None = None
        self._open = False
        """A frame has begun and its end has not come."""
        self._broken = False
        """The frame that is open will not come whole."""
        self._lost = False
        """Something was lost since the last frame that came out."""
        self.lost = 0
        """Frames of which something came, but not all."""

    def receive(self, sequence: int, timestamp: int, marker: bool, payload: bytes) -> list[AccessUnit]:
        """Take a packet; returns the frames that it completes, at most two.

        `sequence` is unwrapped: it rises by one from packet to packet, and where it rises by more, some were
        lost. Raises RemoteProtocolError on a payload that RFC 6184 forbids in packetization-mode 1.
        """
        first = self._next is None
        gap = self._next is not None and sequence != self._next
        if self._next is not None and sequence < self._next:
            raise LocalProtocolError(f"RTP packet {sequence} comes after {self._next - 1}")
        if not payload:
            # A probe for bandwidth is no part of a frame; a gap before it shows at the next packet.
            if not gap and not first:
                self._next = sequence + 1
            return []
        self._next = sequence + 1
        done: list[AccessUnit] = []
        if self._open and timestamp != self._timestamp:
            # No marker: either its packet was lost, or the sender sets none.
            self._broken = self._broken or gap
            done += self._finish()
        if not self._open:
            self._open = True
            self._timestamp = timestamp
            self._broken = (gap or first) and not _begins_picture(payload)
            self._lost = self._lost or gap
        elif gap:
            self._broken = self._lost = True
        if gap:
            self._fragment = None
        self._take(payload)
        if marker:
            done += self._finish()
        return done

    def _finish(self) -> list[AccessUnit]:
        units, broken = self._units, self._broken or self._fragment is not None
        self._units, self._size, self._fragment, self._open, self._broken = [], 0, None, False, False
        if broken:
            self.lost += 1
            self._lost = True
            return []
        units = [unit for unit in units if unit[0] & 31 not in (h264.DELIMITER, h264.FILLER)]
        if not any(_SLICE <= unit[0] & 31 <= _IDR for unit in units):
            return []  # parameter sets alone are no frame; they come again with the next keyframe
        keyframe = any(unit[0] & 31 == _IDR for unit in units)
        unit = AccessUnit(self._timestamp, nal.length_prefixed(units), keyframe, self._lost)
        self._lost = False
        return [unit]

    def _take(self, payload: bytes) -> None:
        kind = payload[0] & 31
        if 0 < kind < STAP_A:
            self._keep([payload])
        elif kind == STAP_A:
            self._keep(_split_aggregate(payload))
        elif kind == FU_A:
            self._take_fragment(payload)
        else:
            raise RemoteProtocolError(f"H.264 RTP payload is of type {kind}: not in packetization-mode 1")

    def _take_fragment(self, payload: bytes) -> None:
        if len(payload) < 3:
            raise RemoteProtocolError("H.264 FU-A has no fragment")
        header = payload[1]
        if header & _START:
            if header & _END:
                raise RemoteProtocolError("H.264 FU-A is start and end of one unit")
            if not 0 < header & 31 < STAP_A:
                raise RemoteProtocolError(f"H.264 FU-A holds a unit of type {header & 31}")
            self._broken = self._broken or self._fragment is not None
            self._fragment = [bytes((payload[0] & 0xE0 | header & 31,))]
        elif self._fragment is None:
            self._broken = True
            return
        self._grow(len(payload))
        self._fragment.append(payload[2:])
        if header & _END:
            unit, self._fragment = b"".join(self._fragment), None
            self._units.append(unit)

    def _keep(self, units: list[bytes]) -> None:
        if self._fragment is not None:
            self._fragment = None
            self._broken = True
        for unit in units:
            self._grow(len(unit))
            self._units.append(unit)

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > MAX_ACCESS_UNIT or len(self._units) >= nal.MAX_UNITS:
            raise RemoteProtocolError(
                f"H.264 frame in RTP has more than {MAX_ACCESS_UNIT} bytes or {nal.MAX_UNITS} units"
            )


def _split_aggregate(payload: bytes) -> list[bytes]:
    """The units of a STAP-A."""
    units: list[bytes] = []
    at, size = 1, len(payload)
    while at < size:
        start = at + 2
        at = start + int.from_bytes(payload[at:start], "big")
        if at > size or at == start:
            raise RemoteProtocolError("H.264 STAP-A has a unit that is empty or leads out of it")
        if not 0 < payload[start] & 31 < STAP_A:
            raise RemoteProtocolError(f"H.264 STAP-A holds a unit of type {payload[start] & 31}")
        units.append(payload[start:at])
    return units


def _begins_picture(payload: bytes) -> bool:
    """Whether a payload can only be the first of its frame: something that stands before the slices, or a
    slice whose first_mb_in_slice is zero (7.3.3: then the first bit behind the header is set)."""
    kind = payload[0] & 31 if payload else 0
    if kind == STAP_A:
        return _begins_picture(payload[3:])
    if kind == FU_A:
        if len(payload) < 3 or not payload[1] & _START:
            return False
        return _begins_picture(bytes((payload[1] & 31, payload[2])))
    if kind in (_SLICE, 2, _IDR):
        return len(payload) > 1 and payload[1] >= 0x80
    return kind in (_SEI, h264.SPS, h264.DELIMITER)
