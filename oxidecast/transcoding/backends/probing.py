"""A try of an encoder in a process of its own, with a timeout: drivers hang, and crash."""

import shutil
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

MOST_SAID = 16 * 1024
"""Bytes of what a program says that are kept."""

MOST_SHOWN = 300
"""Characters of a reason: its last lines, where programs say what it came to."""


class Unavailable(Exception):
    """An encoder does not work on this machine; the text is the exact reason."""


async def tried(backend: Any) -> tuple[bool, str]:
    """Whether an `ITranscoderBackend` can be used, and what was found, or the exact reason why not."""
    try:
        return True, await backend.probe()
    except CancelledError:
        raise  # The server stops: no other is to be tried either.
    except Exception as error:
        return False, str(error) or repr(error)


class _Try(ProcessProtocol):
    def __init__(self) -> None:
        self.said = bytearray()
        self.ended: Deferred[Failure] = Deferred()
        self.gone: Deferred[None] = Deferred()
        self.late = False

    def outReceived(self, data: bytes) -> None:
        self.said += data[: MOST_SAID - len(self.said)]

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        self.ended.callback(reason.value)  # type: ignore[arg-type]
        self.gone.callback(None)

    def kill(self) -> None:
        self.late = True
        try:
            self.transport.signalProcess("KILL")  # type: ignore[union-attr]
        except ProcessExitedAlready:
            pass


async def output_of(reactor: Any, command: Sequence[str], within: float) -> str:
    """What the command says, when it ends well within so many seconds; `Unavailable` otherwise."""
    program = shutil.which(command[0])
    if program is None:
        raise Unavailable(f"there is no program {command[0]}")
    trying = _Try()
    reactor.spawnProcess(trying, program, [program, *command[1:]], env=None)
    watch = reactor.callLater(within, trying.kill)
    try:
        reason: Any = await trying.ended
    except CancelledError:
        trying.kill()
        await trying.gone
        raise
    finally:
        if watch.active():
            watch.cancel()
    said = trying.said.decode("utf-8", "replace").strip()
    if trying.late:
        raise Unavailable(f"it gave no answer within {within:g} seconds")
    if isinstance(reason, ProcessDone):
        return said
    if reason.signal is not None:
        raise Unavailable(f"the try was ended by signal {reason.signal}")
    raise Unavailable(_shortened(said) or f"the try ended with exit code {reason.exitCode}")


def _shortened(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    text = "; ".join(dict.fromkeys(lines))
    return text if len(text) <= MOST_SHOWN else "..." + text[-MOST_SHOWN:]
