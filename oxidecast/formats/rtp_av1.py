"""AV1 in RTP ("RTP Payload Format For AV1" 1.0): temporal units to payloads, once for all viewers, and back.

A payload is an aggregation header and OBU elements: OBUs without their size, of which the first may go on from
the payload before and the last into the next one. So a temporal unit is one string of bytes that may be cut
anywhere, and here it is cut into equal pieces.
"""

from oxidecast.formats.rtp_frames import Depacketizer
from oxidecast.formats.rtp_runs import Run, runs
from oxidecast.media import av1
from oxidecast.media.errors import LocalProtocolError, RemoteProtocolError

_CONTINUES, _CONTINUED, _NEW_SEQUENCE = 0x80, 0x40, 0x08  # Z, Y and N of 4.4
_MOST_COUNTED = 3
"""Elements that W can count; with more each has its length before it."""
_HAS_SIZE, _HAS_EXTENSION = 2, 4
_NOT_SENT = frozenset((av1.TEMPORAL_DELIMITER, av1.PADDING, 8))  # 8 is a tile list, forbidden in RTP (5)

SMALLEST_LIMIT = 64
"""Bytes of payload: below it payloads are mostly headers."""


def packetize(payload: bytes, limit: int, sequence_header: bytes = b"") -> list[Run]:
    """A temporal unit as runs of payloads of at most `limit` bytes.

    `sequence_header` (an OBU, as in av1C) goes before a keyframe that brings none of its own.
    """
    if limit < SMALLEST_LIMIT:
        raise LocalProtocolError(f"RTP payloads of {limit} bytes are too small for AV1")
    elements: list[bytes] = []
    has_sequence = False
    for kind, start, body, end in av1.spans(payload):
        if kind not in _NOT_SENT:
            elements.append(_without_size(payload, start, body, end))
            has_sequence = has_sequence or kind == av1.SEQUENCE_HEADER
    keyframe = av1.is_keyframe(payload)
    if keyframe and sequence_header and not has_sequence:
        elements[:0] = [_without_size(sequence_header, *span) for _, *span in av1.spans(sequence_header)]
        has_sequence = True
    if not elements:
        return []
    total = sum(len(element) + 2 for element in elements)
    count = -(-total // (limit - 1))
    cut = _cut(elements, 1 + -(-total // count))
    cut[0] = bytes((cut[0][0] | (_NEW_SEQUENCE if keyframe and has_sequence else 0),)) + cut[0][1:]
    return runs(cut)


def _without_size(payload: bytes, start: int, body: int, end: int) -> bytes:
    """An OBU as an element: obu_has_size_field is zero (5)."""
    header = payload[start] & ~_HAS_SIZE & 0xFF
    extension = payload[start + 1 : start + 2] if header & _HAS_EXTENSION else b""
    return bytes((header,)) + extension + payload[body:end]


def _cut(elements: list[bytes], size: int) -> list[bytes]:
    """The elements in payloads of `size` bytes, the last of them shorter."""
    made: list[bytes] = []
    pieces: list[bytes] = []
    used, goes_on = 1, False
    for element in elements:
        at = 0
        while at < len(element):
            # A piece that another one follows needs its length before it.
            prefix = len(_leb128(len(pieces[-1]))) if pieces else 0
            if len(pieces) == _MOST_COUNTED:
                # From the fourth on W is zero, and every piece has one: the last included.
                prefix += 2
            elif len(pieces) > _MOST_COUNTED:
                prefix = 2
            room = size - used - prefix
            if room < 1:
                made.append(_payload(pieces, goes_on, at > 0))
                pieces, used, goes_on = [], 1, at > 0
                continue
            piece = element[at : at + room]
            pieces.append(piece)
            used += prefix + len(piece)
            at += len(piece)
    made.append(_payload(pieces, goes_on, False))
    return made


def _payload(pieces: list[bytes], continues: bool, continued: bool) -> bytes:
    count = len(pieces) if len(pieces) <= _MOST_COUNTED else 0
    first = (_CONTINUES if continues else 0) | (_CONTINUED if continued else 0) | count << 4
    parts = [bytes((first,))]
    for piece in pieces[:-1] if count else pieces:
        parts += (_leb128(len(piece)), piece)
    if count:
        parts.append(pieces[-1])
    return b"".join(parts)


def _leb128(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class AV1Depacketizer(Depacketizer):
    """Packets to temporal units of OBUs with sizes, without temporal delimiters."""

    __slots__ = ("_elements", "_unfinished")

    def __init__(self) -> None:
        super().__init__()
        self._elements: list[list[bytes]] = []
        self._unfinished = False

    def _begins_frame(self, payload: bytes) -> bool:
        if payload[0] & _CONTINUES:
            return False
        element = next(iter(_split(payload)), b"")
        return bool(element) and element[0] >> 3 & 15 in (
            av1.TEMPORAL_DELIMITER,
            av1.SEQUENCE_HEADER,
            av1.FRAME_HEADER,
            av1.FRAME,
        )

    def _take(self, payload: bytes) -> None:
        elements = _split(payload)
        if bool(payload[0] & _CONTINUES) != self._unfinished:
            self._broken = True  # the rest, or the beginning, is missing
        elif self._unfinished:
            self._elements[-1].append(elements.pop(0))
        self._elements += [[element] for element in elements]
        if len(self._elements) > av1.MAX_OBUS:
            raise RemoteProtocolError(f"temporal unit in RTP has more than {av1.MAX_OBUS} OBUs")
        self._unfinished = bool(payload[0] & _CONTINUED)

    def _taken(self) -> tuple[bytes, bool] | None:
        elements, self._elements = self._elements, []
        self._broken = self._broken or self._unfinished
        self._unfinished = False
        if self._broken:
            return None
        units = b"".join(_with_size(b"".join(pieces)) for pieces in elements)
        payload = av1.strip(units)
        if not any(kind in (av1.FRAME, av1.FRAME_HEADER) for kind, *_ in av1.spans(payload)):
            return None
        return payload, av1.is_keyframe(payload)


def _split(payload: bytes) -> list[bytes]:
    """The OBU elements of a payload, none of them empty."""
    count = payload[0] >> 4 & 3
    elements: list[bytes] = []
    at, size = 1, len(payload)
    while at < size:
        if count and len(elements) == count - 1:
            end = size
        else:
            length, at = _read_length(payload, at)
            end = at + length
        if end > size or end == at:
            raise RemoteProtocolError("AV1 OBU element is empty or leads out of its RTP payload")
        elements.append(payload[at:end])
        at = end
    if not elements or (count and len(elements) != count):
        raise RemoteProtocolError(f"AV1 RTP payload has {len(elements)} OBU elements, not {count}")
    return elements


def _read_length(payload: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i, octet in enumerate(payload[at : at + 4]):
        value |= (octet & 0x7F) << 7 * i
        if octet < 0x80:
            return value, at + i + 1
    raise RemoteProtocolError("length of an AV1 OBU element is cut short or above 28 bits")


def _with_size(element: bytes) -> bytes:
    """An element as an OBU with its size. One that has a size already stays as it is."""
    if element[0] & _HAS_SIZE:
        return element
    head = 2 if element[0] & _HAS_EXTENSION else 1
    body = element[head:]
    return bytes((element[0] | _HAS_SIZE,)) + element[1:head] + _leb128(len(body)) + body
