"""How deep a JSON text is nested, found out before it is decoded.

A decoder goes one level of the C stack down for each bracket, and gives up where Python's recursion limit says, which
is neither ours nor the same everywhere. So the depth is looked at first: cheaply, because a body is small and most have
too few brackets to be deep.
"""

import re

DEEPEST = 32
"""Levels of arrays and objects in a body. None of the API's types has more than three."""

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")


def too_deep(text: bytes) -> bool:
    """Whether more than `DEEPEST` brackets are open anywhere. The text need not be valid JSON."""
    if text.count(b"[") + text.count(b"{") <= DEEPEST:
        return False
    depth = 0
    for byte in _STRING.sub(b"", text).translate(None, _NO_BRACKETS):
        if byte in b"[{":
            depth += 1
            if depth > DEEPEST:
                return True
        else:
            depth -= 1
    return False
