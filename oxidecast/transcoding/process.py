"""What the server gives a child process of the transcoder, and sees of it."""

import os
import re
import resource
from pathlib import Path

ENVIRONMENT = re.compile(
    r"PATH|PYTHON(PATH|HOME)|VIRTUAL_ENV|LANG|LC_\w+|TZ|(LD|DYLD|CUDA|NVIDIA|LIBVA|INTEL|ONEVPL)_\w+"
)
"""What a child gets of the server's environment, which may hold secrets: what programs and drivers are found by."""


def resident(pid: int) -> int | None:
    """Bytes of memory that a process holds, where the system tells."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * resource.getpagesize()


def environment() -> dict[str, str]:
    """The child's."""
    return {name: value for name, value in os.environ.items() if ENVIRONMENT.fullmatch(name)}
