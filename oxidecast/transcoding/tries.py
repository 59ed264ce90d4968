"""`python -m oxidecast.transcoding.tries FFMPEG`: try all built-in encoders, for `oxidecast check`.

It has a reactor of its own, which the command has not. On standard output: one JSON list a line, of a backend's name,
its device or null, whether it works, and what was found.
"""

import json
import sys
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred

from oxidecast.transcoding.backends import BY_DEVICE, Backend, Software
from oxidecast.transcoding.backends.probing import tried


async def main(reactor: Any, ffmpeg_path: str) -> None:
    kinds: tuple[type[Backend], ...] = (Software, *BY_DEVICE.values())
    for kind in kinds:
        backend = kind(reactor, ffmpeg_path)
        print(json.dumps([kind.name, kind.device, *await tried(backend)]), flush=True)  # noqa: T201


if __name__ == "__main__":
    task.react(lambda reactor: Deferred.fromCoroutine(main(reactor, sys.argv[1])))
