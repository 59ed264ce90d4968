"""A link of so many bits a second between a browser and the server: a TCP relay that lets through no more.

The one idea: all connections share one allowance, as they share a line, and the browser knows nothing of it. What a
browser's own throttling leaves out (kept connections, what was asked for before) is slow here as well.

    with Link(server_port) as link:
        link.rate = 1_000_000
        page.goto(f"{link.url}/player/show")
"""

import socket
import threading
import time

PIECE = 4096
"""Bytes let through at a time: at 500 kbit/s one every 65 ms."""

BURST = 0.1
"""Seconds: a line that was idle does not save up more."""

FREE = 1e9
"""Bits a second: as good as no limit."""


class Link:
    """Listens on 127.0.0.1 while it is entered. `rate` is the most bits a second towards the browser, and can be
    changed at any time; the other direction is free."""

    def __init__(self, port: int) -> None:
        self.rate = FREE
        self._to = ("127.0.0.1", port)
        self._free_at = 0.0
        self._turn = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> "Link":
        self._start(self._accept)
        return self

    def __exit__(self, *error: object) -> None:
        # What is blocked in a call is woken by a shutdown, not by a close.
        for one in (self._listener, *self._sockets):
            _end(one)
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                browser = self._listener.accept()[0]
            except OSError:
                return
            # Small buffers, or a slower link is noticed late: what they hold has gone through already.
            server = socket.socket()
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * PIECE)
            browser.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * PIECE)
            self._sockets |= {browser, server}
            try:
                server.connect(self._to)
            except OSError:
                _end(browser)
                continue
            self._start(self._carry, browser, server, False)
            self._start(self._carry, server, browser, True)

    def _carry(self, source: socket.socket, target: socket.socket, slowly: bool) -> None:
        try:
            while data := source.recv(PIECE):
                if slowly:
                    self._wait(len(data))
                target.sendall(data)
        except OSError:
            pass
        _end(source)
        _end(target)

    def _wait(self, count: int) -> None:
        with self._turn:
            now = time.monotonic()
            self._free_at = max(self._free_at, now - BURST) + count * 8 / self.rate
            left = self._free_at - now
        if left > 0:
            time.sleep(left)

    def _start(self, what: object, *arguments: object) -> None:
        threading.Thread(target=what, args=arguments, daemon=True).start()  # type: ignore[arg-type]


def _end(one: socket.socket) -> None:
    try:
        one.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # It has ended by itself.
