"""Text from outside as part of one line: titles in playlists and session descriptions.

Neither format has escapes, so what could end the line, or what a reader's screen would turn into something
else, becomes a space; what is left is UTF-8 for certain, and short.
"""

import re

_NOT_IN_A_LINE = re.compile(
    "[\x00-\x20\x7f-\xa0\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]+"
)
"""Controls, line and paragraph separators, overrides of the writing direction, lone surrogates, byte order marks;
and spaces, so that a run of all these is one space."""


def one_line(text: str, longest: int) -> str:
    """`text` in one line of at most `longest` bytes of UTF-8, cut between characters; it may be empty."""
    # A character has at most four bytes, and is worth reading only where it can still fit: the cut before the
    # search keeps a title of megabytes cheap, the one after it is exact.
    line = _NOT_IN_A_LINE.sub(" ", text[: 4 * longest]).strip()
    return line.encode()[:longest].decode(errors="ignore").rstrip()
