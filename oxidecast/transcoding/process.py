"""What the server gives a child process of the transcoder, and sees of it."""

import os
import re
import resource
from pathlib import Path

ENVIRONMENT = re.compile(
    r"PATH|PYTHON(PATH|HOME)|VIRTUAL_ENV|LANG|LC_\w+|TZ|(LD|DYLD|CUDA|NVIDIA|LIBVA|INTEL|ONEVPL)_\w+"
)
"""What a child gets of the server's environment, which may hold secrets: what programs and drivers are found by."""

_WAITS = ("S", "T", "t")
"""Sleeping, stopped, and stopped by a debugger."""


def resident(pid: int) -> int | None:
    """Bytes of memory that a process holds, where the system tells."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * resource.getpagesize()


def asleep(pid: int) -> int | None:
    """Ticks of CPU time that a process has used, while it waits for something that is no disk, or is stopped. None
    while it runs, wants to run, or reads from a disk, and where the system does not tell (proc(5), /proc/pid/stat)."""
    try:
        # The name before, in parentheses, may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12]) if fields[0] in _WAITS else None
    except (OSError, ValueError, IndexError):
        return None


def environment() -> dict[str, str]:
    """The child's."""
    return {name: value for name, value in os.environ.items() if ENVIRONMENT.fullmatch(name)}
