"""A bad network: a UDP relay that loses a part of what the server sends, by a seed, and can move to another port.

The machine needs no privilege for it, and a test that fails fails again.
"""

import random
import select
import socket
import threading


class Relay:
    """Between one browser and the server's port `target`. `port` is where the browser sends to."""

    def __init__(self, target: int, loss: float, seed: int = 6) -> None:
        self.loss = loss
        self.lost = 0
        self._target = ("127.0.0.1", target)
        self._noise = random.Random(seed)
        self._near = _bound()
        self._far = _bound()
        self._browser: tuple[str, int] | None = None
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
                ready, _, _ = select.select([self._near, far], [], [], 0.05)
                for one in ready:
                    self._pass_on(one, far)
            except (OSError, ValueError):
                continue  # It moved just now.

    def _pass_on(self, one: socket.socket, far: socket.socket) -> None:
        datagram, source = one.recvfrom(2048)
        if one is self._near:
            self._browser = source
            far.sendto(datagram, self._target)
        elif self._browser is not None:
            # Media only: a lost handshake is another test's matter.
            if datagram[0] >= 128 and self._noise.random() < self.loss:
                self.lost += 1
            else:
                self._near.sendto(datagram, self._browser)


def _bound() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    made.bind(("127.0.0.1", 0))
    return made
