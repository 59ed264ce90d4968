"""What a server that died left behind: files without an index, rows that say `writing`, files without a row.

The one idea: a file tells all that its row does. Its name holds the stream's id, the start and the recording's id; its
fragments hold its length. So it is finished as it would have been, and its row says what the file says. A file that
somebody still writes is locked, and left alone: another server may share the directory.
"""

import os
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from oxidecast.database.recordings import MOST_NAMED, Recording, Recordings
from oxidecast.delivery.stored import InUse, Store
from oxidecast.formats import fmp4
from oxidecast.formats.fmp4.reading import Movie, read_fragment, read_movie
from oxidecast.media import TICKS, RemoteProtocolError
from oxidecast.outputs.recording.settings import LONGEST
from oxidecast.streams.info import StreamInfo

LARGEST_HEAD = 1_048_576
"""Bytes of a `moov` or `moof` that are read: ours have a few KiB."""

NEVER_CAME = timedelta(seconds=LONGEST + 3600)
"""Age at which a row without a file is given up: before that, the file may grow in another server's directory."""

YOUNG = 60.0
"""Seconds for which an empty file is left alone: somebody may be about to lock it."""

_NAME = re.compile(
    r"([0-9a-f-]{36})/.*-([0-9]{8}T[0-9]{6}Z)-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.mp4"
)
_START = "%Y%m%dT%H%M%SZ"


def name_of(stream: StreamInfo, stream_name: str, started_at: datetime, recording_id: str) -> str:
    """The name of a recording's file: of the stream's public name, never of its key."""
    plain = re.sub(r"[^a-z0-9-]", "-", stream_name.lower())[:64] or "stream"
    folder = re.sub(r"[^A-Za-z0-9-]", "-", stream.id)[:64] or "stream"
    return f"{folder}/{plain}-{started_at.astimezone(UTC):{_START}}-{recording_id}.mp4"


class Named(NamedTuple):
    """What a file's name says."""

    stream_id: str
    started_at: datetime
    id: str


def read_name(name: str) -> Named | None:
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    try:
        return Named(match[1], datetime.strptime(match[2], _START).replace(tzinfo=UTC), match[3])
    except ValueError:
        return None


class Found(NamedTuple):
    """What is in a file."""

    size: int
    duration: float
    finished: bool
    """Whether its index was there already."""


def finish_file(store: Store, name: str, room: int) -> Found | None:
    """Finish a file that nobody writes: cut off what is not whole at its end, write its index and its length. A file
    without any fragment is removed, and None. Raises InUse and OSError."""
    file = store.reopen(name)
    try:
        status = os.fstat(file)
        found = _finish(file, status.st_size, room)
        if found is None and datetime.now(UTC).timestamp() - status.st_mtime < YOUNG and not status.st_size:
            raise InUse
    finally:
        os.close(file)
    if found is None:
        store.remove(name)
    return found


def _finish(file: int, size: int, room: int) -> Found | None:
    movie: Movie | None = None
    movie_at = index_at = at = 0
    references: list[fmp4.Reference] = []
    last: tuple[int, int, bool] | None = None
    whole = end = begins = 0
    moof: tuple[int, int, bool] | None = None
    while (header := os.pread(file, 16, at)) and len(header) >= 8:
        length, kind = int.from_bytes(header[:4], "big"), header[4:8]
        if length < 8 or at + length > size:
            break
        try:
            if kind == b"moov":
                movie, movie_at, index_at = read_movie(_body(file, at, length)), at + 8, at + length
            elif kind == b"moof" and movie is not None:
                runs = read_fragment(_body(file, at, length), movie.scales)
                lead = runs.get(movie.lead)
                start = lead.start if lead is not None else min(run.start for run in runs.values())
                moof = start, max(run.end for run in runs.values()), lead is not None and lead.keyframe
                begins = at
            elif kind == b"mdat" and moof is not None:
                if last is not None:
                    references.append(fmp4.Reference(last[0], max(moof[0] - last[1], 0), last[2]))
                whole = at + length
                last, end, moof = (whole - begins, moof[0], moof[2]), max(end, moof[1]), None
        except RemoteProtocolError:
            break
        at += length
    if last is None or movie is None:
        return None
    references.append(fmp4.Reference(last[0], max(end - last[1], 0), last[2]))
    os.ftruncate(file, whole)
    if movie.duration_at is not None:
        os.pwrite(file, end.to_bytes(8, "big"), movie_at + movie.duration_at)
    there = os.pread(file, 4, index_at + 4)
    if index_at + room <= whole and there in (b"free", b"sidx"):
        os.pwrite(file, fmp4.segment_index(movie.lead, movie.scales[movie.lead], references, room), index_at)
    os.fsync(file)
    return Found(whole, end / TICKS, there == b"sidx")


def _body(file: int, at: int, length: int) -> bytes:
    if length > LARGEST_HEAD:
        raise RemoteProtocolError("a head is too long")
    return os.pread(file, length - 8, at + 8)


class Repair:
    """Looks once through all files and rows."""

    log = Logger()

    def __init__(
        self,
        store: Store,
        recordings: Recordings,
        in_thread: Callable[..., Deferred[Any]],
        room: int,
        now: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._recordings = recordings
        self._in_thread = in_thread
        self._room = room
        self._now = now

    async def run(self) -> int:
        """The number of recordings that were repaired. Raises DatabaseError."""
        repaired = 0
        names = await self._in_thread(lambda: list(self._store.names()))
        for index in range(0, len(names), MOST_NAMED):
            repaired += await self._files(names[index : index + MOST_NAMED])
        there = set(names)
        for one in await self._recordings.unfinished():
            if one.path not in there and self._now() - one.started_at > NEVER_CAME:
                error = "its file was never found"
                await self._recordings.update(msgspec.structs.replace(one, state="failed", error=error))
                repaired += 1
        if repaired:
            self.log.info("{repaired} recordings that were left behind are in order", repaired=repaired)
        return repaired

    async def _files(self, names: Iterable[str]) -> int:
        repaired = 0
        named = {read.id: (name, read) for name in names if (read := read_name(name)) is not None}
        rows = await self._recordings.known(list(named))
        for recording_id, (name, read) in named.items():
            row = rows.get(recording_id)
            if row is None or row.state == "writing":
                repaired += await self._file(name, read, row)
        return repaired

    async def _file(self, name: str, read: Named, row: Recording | None) -> bool:
        try:
            found = await self._in_thread(finish_file, self._store, name, self._room)
        except InUse:
            return False
        except OSError as error:
            self.log.warn("a recording cannot be put in order: {error}", error=error.strerror)
            return False
        if row is None:
            if found is None:
                return False
            owner = await self._recordings.owner_of(read.stream_id)
            row = Recording(
                id=read.id,
                stream_id=read.stream_id,
                owner_id=owner[0] if owner else None,
                title=owner[1] if owner else "A recording",
                path=name,
                state="writing",
                started_at=read.started_at,
            )
            await self._recordings.add(row)
        if found is None:
            over = msgspec.structs.replace(
                row, state="failed", error="nothing was written", size=0, duration=0.0
            )
        else:
            over = msgspec.structs.replace(
                row,
                state="complete",
                error="" if found.finished else "the server ended before the recording did",
                size=found.size,
                duration=found.duration,
                ended_at=row.started_at + timedelta(seconds=found.duration),
            )
        await self._recordings.update(over)
        return True
