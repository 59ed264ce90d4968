"""AMF, the way RTMP commands and FLV metadata write their values. Bytes to Python values and back.

AMF0 is read and written; AMF3 is read where AMF0 switches to it (marker 0x11), as far as commands go. An AMF0
object and an AMF3 object are a `dict`, an ECMA array is an `EcmaArray` (so that it is written as one again),
null and undefined are None. Every length is compared with the bytes that are there before anything is made of
it, so an announced size costs nothing; depth and the number of values are bounded.

AMF 0 specification (2007) clause 2, AMF 3 specification (2013) clause 3.
"""

import struct
from typing import NamedTuple, TypeAlias

from oxidecast.media.errors import LocalProtocolError, RemoteProtocolError

MAX_DEPTH = 32
"""Objects inside objects. Metadata nests two or three deep; 70,000 levels have brought servers down."""
MAX_VALUES = 10_000
"""Values in one message, all levels counted. The largest real metadata (a keyframe index of hours) has a few
thousand."""
MAX_STRING = 256 * 1024
"""Bytes of one string. XMP packets in metadata reach tens of kilobytes."""


class Date(NamedTuple):
    """AMF0 2.13: milliseconds since the Unix epoch; the time zone is reserved and should be 0."""

    milliseconds: float
    zone: int = 0


class EcmaArray(dict[str, "Value"]):
    """AMF0 2.10: an associative array, which FLV wants for onMetaData."""


Value: TypeAlias = "bool | float | str | bytes | Date | list[Value] | dict[str, Value] | None"

_DOUBLE = struct.Struct(">d")
_DATE = struct.Struct(">dh")


def decode_all(data: bytes) -> list[Value]:
    """Every value of a message body, in order. Raises RemoteProtocolError."""
    reader = _Reader(data)
    values = []
    while reader.offset < len(data):
        values.append(reader.value(0))
    return values


def encode(*values: object) -> bytes:
    """The values as AMF0, one after the other. Raises LocalProtocolError for what AMF0 cannot say."""
    out = bytearray()
    for value in values:
        _write(out, value, 0)
    return bytes(out)


class _Reader:
    """A place in the data, the values still allowed, and AMF3's tables of what may be referred to."""

    __slots__ = ("_budget", "_data", "_strings", "_traits", "offset")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.offset = 0
        self._budget = MAX_VALUES
        self._strings: list[str] = []
        self._traits: list[tuple[list[str], bool]] = []

    def take(self, count: int, field: str) -> bytes:
        end = self.offset + count
        if end > len(self._data):
            raise RemoteProtocolError(f"AMF {field} runs past the end of the message")
        taken = self._data[self.offset : end]
        self.offset = end
        return taken

    def uint(self, size: int, field: str) -> int:
        return int.from_bytes(self.take(size, field), "big")

    def text(self, length: int, field: str) -> str:
        if length > MAX_STRING:
            raise RemoteProtocolError(f"AMF {field} announces {length} bytes, over the limit of {MAX_STRING}")
        return self.take(length, field).decode("utf-8", "replace")

    def enter(self, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise RemoteProtocolError(f"AMF values nest deeper than {MAX_DEPTH} levels")
        self._budget -= 1
        if self._budget < 0:
            raise RemoteProtocolError(f"AMF message holds more than {MAX_VALUES} values")

    def count(self, announced: int, field: str) -> int:
        """An array's length; each element takes at least one byte, so a larger one is a lie."""
        if announced > len(self._data) - self.offset:
            raise RemoteProtocolError(f"AMF {field} announces more elements than the message has bytes")
        return announced

    # AMF0

    def value(self, depth: int) -> Value:
        self.enter(depth)
        marker = self.uint(1, "marker")
        match marker:
            case 0x00:
                number: float = _DOUBLE.unpack(self.take(8, "number"))[0]
                return number
            case 0x01:
                return self.uint(1, "boolean") != 0
            case 0x02:
                return self.text(self.uint(2, "string length"), "string")
            case 0x03:
                return self._properties({}, depth)
            case 0x05 | 0x06 | 0x0D:  # null, undefined, unsupported
                return None
            case 0x08:
                self.take(4, "ECMA array count")  # advisory: the end marker rules
                return self._properties(EcmaArray(), depth)
            case 0x0A:
                count = self.count(self.uint(4, "strict array count"), "strict array")
                return [self.value(depth + 1) for _ in range(count)]
            case 0x0B:
                return Date(*_DATE.unpack(self.take(10, "date")))
            case 0x0C | 0x0F:  # long string, XML document
                return self.text(self.uint(4, "long string length"), "long string")
            case 0x10:
                self.text(self.uint(2, "class name length"), "class name")
                return self._properties({}, depth)
            case 0x11:
                return self.value3(depth)
            case 0x07:
                raise RemoteProtocolError("AMF0 reference is not accepted")
            case _:
                raise RemoteProtocolError(f"AMF0 marker 0x{marker:02x} is unknown")

    def _properties(self, into: dict[str, Value], depth: int) -> dict[str, Value]:
        while True:
            key = self.text(self.uint(2, "property name length"), "property name")
            if not key and self._data[self.offset : self.offset + 1] == b"\x09":
                self.offset += 1
                return into
            into[key] = self.value(depth + 1)

    # AMF3

    def u29(self, field: str) -> int:
        value = 0
        for _ in range(3):
            byte = self.uint(1, field)
            value = value << 7 | byte & 0x7F
            if byte < 0x80:
                return value
        return value << 8 | self.uint(1, field)

    def value3(self, depth: int) -> Value:
        self.enter(depth)
        marker = self.uint(1, "AMF3 marker")
        match marker:
            case 0x00 | 0x01:  # undefined, null
                return None
            case 0x02 | 0x03:
                return marker == 0x03
            case 0x04:
                integer = self.u29("AMF3 integer")
                return float(integer - (1 << 29) if integer >= 1 << 28 else integer)
            case 0x05:
                number: float = _DOUBLE.unpack(self.take(8, "AMF3 double"))[0]
                return number
            case 0x06:
                return self._string3("AMF3 string")
            case 0x07 | 0x0B:  # XML document, XML
                return self.text(self._inline3("AMF3 XML"), "AMF3 XML")
            case 0x08:
                self._inline3("AMF3 date")
                return Date(_DOUBLE.unpack(self.take(8, "AMF3 date"))[0])
            case 0x09:
                return self._array3(depth)
            case 0x0A:
                return self._object3(depth)
            case 0x0C:
                return self.take(self._inline3("AMF3 byte array"), "AMF3 byte array")
            case _:
                raise RemoteProtocolError(f"AMF3 marker 0x{marker:02x} is not accepted")

    def _inline3(self, field: str) -> int:
        """The length of a value that is here. One that is elsewhere (a reference) would let objects share or
        hold themselves, which no command needs."""
        head = self.u29(f"{field} length")
        if not head & 1:
            raise RemoteProtocolError(f"{field} is a reference, which is not accepted")
        return head >> 1

    def _string3(self, field: str) -> str:
        head = self.u29(f"{field} length")
        if head & 1:
            text = self.text(head >> 1, field)
            if text:
                self._strings.append(text)
            return text
        if head >> 1 >= len(self._strings):
            raise RemoteProtocolError(f"{field} refers to a string that was not sent")
        return self._strings[head >> 1]

    def _array3(self, depth: int) -> Value:
        count = self.count(self._inline3("AMF3 array"), "AMF3 array")
        named = EcmaArray()
        while key := self._string3("AMF3 array key"):
            named[key] = self.value3(depth + 1)
        dense = [self.value3(depth + 1) for _ in range(count)]
        if not named:
            return dense
        named.update((str(index), value) for index, value in enumerate(dense))
        return named

    def _object3(self, depth: int) -> Value:
        head = self._inline3("AMF3 object")
        if head & 1:  # the traits are here
            if head & 2:
                raise RemoteProtocolError("AMF3 externalizable object is not accepted")
            dynamic, sealed = bool(head & 4), self.count(head >> 3, "AMF3 traits")
            self._string3("AMF3 class name")
            names = []
            for _ in range(sealed):
                self.enter(depth)
                names.append(self._string3("AMF3 property name"))
            self._traits.append((names, dynamic))
        elif head >> 1 < len(self._traits):
            names, dynamic = self._traits[head >> 1]
        else:
            raise RemoteProtocolError("AMF3 object refers to traits that were not sent")
        made: dict[str, Value] = {name: self.value3(depth + 1) for name in names}
        while dynamic and (key := self._string3("AMF3 property name")):
            made[key] = self.value3(depth + 1)
        return made


def _write(out: bytearray, value: object, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise LocalProtocolError(f"AMF values nest deeper than {MAX_DEPTH} levels")
    match value:
        case None:
            out.append(0x05)
        case bool():
            out += b"\x01\x01" if value else b"\x01\x00"
        case int() | float():
            out.append(0x00)
            out += _DOUBLE.pack(value)
        case str():
            text = value.encode()
            if len(text) <= 0xFFFF:
                out.append(0x02)
                out += len(text).to_bytes(2, "big")
            else:
                out.append(0x0C)
                out += len(text).to_bytes(4, "big")
            out += text
        case Date():
            out.append(0x0B)
            out += _DATE.pack(*value)
        case dict():
            if isinstance(value, EcmaArray):
                out.append(0x08)
                out += len(value).to_bytes(4, "big")
            else:
                out.append(0x03)
            for key, element in value.items():
                name = key.encode()
                if len(name) > 0xFFFF:
                    raise LocalProtocolError("AMF0 property name is longer than 65,535 bytes")
                out += len(name).to_bytes(2, "big")
                out += name
                _write(out, element, depth + 1)
            out += b"\x00\x00\x09"
        case list() | tuple():
            out.append(0x0A)
            out += len(value).to_bytes(4, "big")
            for element in value:
                _write(out, element, depth + 1)
        case _:
            raise LocalProtocolError(f"AMF0 has no way to write a {type(value).__name__}")
