"""HEVC in RTP (RFC 7798, without DONL, as browsers and WHIP have it): frames to payloads, and back.

As H.264 in RTP, with headers of two bytes: parameter sets travel together in an aggregation packet, and what
is too large becomes fragmentation units of equal size.
"""

from collections.abc import Iterable

from oxidecast.formats.rtp_frames import Depacketizer
from oxidecast.formats.rtp_runs import Run, runs
from oxidecast.media import hevc, nal
from oxidecast.media.errors import LocalProtocolError, RemoteProtocolError

AGGREGATION = 48
FRAGMENTATION = 49
_START, _END = 0x80, 0x40
_TYPE = 0x7E
"""Where the type stands in a unit's first byte; beside it are the forbidden bit and one of the layer."""
_SEI_PREFIX, _SEI_SUFFIX = 39, 40
_SLICES = range(32)

_PARAMETER_SETS = frozenset((hevc.VPS, hevc.SPS, hevc.PPS))
_NOT_SENT = frozenset((hevc.DELIMITER, hevc.FILLER, _SEI_PREFIX, _SEI_SUFFIX))
"""A browser shows the same picture without them, and each would end a run of equal payloads."""

SMALLEST_LIMIT = 64
"""Bytes of payload: below it fragments are mostly headers."""


def _kind(unit: bytes) -> int:
    return unit[0] >> 1 & 63


def packetize(payload: bytes, limit: int, parameter_sets: Iterable[bytes] = ()) -> list[Run]:
    """A frame of length-prefixed NAL units as runs of payloads of at most `limit` bytes.

    `parameter_sets` go before a picture where decoding can start, when it brings none of its own. A frame of
    nothing that is sent has no runs.
    """
    if limit < SMALLEST_LIMIT:
        raise LocalProtocolError(f"RTP payloads of {limit} bytes are too small for HEVC")
    units = [unit for unit in nal.nal_units(payload) if len(unit) > 1 and _kind(unit) < AGGREGATION]
    kinds = {_kind(unit) for unit in units}
    if hevc.SPS not in kinds and not kinds.isdisjoint(hevc.IRAP):
        units = [*parameter_sets, *units]
    payloads: list[bytes] = []
    together: list[bytes] = []
    for unit in units:
        kind = _kind(unit)
        if kind in _NOT_SENT:
            continue
        if kind in _PARAMETER_SETS and len(unit) + 4 <= limit:
            if together and 2 + sum(len(other) + 2 for other in (*together, unit)) > limit:
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
    """An aggregation packet (4.4.2), or the unit itself where it is alone."""
    if len(units) == 1:
        return units[0]
    # Layer and temporal id are the lowest of the units; parameter sets have the lowest there are.
    return bytes((AGGREGATION << 1, min(unit[1] for unit in units))) + nal.counted(units)


def _fragments(unit: bytes, limit: int) -> list[bytes]:
    """Fragmentation units (4.4.3): as few as can be, all as long as the first, but the last."""
    head = bytes((unit[0] & ~_TYPE & 0xFF | FRAGMENTATION << 1, unit[1]))
    kind = _kind(unit)
    count = -(-(len(unit) - 2) // (limit - 3))
    size = -(-(len(unit) - 2) // count)
    bodies = [unit[at : at + size] for at in range(2, len(unit), size)]
    flags = [_START, *[0] * (len(bodies) - 2), _END]
    return [head + bytes((flag | kind,)) + body for flag, body in zip(flags, bodies, strict=True)]


class HEVCDepacketizer(Depacketizer):
    """Packets to frames without delimiters and filler."""

    __slots__ = ("_fragment", "_units")

    def __init__(self) -> None:
        super().__init__()
        self._units: list[bytes] = []
        self._fragment: list[bytes] | None = None

    def _begins_frame(self, payload: bytes) -> bool:
        kind = _kind(payload)
        if kind == AGGREGATION:
            return _is_first(payload[4:7])
        if kind == FRAGMENTATION:
            inner = bytes(((payload[2] & 63) << 1, 1)) + payload[3:4] if len(payload) > 3 else b""
            return bool(inner) and payload[2] & _START > 0 and _is_first(inner)
        return _is_first(payload[:3])

    def _taken(self) -> tuple[bytes, bool] | None:
        units, unfinished = self._units, self._fragment is not None
        self._units, self._fragment = [], None
        self._broken = self._broken or unfinished
        kinds = {_kind(unit) for unit in units}
        if kinds.isdisjoint(_SLICES):
            return None  # parameter sets alone are no frame; they come again with the next keyframe
        kept = [unit for unit in units if _kind(unit) not in (hevc.DELIMITER, hevc.FILLER)]
        return nal.length_prefixed(kept), not kinds.isdisjoint(hevc.IRAP)

    def _take(self, payload: bytes) -> None:
        if len(payload) < 3:
            raise RemoteProtocolError(f"HEVC RTP payload has {len(payload)} bytes, fewer than 3")
        kind = _kind(payload)
        if kind == FRAGMENTATION:
            self._take_fragment(payload)
            return
        if kind > AGGREGATION:
            raise RemoteProtocolError(f"HEVC RTP payload is of type {kind}: not for what was negotiated")
        if self._fragment is not None:
            self._fragment = None
            self._broken = True
        self._add(_split_aggregation(payload) if kind == AGGREGATION else [payload])

    def _take_fragment(self, payload: bytes) -> None:
        header = payload[2]
        if len(payload) < 4:
            raise RemoteProtocolError("HEVC fragmentation unit has no fragment")
        if header & _START:
            if header & _END:
                raise RemoteProtocolError("HEVC fragmentation unit is start and end of one unit")
            if header & 63 >= AGGREGATION:
                raise RemoteProtocolError(f"HEVC fragmentation unit holds a unit of type {header & 63}")
            self._broken = self._broken or self._fragment is not None
            self._fragment = [bytes((payload[0] & ~_TYPE & 0xFF | (header & 63) << 1, payload[1]))]
        elif self._fragment is None:
            self._broken = True
            return
        self._fragment.append(payload[3:])
        if header & _END:
            unit, self._fragment = b"".join(self._fragment), None
            self._add([unit])

    def _add(self, units: list[bytes]) -> None:
        self._units += units
        if len(self._units) > nal.MAX_UNITS:
            raise RemoteProtocolError(f"HEVC frame in RTP has more than {nal.MAX_UNITS} units")


def _split_aggregation(payload: bytes) -> list[bytes]:
    """The units of an aggregation packet."""
    units: list[bytes] = []
    at, size = 2, len(payload)
    while at < size:
        start = at + 2
        at = start + int.from_bytes(payload[at:start], "big")
        if at > size or at < start + 2:
            raise RemoteProtocolError("HEVC aggregation packet has a unit without header or beyond its end")
        unit = payload[start:at]
        if _kind(unit) >= AGGREGATION:
            raise RemoteProtocolError(f"HEVC aggregation packet holds a unit of type {_kind(unit)}")
        units.append(unit)
    return units


def _is_first(unit: bytes) -> bool:
    """Whether a unit, of which three bytes are enough, stands before the slices, or is a slice with
    first_slice_segment_in_pic_flag (7.3.6.1: the first bit behind the header)."""
    if len(unit) < 3:
        return False
    kind = _kind(unit)
    if kind in _SLICES:
        return unit[2] >= 0x80
    return kind in (hevc.VPS, hevc.SPS, hevc.DELIMITER, _SEI_PREFIX)
