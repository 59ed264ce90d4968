"""A file, or a range of it, as the body of a cold answer: read in threads, as fast as the client takes it.

Conditions and ranges follow RFC 9110, clauses 13 and 14, as in `conditional`: one range, or the whole.
"""
# twisted.web carries few annotations.
# mypy: allow-untyped-calls

import os
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPullProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from oxidecast.delivery.conditional import is_same, matches, parse_range

PIECE = 262_144
"""Bytes read at once: long enough that a disk is not asked too often, and all that a slow client makes us hold."""

EXPOSED = "Accept-Ranges, Content-Disposition, Content-Length, Content-Range, ETag, Retry-After"
"""Fields that a page of another origin may read, where the origin is allowed."""

InThread = Callable[..., Deferred[Any]]
"""Calls a function with arguments in a thread."""


class Unsatisfiable(Exception):
    """The range begins behind the end (RFC 9110, 15.5.17); `length` is the file's."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length


def send_file(request: Any, file: int, length: int, etag: str, in_thread: InThread) -> None:
    """Answer `request` from an open file, which is closed when that is done; fields that are set already stay.

    Raises Unsatisfiable, before anything is sent; the file is then left open.
    """
    tag = etag.encode()
    request.setHeader("ETag", f'"{etag}"')
    request.setHeader("Accept-Ranges", "bytes")
    start, end = 0, length
    condition, asked = request.getHeader(b"if-none-match"), request.getHeader(b"range")
    if condition is not None and matches(condition, tag):
        request.setResponseCode(304)
        request.finish()
        os.close(file)
        return
    if asked is not None and request.method == b"GET" and is_same(request.getHeader(b"if-range"), tag):
        span = parse_range(asked, length)
        if span is not None:
            start, end = span
            if start >= end:
                raise Unsatisfiable(length)
            request.setResponseCode(206)
            request.setHeader("Content-Range", f"bytes {start}-{end - 1}/{length}")
    request.setHeader("Content-Length", str(end - start))
    if request.method == b"HEAD" or start == end:
        request.finish()
        os.close(file)
        return
    request.registerProducer(_Reader(request, file, start, end, in_thread), False)


@implementer(IPullProducer)
class _Reader:
    """Reads a piece when the last one has left."""

    def __init__(self, request: Any, file: int, start: int, end: int, in_thread: InThread) -> None:
        self._request = request
        self._file = file
        self._at = start
        self._end = end
        self._in_thread = in_thread
        self._reading = self._over = False

    def resumeProducing(self) -> None:
        if self._reading or self._over:
            return
        self._reading = True
        piece = self._in_thread(os.pread, self._file, min(PIECE, self._end - self._at), self._at)
        piece.addCallbacks(self._read, self._failed)

    def stopProducing(self) -> None:
        self._over = True
        if not self._reading:
            self._close()

    def _read(self, data: bytes) -> None:
        self._reading = False
        if self._over:
            self._close()
            return
        if not data:
            self._give_up()  # The file is shorter than it was.
            return
        self._at += len(data)
        if self._at < self._end:
            self._request.write(data)
            return
        self._over = True
        self._close()
        self._request.write(data)
        self._request.unregisterProducer()
        self._request.finish()

    def _failed(self, failure: Failure) -> None:
        self._reading = False
        if self._over:
            self._close()
        else:
            self._give_up()

    def _give_up(self) -> None:
        """What was promised cannot be sent: only the end of the connection says so."""
        self._over = True
        self._close()
        self._request.unregisterProducer()
        self._request.channel.abortConnection()

    def _close(self) -> None:
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)
