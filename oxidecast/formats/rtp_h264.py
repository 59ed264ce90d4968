"""H.264 in RTP, packetization-mode 1 (RFC 6184): frames to payloads, once for all viewers, and back.

Out: a NAL unit that fits is a payload, one that does not becomes FU-A fragments of equal size, and parameter
sets travel together in a STAP-A. In: everything that packetization-modes 0 and 1 allow.
"""

from collections.abc import Iterable

from oxidecast.formats.rtp_frames import Depacketizer
from oxidecast.formats.rtp_runs import Run, runs
from oxidecast.media import h264, nal
from oxidecast.media.errors import LocalProtocolError, RemoteProtocolError

STAP_A = 24
FU_A = 28
_START, _END = 0x80, 0x40
_SLICE = 1

_NOT_SENT = frozenset((h264.SEI, h264.DELIMITER, h264.FILLER))
"""A browser shows the same picture without them, and each would end a run of equal payloads."""

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


class H264Depacketizer(Depacketizer):
    """Packets of packetization-mode 1, or 0, to frames without delimiters and filler."""

    __slots__ = ("_fragment", "_units")

    def __init__(self) -> None:
        super().__init__()
        self._units: list[bytes] = []
        self._fragment: list[bytes] | None = None

    def _begins_frame(self, payload: bytes) -> bool:
        return _begins_picture(payload)

    def _taken(self) -> tuple[bytes, bool] | None:
        units, unfinished = self._units, self._fragment is not None
        self._units, self._fragment = [], None
        self._broken = self._broken or unfinished
        kinds = {unit[0] & 31 for unit in units}
        if not any(_SLICE <= kind <= h264.IDR for kind in kinds):
            return None  # parameter sets alone are no frame; they come again with the next keyframe
        kept = [unit for unit in units if unit[0] & 31 not in (h264.DELIMITER, h264.FILLER)]
        return nal.length_prefixed(kept), h264.IDR in kinds

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
        self._fragment.append(payload[2:])
        if header & _END:
            unit, self._fragment = b"".join(self._fragment), None
            self._add([unit])

    def _keep(self, units: list[bytes]) -> None:
        if self._fragment is not None:
            self._fragment = None
            self._broken = True
        self._add(units)

    def _add(self, units: list[bytes]) -> None:
        self._units += units
        if len(self._units) > nal.MAX_UNITS:
            raise RemoteProtocolError(f"H.264 frame in RTP has more than {nal.MAX_UNITS} units")


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
    """Whether the first unit of a payload can only be the first of its frame."""
    kind = payload[0] & 31
    if kind == STAP_A:
        return _is_first(payload[3:5])
    if kind == FU_A:
        return len(payload) > 2 and payload[1] & _START > 0 and _is_first(payload[1:3])
    return _is_first(payload[:2])


def _is_first(unit: bytes) -> bool:
    """Whether a unit, of which two bytes are enough, stands before the slices, or is a slice whose
    first_mb_in_slice is zero (7.3.3: then the first bit behind the header is set)."""
    if len(unit) < 2:
        return False
    kind = unit[0] & 31
    if kind in (_SLICE, 2, h264.IDR):
        return unit[1] >= 0x80
    return kind in (h264.SEI, h264.SPS, h264.DELIMITER)
