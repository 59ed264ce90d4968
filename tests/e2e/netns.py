"""Two hosts on one machine: network namespaces that a veth pair connects, for multicast as between machines.

    with Network() as network:
        with network.sender.entered():
            sock = socket.socket(...)          # lives on the sender, wherever it is used
        Program([*network.receiver.command, "ffprobe", ...], log)

Needs root and iproute2. Names hold the process's id, so that tests run side by side; whatever a killed run has left
behind is removed by the next one.
"""

import ctypes
import itertools
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.programs import until

SENDER_4, RECEIVER_4 = "10.77.0.1", "10.77.0.2"
SENDER_6, RECEIVER_6 = "fd77::1", "fd77::2"
LINK = "wire"
"""The interface on either host."""

_CLONE_NEWNET = 0x40000000
_RUN = Path("/run/netns")
_OWN = "/proc/thread-self/ns/net"
_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count()


def ip(*arguments: str) -> None:
    """Run `ip`; what it complains of is the failure's text."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


class Host:
    """One namespace, with its loopback up."""

    def __init__(self, label: str) -> None:
        _remove_orphans()
        self.name = f"oxidecast-{os.getpid()}-{next(_numbers)}-{label}"
        ip("netns", "add", self.name)
        try:
            self.ip("link", "set", "lo", "up")
            self.ip("route", "add", "239.0.0.0/8", "dev", "lo")
            with self.entered():
                # An address is of use at once, instead of after a second of looking for duplicates.
                Path("/proc/sys/net/ipv6/conf/default/accept_dad").write_text("0")
        except BaseException:
            self.remove()
            raise

    def ip(self, *arguments: str) -> None:
        ip("-n", self.name, *arguments)

    @property
    def link_state(self) -> str:
        """`UP` once the wire can carry something."""
        done = subprocess.run(
            ["ip", "-n", self.name, "-brief", "link", "show", "dev", LINK],
            capture_output=True,
            text=True,
            check=False,
        )
        return (done.stdout.split() + ["", ""])[1]

    @property
    def command(self) -> Sequence[str]:
        """What goes before a program and its arguments to run it on this host."""
        return ("ip", "netns", "exec", self.name)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """This thread is on the host: sockets made meanwhile, and children started, belong there for good."""
        home = os.open(_OWN, os.O_RDONLY)
        try:
            _enter(_RUN / self.name)
            try:
                yield
            finally:
                _set(home)
        finally:
            os.close(home)

    def remove(self) -> None:
        ip("netns", "del", self.name)

    def __enter__(self) -> "Host":
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()


class Network:
    """Two hosts, `sender` and `receiver`, with a wire between, addresses, and multicast routes over it."""

    def __init__(self) -> None:
        self.sender = Host("a")
        try:
            self.receiver = Host("b")
        except BaseException:
            self.sender.remove()
            raise
        try:
            self.connect()
        except BaseException:
            self.remove()
            raise

    def connect(self) -> None:
        """Lay the wire, which `cut` removed or which was never there."""
        a, b = self.sender, self.receiver
        ip("link", "add", LINK, "netns", a.name, "type", "veth", "peer", "name", LINK, "netns", b.name)
        for host, address_4, address_6 in ((a, SENDER_4, SENDER_6), (b, RECEIVER_4, RECEIVER_6)):
            host.ip("address", "add", f"{address_4}/24", "dev", LINK)
            host.ip("address", "add", f"{address_6}/64", "dev", LINK, "nodad")
            host.ip("link", "set", LINK, "up")
            host.ip("route", "replace", "239.0.0.0/8", "dev", LINK)
            host.ip("route", "add", "232.0.0.0/8", "dev", LINK)
        # The kernel tells its queues of a carrier in its own time; until then what is sent is dropped.
        for host in (a, b):
            until(lambda host=host: host.link_state == "UP", 5, "the wire has a carrier")

    def cut(self) -> None:
        """Take the wire away, interfaces and all."""
        self.sender.ip("link", "del", LINK)

    def remove(self) -> None:
        for host in (self.sender, self.receiver):
            host.remove()

    def __enter__(self) -> "Network":
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()


def _enter(namespace: Path) -> None:
    descriptor = os.open(namespace, os.O_RDONLY)
    try:
        _set(descriptor)
    finally:
        os.close(descriptor)


def _set(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def _remove_orphans(alive: Callable[[str], bool] = lambda pid: Path("/proc", pid).exists()) -> None:
    if not _RUN.exists():
        return
    for name in sorted(path.name for path in _RUN.iterdir()):
        own = re.fullmatch(r"oxidecast-(\d+)-\d+-[ab]", name)
        if own and not alive(own[1]):
            # Another run may be quicker.
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
