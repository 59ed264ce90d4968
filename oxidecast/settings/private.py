"""Files that only the server's own user may read: the data directory and what is generated into it.

A private file appears whole or not at all, and is written once: of two servers that start at the same time,
one writes and both read the same content.
"""

import errno
import fcntl
import os
import pwd
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from oxidecast.settings.errors import SettingsError

MAXIMUM_PRIVATE_FILE = 65_536
"""Bytes; what is generated is below 1 KB."""

_OURS = frozenset({"oxidecast.db", "secrets.toml", "admin-password"})
_INDIFFERENT = frozenset({"lost+found"})


def open_data_directory(path: Path, *, make: bool = True) -> Path:
    """Make sure that `path` is a directory that we can write, and answer it as an absolute path.

    It is created with mode 0700. An existing one is narrowed to 0700 when it is empty or already ours, and
    left as it is when it holds other files. Without `make` neither is done: it has to be there, and stays as it
    is. Raises SettingsError with what to do.
    """
    path = path.absolute()
    try:
        if make:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir(mode=0o700, exist_ok=True)
        names = set(os.listdir(path)) - _INDIFFERENT
        status = path.stat()
        if not names or names & _OURS:
            if make and status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) & 0o077:
                path.chmod(0o700)
        elif status.st_mode & stat.S_IWOTH:
            raise SettingsError(
                f"The data directory {path} can be written by every user: give OxideCast one of its own."
            )
        probe = path / f".probe-{secrets.token_hex(8)}"
        os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        probe.unlink()
    except OSError as error:
        raise SettingsError(f"The data directory {path} cannot be used: {_reason(error, path)}.") from None
    return path


def look_at_data_directory(path: Path) -> Path:
    """Whether `open_data_directory` would do, without making anything. Answers the nearest directory that is there:
    `path` itself, or the one that it would be made in. Raises SettingsError with what to do."""
    path = path.absolute()
    try:
        nearest = next(place for place in (path, *path.parents) if place.exists())
        if nearest == path:
            return open_data_directory(path, make=False)
        if not nearest.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "")
        if not os.access(nearest, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
            raise PermissionError(errno.EACCES, "")
    except OSError as error:
        raise SettingsError(f"The data directory {path} cannot be made: {_reason(error, path)}.") from None
    return nearest


def read_private(file: Path) -> str | None:
    """The content of a private file, or None when there is none. Raises SettingsError when others could read
    it, or we cannot."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = "it is a symbolic link" if error.errno == errno.ELOOP else _reason(error, file)
        raise SettingsError(f"{file} cannot be read: {reason}.") from None
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise SettingsError(f"{file} cannot be read: it is not a file.")
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise SettingsError(f"{file} holds a secret and other users can read it: run chmod 600 on it.")
        data = stream.read(MAXIMUM_PRIVATE_FILE + 1)
    try:
        if len(data) > MAXIMUM_PRIVATE_FILE:
            raise ValueError
        return data.decode()
    except ValueError:
        raise SettingsError(f"{file} is damaged: restore it from a backup, or remove it.") from None


def write_private_once(file: Path, content: str) -> str:
    """Write `content` to `file` (mode 0600, synced) unless it exists; answers what the file then holds."""
    try:
        with _locked(file.parent) as directory:
            present = read_private(file)
            if present is not None:
                return present
            draft = file.with_name(f".{file.name}-{secrets.token_hex(8)}")
            descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            try:
                with os.fdopen(descriptor, "w") as stream:
                    stream.write(content)
                    stream.flush()
                    os.fsync(stream.fileno())
                draft.rename(file)
            except BaseException:
                draft.unlink(missing_ok=True)
                raise
            os.fsync(directory)
            return content
    except OSError as error:
        raise SettingsError(f"{file} cannot be written: {_reason(error, file.parent)}.") from None


@contextmanager
def _locked(directory: Path) -> Iterator[int]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _reason(error: OSError, path: Path) -> str:
    if error.errno in {errno.EACCES, errno.EPERM}:
        return (
            f"it belongs to {_owner(path)} and OxideCast runs as {_user(os.geteuid())}, who has no permission"
        )
    if error.errno == errno.EROFS:
        return "its file system is read-only"
    if error.errno in {errno.EEXIST, errno.ENOTDIR}:
        return "a file is in its place"
    return os.strerror(error.errno or 0).lower()


def _owner(path: Path) -> str:
    """The owner of `path`, or of the nearest directory above that can be looked at."""
    for place in (path, *path.parents):
        try:
            return _user(place.stat().st_uid)
        except OSError:
            continue
    return "another user"


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"
