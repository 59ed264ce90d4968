"""One file that grows: fragments go to a thread, one after the other, and the index comes last.

The one idea: the stream hands over bytes and goes on. A disk that is slow makes the queue grow, and one that is full or
too slow ends this file, with all that was written whole still in it; nobody else notices.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from oxidecast.delivery.stored import Store
from oxidecast.formats import fmp4
from oxidecast.media import Track
from oxidecast.outputs.recording.fragmenter import Fragment
from oxidecast.outputs.recording.room import NoRoom, Room

INDEX_ROOM = 65_536
"""Bytes for the index at the start of a file: 5,400 fragments, three hours of them one by one, more in pairs."""

InThread = Callable[..., Deferred[Any]]


class Writing:
    """What a thread does to a file. Its calls come one at a time."""

    def __init__(self, store: Store, name: str, room: Room) -> None:
        self._store = store
        self._name = name
        self._room = room
        self._file: int | None = None
        self.size = 0
        """Bytes written whole."""

    def write(self, pieces: Sequence[bytes]) -> None:
        """All of it or nothing: what was written in part is cut off again. Raises OSError and NoRoom."""
        size = sum(map(len, pieces))
        self._room.require(size)
        if self._file is None:
            self._file = self._store.create(self._name)
        try:
            for piece in pieces:
                view = memoryview(piece)
                while view:
                    view = view[os.write(self._file, view) :]
        except OSError:
            os.ftruncate(self._file, self.size)
            os.lseek(self._file, self.size, os.SEEK_SET)
            raise
        self.size += size
        self._room.wrote(size)

    def finish(self, head: bytes | None) -> None:
        """Put `head` over the file's beginning, see that all of it is on the disk, and close it. A file that holds
        nothing is removed."""
        if self._file is None:
            return
        file, self._file = self._file, None
        try:
            if head is not None:
                os.pwrite(file, head, 0)
            os.fsync(file)
        finally:
            os.close(file)
        if not self.size:
            self._store.remove(self._name)


class RecordingFile:
    """One file, from its first byte to its end. `on_end(error)` is called once, when it is closed; `error` is empty
    when nothing went wrong. Raises LocalProtocolError for tracks that MP4 does not carry so."""

    log = Logger()

    def __init__(
        self,
        writing: Writing,
        tracks: tuple[Track, ...],
        lead: Track,
        in_thread: InThread,
        max_buffer: int,
        on_progress: Callable[[], None],
        on_end: Callable[[str], None],
    ) -> None:
        self._writing = writing
        self._tracks = tracks
        self._lead = lead
        self._in_thread = in_thread
        self._max_buffer = max_buffer
        self._on_progress = on_progress
        self._on_end = on_end
        self._queue: list[Fragment | bytes] = []
        self._waiting = 0
        """Bytes that are not on the disk yet."""
        self._busy = self._closing = self._over = False
        self._error = ""
        self._references: list[fmp4.Reference] = []
        self._last: tuple[int, int, bool] | None = None
        """Size, start and keyframe of the last fragment written: its length shows with the next one."""
        self.duration = 0
        """Ticks written."""
        self._add(fmp4.init_segment(tracks, 0) + self._index())

    @property
    def size(self) -> int:
        return self._writing.size

    @property
    def open(self) -> bool:
        """Whether it still takes something."""
        return not self._closing and not self._error

    def write(self, fragment: Fragment) -> None:
        if not self.open:
            return
        if self._waiting + len(fragment.data) > self._max_buffer:
            self._fail("the disk does not keep up with the stream")
            return
        self._add(fragment)

    def close(self) -> None:
        """No more comes: write what waits, then the index."""
        self._closing = True
        self._pump()

    # -- inside

    def _add(self, what: Fragment | bytes) -> None:
        self._queue.append(what)
        self._waiting += len(what if isinstance(what, bytes) else what.data)
        # The beginning of a file waits for a fragment: a stream that dies at once leaves none.
        if isinstance(what, Fragment):
            self._pump()

    def _pump(self) -> None:
        if self._busy or self._over:
            return
        batch, self._queue = self._queue, []
        fragments = [what for what in batch if isinstance(what, Fragment)]
        self._busy = True
        if fragments and not self._error:
            pieces = [what if isinstance(what, bytes) else what.data for what in batch]
            done = self._in_thread(self._writing.write, pieces)
            done.addCallbacks(self._wrote, self._not_written, (fragments, sum(map(len, pieces))))
        elif self._closing or self._error:
            done = self._in_thread(self._writing.finish, self._head())
            done.addCallbacks(self._finished, self._not_finished)
        else:
            self._busy, self._queue = False, batch
            return
        done.addErrback(lambda failure: self.log.failure("a recording's file", failure=failure))

    def _wrote(self, result: None, fragments: Sequence[Fragment], size: int) -> None:
        self._busy = False
        self._waiting -= size
        for fragment in fragments:
            self._refer(fragment.start)
            self._last = len(fragment.data), fragment.start, fragment.keyframe
            self.duration = max(self.duration, fragment.end)
        self._on_progress()
        self._pump()

    def _refer(self, end: int) -> None:
        """The last fragment's length is known: until where the next one begins."""
        if self._last is not None:
            size, start, keyframe = self._last
            self._references.append(fmp4.Reference(size, max(end - start, 0), keyframe))

    def _not_written(self, failure: Failure) -> None:
        self._busy = False
        self._fail(_sentence(failure))

    def _fail(self, sentence: str) -> None:
        self._error = self._error or sentence
        self._queue, self._waiting = [], 0
        self._pump()

    def _head(self) -> bytes | None:
        if self._last is None:
            return None
        self._refer(self.duration)
        return fmp4.init_segment(self._tracks, self.duration) + self._index()

    def _index(self) -> bytes:
        scale = fmp4.timescale(self._lead)
        return fmp4.segment_index(self._lead.id, scale, self._references, INDEX_ROOM)

    def _finished(self, result: None) -> None:
        self._busy, self._over = False, True
        self._on_end(self._error)

    def _not_finished(self, failure: Failure) -> None:
        self._error = self._error or _sentence(failure)
        self._finished(None)


def _sentence(failure: Failure) -> str:
    """What went wrong, for people; no path."""
    error = failure.value
    if isinstance(error, NoRoom):
        return str(error)
    if isinstance(error, OSError):
        return f"the file could not be written: {error.strerror or 'the disk refused it'}"
    return "the file could not be written"
