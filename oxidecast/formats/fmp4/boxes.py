"""The two shapes that everything in an ISO base media file has (ISO/IEC 14496-12, 4.2)."""

import struct


def box(kind: bytes, *parts: bytes) -> bytes:
    """A box: 32-bit size, four-character type, body."""
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full_box(kind: bytes, version: int, flags: int, *parts: bytes) -> bytes:
    """A box whose body begins with a version and 24 bits of flags."""
    return box(kind, struct.pack(">I", version << 24 | flags), *parts)
