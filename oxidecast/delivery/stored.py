"""Files below one directory, by relative names: made, found again, locked by who writes, removed.

The one idea: who writes a file holds a lock on it (`flock`), which ends with the process whatever happens to it. So
whoever finds a file knows whether somebody still writes it, also when servers share a directory.

Every call reads or writes the disk, and belongs into a thread.
"""

import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path

_NAME = re.compile(r"[A-Za-z0-9-]{1,100}/[A-Za-z0-9-]{1,200}\.mp4", re.ASCII)
"""A folder and a file: no dot, slash or space that was not put there by us."""


class InUse(Exception):
    """Somebody writes this file."""


class Store:
    """The directory, which is made when the first file is."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, name: str) -> Path:
        """Raises ValueError for what names no file here."""
        if not _NAME.fullmatch(name):
            raise ValueError("not the name of a stored file")
        return self.directory / name

    def create(self, name: str) -> int:
        """A new empty file, open for writing and locked. Raises OSError."""
        path = self.path(name)
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX)  # Who looks after lost files may hold it for a moment.
        return file

    def reopen(self, name: str) -> int:
        """A file that nobody writes any more, open for writing and locked. Raises InUse, and OSError."""
        file = os.open(self.path(name), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(file)
            if isinstance(error, BlockingIOError):
                raise InUse from None
            raise
        return file

    def open(self, name: str) -> tuple[int, int]:
        """A file for reading, and its size now. Raises OSError."""
        file = os.open(self.path(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        return file, os.fstat(file).st_size

    def remove(self, name: str) -> None:
        """Remove a file; one that is not there is as good as removed. Raises InUse, and OSError."""
        try:
            file = self.reopen(name)
        except FileNotFoundError:
            return
        try:
            self.path(name).unlink(missing_ok=True)
        finally:
            os.close(file)
        try:
            self.path(name).parent.rmdir()
        except OSError:
            pass  # There are others in it.

    def names(self) -> Iterator[str]:
        """All files whose names are of our kind. Raises OSError."""
        for folder, _, files in os.walk(self.directory):
            for file in files:
                name = f"{Path(folder).name}/{file}"
                if _NAME.fullmatch(name) and Path(folder).parent == self.directory:
                    yield name

    def size(self) -> int:
        """Bytes of all files."""
        total = 0
        for folder, _, files in os.walk(self.directory):
            for file in files:
                try:
                    total += os.lstat(os.path.join(folder, file)).st_size
                except OSError:
                    continue  # It was removed just now.
        return total

    def free(self) -> int:
        """Bytes that may still be written to its disk. Raises OSError."""
        nearest = next(place for place in (self.directory, *self.directory.parents) if place.exists())
        disk = os.statvfs(nearest)
        return disk.f_bavail * disk.f_frsize
