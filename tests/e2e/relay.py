"""A bad network: a UDP relay that loses a part of what the server sends, by a seed, delays it, lets through no more
than so many bits a second, and can move to another port.

The machine needs no privilege for it, and a test that fails fails again.
"""

import heapq
import itertools
import random
import select
import socket
import threading
import time

QUEUE = 0.3
"""Seconds of the rate that wait for it before datagrams are dropped: what routers at home have."""


class Relay:
    """Between one browser and the server's port `target`. `port` is where the browser sends to. `delay` (seconds
    towards the browser) and `rate` (bits a second towards the browser, 0 for no limit) can be changed at any time."""

    def __init__(self, target: int, loss: float = 0.0, seed: int = 6, delay: float = 0.0) -> None:
        self.loss = loss
        self.delay = delay
        self.rate = 0
        self.lost = 0
        """Datagrams of media, by `loss`."""
        self.dropped = 0
        """Datagrams that the rate's queue had no room for."""
        self.passed = 0
        """Bytes towards the browser."""
        self._target = ("127.0.0.1", target)
        self._noise = random.Random(seed)
        self._near = _bound()
        self._far = _bound()
        self._browser: tuple[str, int] | None = None
        self._free_at = 0.0
        self._due: list[tuple[float, int, bytes, bool]] = []
        """When, in which order, what, and whether it is for the browser."""
        self._order = itertools.count()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._near.getsockname()[1])

    def move(self) -> None:
        """What comes from the browser leaves by another port from now on, as when a NAT forgets."""
        old, self._far = self._far, _bound()
        old.close()

    def stop(self) -> None:
        self._stopped = True
        self._thread.join(5)
        self._near.close()
        self._far.close()

    def _run(self) -> None:
        while not self._stopped:
            far = self._far
            try:
                wait = min(0.05, max(0.0, self._due[0][0] - time.monotonic())) if self._due else 0.05
                ready, _, _ = select.select([self._near, far], [], [], wait)
                for one in ready:
                    self._take(one, far)
                self._send_due(far)
            except (OSError, ValueError):
                continue  # It moved just now.

    def _take(self, one: socket.socket, far: socket.socket) -> None:
        datagram, source = one.recvfrom(2048)
        now = time.monotonic()
        if one is self._near:
            self._browser = source
            heapq.heappush(self._due, (now, next(self._order), datagram, False))
            return
        # Media only: a lost handshake is another test's matter.
        if datagram[0] >= 128 and self._noise.random() < self.loss:
            self.lost += 1
            return
        if self.rate:
            begins = max(now, self._free_at)
            if begins - now > QUEUE:
                self.dropped += 1
                return
            now = self._free_at = begins + len(datagram) * 8 / self.rate
        heapq.heappush(self._due, (now + self.delay, next(self._order), datagram, True))

    def _send_due(self, far: socket.socket) -> None:
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            _, _, datagram, towards_browser = heapq.heappop(self._due)
            if not towards_browser:
                far.sendto(datagram, self._target)
            elif self._browser is not None:
                self.passed += len(datagram)
                self._near.sendto(datagram, self._browser)


def _bound() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    made.bind(("127.0.0.1", 0))
    return made
