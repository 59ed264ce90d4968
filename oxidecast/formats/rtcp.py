"""RTCP (RFC 3550 6, RFC 4585 6, RFC 3611 4.4 and 4.5): what a sender of media says, and what its receivers answer.

Reports, goodbyes and feedback, both ways. Kinds that nobody asked for are passed over; a packet that does not add up
is refused whole.
"""

from collections.abc import Iterable, Sequence
from struct import Struct
from typing import Final

import msgspec

from oxidecast.media.errors import RemoteProtocolError

SENDER_REPORT: Final = 200
RECEIVER_REPORT: Final = 201
DESCRIPTION: Final = 202
GOODBYE: Final = 203
TRANSPORT_FEEDBACK: Final = 205
PAYLOAD_FEEDBACK: Final = 206
EXTENDED_REPORT: Final = 207

_NACK = 1  # RFC 4585 6.2.1
_PICTURE_LOSS, _FULL_INTRA, _APPLICATION = 1, 4, 15  # RFC 4585 6.3.1, RFC 5104 4.3.1, RFC 4585 6.4
_REFERENCE_TIME, _ECHO = 4, 5  # RFC 3611 4.4, 4.5

UNIX_TO_NTP = 2_208_988_800
"""Seconds between 1900 and 1970."""

LONGEST_TRIP: Final = 16.0
"""Seconds of a round trip; more is a clock that was set."""

MAX_NACKED = 1_024
"""Sequence numbers that one datagram may ask for: what is kept to be sent again. A receiver asks for a few."""

_SR = Struct(">BBHIQIII")
_BLOCK = Struct(">IIIIII")
_ECHOED = Struct(">III")


class Report(msgspec.Struct, frozen=True, gc=False):
    """How a receiver gets one of our streams (RFC 3550 6.4.1)."""

    ssrc: int
    """Of the stream that it is about."""
    fraction: float
    """Of the packets since its last report, how many were lost: 0 to 1."""
    lost: int
    """Packets lost in all; negative when there were duplicates."""
    jitter: int
    """In ticks of the stream's clock."""
    last_report: int
    """The middle 32 bits of the NTP time in our last report that it got; 0 before the first."""
    delay: int
    """How long ago that was, in 1/65536 s."""


class SenderReport(msgspec.Struct, frozen=True, gc=False):
    """When a moment of the peer's stream was."""

    ssrc: int
    ntp: int
    """64 bits of NTP time (RFC 3550 4)."""
    timestamp: int
    """The stream's, at that time."""


class Nack(msgspec.Struct, frozen=True, gc=False):
    """Packets of a stream that did not come."""

    ssrc: int
    sequences: tuple[int, ...]


class KeyframeWanted(msgspec.Struct, frozen=True, gc=False):
    """The receiver cannot go on without a keyframe (PLI or FIR)."""

    ssrc: int


class Estimate(msgspec.Struct, frozen=True, gc=False):
    """What the receiver thinks the way to it carries (REMB), in bits a second."""

    bitrate: int


class Echo(msgspec.Struct, frozen=True, gc=False):
    """When a sender got our reference time (DLRR): by this a receiver measures the way."""

    ssrc: int
    """Of us, who said the time."""
    last_report: int
    """As in `Report`."""
    delay: int


class Goodbye(msgspec.Struct, frozen=True, gc=False):
    """The peer's stream ends."""

    ssrc: int


Item = SenderReport | Report | Nack | KeyframeWanted | Estimate | Echo | Goodbye


def parse(data: bytes) -> list[Item]:
    """What is in a compound packet, or in a single one of reduced size (RFC 5506). Raises RemoteProtocolError."""
    items: list[Item] = []
    at, size = 0, len(data)
    if size < 8:
        raise RemoteProtocolError(f"RTCP packet has {size} bytes, fewer than 8")
    while at < size:
        if size - at < 4:
            raise RemoteProtocolError("RTCP packet ends in the middle of a header")
        first, kind = data[at], data[at + 1]
        end = at + 4 + 4 * int.from_bytes(data[at + 2 : at + 4], "big")
        if first >> 6 != 2:
            raise RemoteProtocolError(f"RTCP version is {first >> 6}, not 2")
        if end > size:
            raise RemoteProtocolError(
                f"RTCP packet of type {kind} leads {end - size} bytes out of its datagram"
            )
        body = data[at + 4 : end]
        if first & 0x20:
            padding = body[-1] if body else 0
            if not 0 < padding <= len(body) or padding % 4:
                raise RemoteProtocolError(f"RTCP padding length is {padding}")
            body = body[:-padding]
        _read(items, kind, first & 31, body)
        at = end
    return items


def _read(items: list[Item], kind: int, count: int, body: bytes) -> None:
    if kind == SENDER_REPORT:
        _reports(items, count, body, 24)
        items.append(
            SenderReport(
                int.from_bytes(body[:4], "big"),
                int.from_bytes(body[4:12], "big"),
                int.from_bytes(body[12:16], "big"),
            )
        )
    elif kind == RECEIVER_REPORT:
        _reports(items, count, body, 4)
    elif kind == GOODBYE:
        if len(body) < 4 * count:
            raise RemoteProtocolError(f"RTCP BYE of {count} sources has {len(body)} bytes")
        items += [Goodbye(int.from_bytes(body[at : at + 4], "big")) for at in range(0, 4 * count, 4)]
    elif kind in (TRANSPORT_FEEDBACK, PAYLOAD_FEEDBACK):
        if len(body) < 8:
            raise RemoteProtocolError(f"RTCP feedback has {len(body)} bytes, fewer than 8")
        ssrc, information = int.from_bytes(body[4:8], "big"), body[8:]
        if kind == TRANSPORT_FEEDBACK:
            if count == _NACK:
                items.append(Nack(ssrc, _nacked(information)))
        elif count == _PICTURE_LOSS:
            items.append(KeyframeWanted(ssrc))
        elif count == _FULL_INTRA and len(information) >= 8:
            items.append(KeyframeWanted(int.from_bytes(information[:4], "big")))
        elif count == _APPLICATION and information[:4] == b"REMB" and len(information) >= 8:
            mantissa = int.from_bytes(information[5:8], "big")
            items.append(Estimate((mantissa & 0x3FFFF) << (mantissa >> 18)))
    elif kind == EXTENDED_REPORT:
        _extended(items, body)


def _extended(items: list[Item], body: bytes) -> None:
    at = 4
    while at + 4 <= len(body):
        end = at + 4 + 4 * int.from_bytes(body[at + 2 : at + 4], "big")
        if end > len(body):
            raise RemoteProtocolError(f"RTCP extended report's block leads {end - len(body)} bytes out of it")
        if body[at] == _ECHO:
            items += [Echo(*_ECHOED.unpack_from(body, one)) for one in range(at + 4, end - 11, 12)]
        at = end


def _reports(items: list[Item], count: int, body: bytes, start: int) -> None:
    if len(body) < start + _BLOCK.size * count:
        raise RemoteProtocolError(f"RTCP report of {count} sources has {len(body)} bytes")
    for at in range(start, start + _BLOCK.size * count, _BLOCK.size):
        ssrc, losses, _, jitter, last, delay = _BLOCK.unpack_from(body, at)
        lost = losses & 0xFFFFFF
        items.append(
            Report(ssrc, (losses >> 24) / 256, lost - (1 << 24) if lost >> 23 else lost, jitter, last, delay)
        )


def _nacked(information: bytes) -> tuple[int, ...]:
    """Sequence numbers, from packet ids with masks of the sixteen that follow each."""
    sequences: list[int] = []
    for at in range(0, len(information) - 3, 4):
        first = int.from_bytes(information[at : at + 2], "big")
        mask = int.from_bytes(information[at + 2 : at + 4], "big")
        sequences.append(first)
        sequences += [first + bit + 1 & 0xFFFF for bit in range(16) if mask >> bit & 1]
    return tuple(sequences[:MAX_NACKED])


def ntp(utc: float) -> int:
    """64 bits of NTP time of seconds since 1970 (RFC 3550 4)."""
    return int((utc + UNIX_TO_NTP) * (1 << 32)) & (1 << 64) - 1


def round_trip(report: Report | Echo, utc: float) -> float | None:
    """Seconds that the way to the peer and back takes, by its answer that comes now (RFC 3550 6.4.1); None where it
    says nothing of it."""
    if not report.last_report:
        return None
    trip = ((ntp(utc) >> 16) - report.last_report - report.delay & 0xFFFFFFFF) / 65_536
    return trip if trip < LONGEST_TRIP else None


def sender_report(ssrc: int, utc: float, timestamp: int, packets: int, octets: int, cname: bytes) -> bytes:
    """A sender report with its description: the stream's `timestamp` at `utc`. `cname` has at most 255 bytes."""
    report = _SR.pack(
        0x80,
        SENDER_REPORT,
        6,
        ssrc,
        ntp(utc),
        timestamp & 0xFFFFFFFF,
        packets & 0xFFFFFFFF,
        octets & 0xFFFFFFFF,
    )
    return report + _description(ssrc, cname)


def receiver_report(ssrc: int, blocks: Sequence[bytes], cname: bytes) -> bytes:
    """A receiver report with its description: what every compound packet of a receiver begins with. At most 31 blocks,
    of 24 bytes each (RFC 3550 6.4.2)."""
    body = ssrc.to_bytes(4, "big") + b"".join(blocks)
    return bytes((0x80 | len(blocks), RECEIVER_REPORT, 0, len(body) // 4)) + body + _description(ssrc, cname)


def nack(sender: int, ssrc: int, sequences: Iterable[int]) -> bytes:
    """A request for packets of `ssrc` that are missing, their numbers of 16 bits in rising order; none for none."""
    pairs: list[list[int]] = []
    for sequence in sequences:
        ahead = (sequence - pairs[-1][0]) & 0xFFFF if pairs else 17
        if 0 < ahead <= 16:
            pairs[-1][1] |= 1 << ahead - 1
        elif ahead:
            pairs.append([sequence, 0])
    information = b"".join((first << 16 | mask).to_bytes(4, "big") for first, mask in pairs)
    return _feedback(TRANSPORT_FEEDBACK, _NACK, sender, ssrc, information) if pairs else b""


def picture_loss(sender: int, ssrc: int) -> bytes:
    """A request for a keyframe (PLI)."""
    return _feedback(PAYLOAD_FEEDBACK, _PICTURE_LOSS, sender, ssrc, b"")


def reference_time(sender: int, utc: float) -> bytes:
    """Our time, for a sender to say when it got it (RFC 3611 4.4)."""
    body = sender.to_bytes(4, "big") + bytes((_REFERENCE_TIME, 0, 0, 2)) + ntp(utc).to_bytes(8, "big")
    return bytes((0x80, EXTENDED_REPORT, 0, len(body) // 4)) + body


def estimate(sender: int, bitrate: int, ssrcs: Sequence[int]) -> bytes:
    """How many bits a second these streams together may have (REMB, draft-alvestrand-rmcat-remb)."""
    exponent = max(0, bitrate.bit_length() - 18)
    information = b"REMB" + bytes((len(ssrcs),)) + (exponent << 18 | bitrate >> exponent).to_bytes(3, "big")
    information += b"".join(ssrc.to_bytes(4, "big") for ssrc in ssrcs)
    return _feedback(PAYLOAD_FEEDBACK, _APPLICATION, sender, 0, information)


def _feedback(kind: int, form: int, sender: int, ssrc: int, information: bytes) -> bytes:
    body = sender.to_bytes(4, "big") + ssrc.to_bytes(4, "big") + information
    return bytes((0x80 | form, kind)) + (len(body) // 4).to_bytes(2, "big") + body


def goodbye(ssrcs: Iterable[int], cname: bytes) -> bytes:
    """The end of all these streams (RFC 3550 6.6), behind the report and description that a compound packet needs."""
    sources = [ssrc.to_bytes(4, "big") for ssrc in ssrcs]
    report = bytes((0x80, RECEIVER_REPORT, 0, 1)) + sources[0]
    bye = bytes((0x80 | len(sources), GOODBYE, 0, len(sources))) + b"".join(sources)
    return report + _description(int.from_bytes(sources[0], "big"), cname) + bye


def _description(ssrc: int, cname: bytes) -> bytes:
    chunk = ssrc.to_bytes(4, "big") + bytes((1, len(cname))) + cname
    chunk += bytes(4 - len(chunk) % 4)  # at least one zero ends the list (RFC 3550 6.5)
    return bytes((0x81, DESCRIPTION, 0, len(chunk) // 4)) + chunk
