"""What of a representation is sent: conditions and ranges of RFC 9110, clauses 13 and 14, on shared bytes.

A range is a slice of the same memory: nothing is copied. More than one range in a request is answered with
the whole representation, as clause 14.2 allows: no media player asks for it, and it is a known way to make
servers work.
"""

import re
from datetime import UTC
from email.utils import parsedate_to_datetime

from oxidecast.delivery.hot import HotAnswer

CONDITIONAL = frozenset({b"if-none-match", b"if-modified-since", b"range"})
"""Fields for which an answer is more than itself."""

_RANGE = re.compile(rb"\s*(\d{0,18})\s*-\s*(\d{0,18})\s*")
"""One byte range; 18 digits are more than any length, and keep the numbers small."""

_PREFLIGHT = (
    b"HTTP/1.1 204 No Content\r\n"
    b"Access-Control-Allow-Origin: *\r\n"
    b"Access-Control-Allow-Methods: GET, HEAD, OPTIONS\r\n"
    b"%bAccess-Control-Max-Age: 86400\r\n"
    b"Vary: Access-Control-Request-Headers\r\n"
)
_FIELD_NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+(?:[ \t]*,[ \t]*[A-Za-z0-9!#$%&'*+.^_`|~-]+)*")


def preflight_head(fields: dict[bytes, bytes]) -> bytes:
    """The answer to a CORS preflight (Fetch, 4.8) for what any origin may read."""
    names = fields.get(b"access-control-request-headers", b"")
    allowed = b"Access-Control-Allow-Headers: %b\r\n" % names if _FIELD_NAMES.fullmatch(names) else b""
    return _PREFLIGHT % allowed


def represent(
    fields: dict[bytes, bytes], answer: HotAnswer, ranges: bool
) -> tuple[int, bytes, bytes | memoryview]:
    """Status, head and body of a 200 answer for the request's condition and, where `ranges` says so, its
    range."""
    condition = fields.get(b"if-none-match")
    if condition is not None and answer.etag is not None and matches(condition, answer.etag):
        return 304, answer.not_modified_head, b""
    since = fields.get(b"if-modified-since") if condition is None else None
    if since is not None and answer.modified is not None and is_older(answer.modified, since):
        return 304, answer.not_modified_head, b""
    asked = fields.get(b"range")
    if asked is None or not ranges or not is_same(fields.get(b"if-range"), answer.etag):
        return 200, answer.head, answer.body
    length = len(answer.body)
    span = parse_range(asked, length)
    if span is None:
        return 200, answer.head, answer.body
    first, end = span
    if first >= end:
        return 416, answer.partial_head(416, b"Content-Range: bytes */%d\r\n" % length, 0), b""
    where = b"Content-Range: bytes %d-%d/%d\r\n" % (first, end - 1, length)
    return 206, answer.partial_head(206, where, end - first), memoryview(answer.body)[first:end]


def parse_range(value: bytes, length: int) -> tuple[int, int] | None:
    """`(first, end)` of one byte range; None when the field is to be ignored; empty when it cannot be
    satisfied."""
    unit, _, spec = value.partition(b"=")
    if unit.strip().lower() != b"bytes":
        return None
    match = _RANGE.fullmatch(spec)
    if match is None:
        return None
    first, last = match.groups()
    if first:
        start = int(first)
        if last and int(last) < start:
            return None
        return start, min(int(last) + 1, length) if last else length
    if not last:
        return None
    return max(0, length - int(last)), length


def matches(condition: bytes, etag: bytes) -> bool:
    """If-None-Match compares weakly (13.1.2): a proxy that compressed the bytes may have added `W/`."""
    quoted = b'"%b"' % etag
    if condition in (quoted, b"*"):
        return True
    return any(tag.strip().removeprefix(b"W/") == quoted for tag in condition.split(b","))


def is_older(modified: float, since: bytes) -> bool:
    """If-Modified-Since (13.1.3): nothing has changed after that second. What is no date of HTTP is ignored."""
    try:
        moment = parsedate_to_datetime(since.decode("latin-1"))
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return int(modified) <= moment.timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return False


def is_same(condition: bytes | None, etag: bytes | None) -> bool:
    """If-Range compares strongly (13.1.5); a date never matches: those seconds are
    too coarse for it."""
    return condition is None or (etag is not None and condition == b'"%b"' % etag)
