"""What the child process gives up before it decodes a byte: the network, writing files, and outliving the server.

The decoders are C and eat what strangers send. Linux takes these rights from a process for good, by three means that
need no library: a network namespace with nothing in it (also for ordinary users, by a user namespace), Landlock
(Linux 5.13) without a single allowed write, and a file size limit of 0. Where the kernel refuses one, the child goes on
without it and says so; hardware encoders write to device files, so they keep what they need.
"""

import ctypes
import os
import resource
import signal
import struct
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
# The numbers are the same on every architecture that got them after 2019 (asm-generic/unistd.h).
_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_RESTRICT_SELF = 446

# linux/landlock.h: WRITE_FILE, REMOVE_DIR to MAKE_SYM (bits 4 to 12); by ABI 2 REFER, by ABI 3 TRUNCATE.
_WRITES = 0b1_1111_1111_0010
_REFER, _TRUNCATE = 1 << 13, 1 << 14


def die_with_parent(parent: int) -> None:
    """Be killed when the server's process (its id) dies, however it dies. Ends at once when it is gone already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def confine(devices: bool = False) -> tuple[str, ...]:
    """Give up what can be given up; which of `network` and `files` it was. `devices` are wanted by hardware encoders.

    To be called while there is a single thread, and no file left to write.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "linux":
        return ()
    done = []
    if _no_network():
        done.append("network")
    if not devices and _no_writes():
        done.append("files")
    return tuple(done)


def _no_network() -> bool:
    libc = ctypes.CDLL(None)
    return any(libc.unshare(flags) == 0 for flags in (_CLONE_NEWNET, _CLONE_NEWUSER | _CLONE_NEWNET))


def _no_writes() -> bool:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    # Without this, writing beyond the limit would be a signal instead of an error.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return False
    handled = _WRITES | (_REFER if version >= 2 else 0) | (_TRUNCATE if version >= 3 else 0)
    attributes = struct.pack("=Q", handled)
    rules = libc.syscall(_LANDLOCK_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    if rules < 0:
        return False
    try:
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        return bool(libc.syscall(_LANDLOCK_RESTRICT_SELF, rules, 0) == 0)
    finally:
        os.close(rules)
