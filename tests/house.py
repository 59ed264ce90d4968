"""The whole server inside the test's process, on loopback and a temporary directory, with cheap password hashes."""

import json
import shutil
import tempfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from argon2 import PasswordHasher
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from oxidecast import app, foundation
from oxidecast.accounts.passwords import Passwords
from oxidecast.app import Server
from tests import leaks

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
LOOPBACK = {
    "OXIDECAST_SERVER_HOST": "127.0.0.1",
    "OXIDECAST_SERVER_PORT": "0",
    "OXIDECAST_RTMP_BIND_ADDRESS": "127.0.0.1:0",
    "OXIDECAST_WEBRTC_HOST": "127.0.0.1",
    "OXIDECAST_WEBRTC_PORT": "0",
    "OXIDECAST_MULTICAST_INTERFACE": "127.0.0.1",
    "OXIDECAST_RATE_LIMIT_EXEMPT": '["127.0.0.0/8"]',
}


class Answer:
    """An HTTP answer."""

    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        _, code, self.reason = status.split(" ", 2)
        self.status = int(code)
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        return self.json["code"]

    @property
    def data(self) -> Any:
        return self.json["data"]


class _Once(Protocol):
    """Sends a request, and keeps what comes until the connection closes."""

    def __init__(self) -> None:
        self.received = b""
        self.done: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.done.callback(self.received)


class Unstoppable:
    """The reactor, which notes that it was to stop: trial owns the real one."""

    def __init__(self) -> None:
        self.stopped = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)

    def stop(self) -> None:
        self.stopped += 1


class HouseCase(TestCase):
    """A test with a server: `await self.start()`, then `await self.ask(...)`."""

    timeout = 20

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.environ: dict[str, str] = dict(LOOPBACK)
        self.from_address = "127.0.0.1"
        """Where `ask` asks from: any of 127.0.0.0/8."""
        self.config: Path | None = None
        self.reactor = Unstoppable()
        self.patch(foundation, "Passwords", partial(Passwords, hasher=CHEAP))
        self.patch(app, "set_level", lambda level: None)
        self.patch(app, "atexit", SimpleNamespace(register=lambda *_: None))
        self.patch(Server, "_handle_signals", lambda server: None)

    def build(self, demo: bool = False) -> Server:
        return Server.build(self.config, self.folder / "data", self.environ, self.reactor, demo)

    async def start(self, demo: bool = False) -> Server:
        self.server = server = self.build(demo)
        self.addCleanup(server.stopService)
        server.startService()
        await server.started
        return server

    async def send(self, raw: bytes) -> Answer:
        endpoint = TCP4ClientEndpoint(
            reactor, "127.0.0.1", self.server.web.number, bindAddress=(self.from_address, 0)
        )
        connection = await connectProtocol(endpoint, _Once())
        assert connection.transport is not None
        connection.transport.write(raw)
        return Answer(await connection.done)

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        token: str = "",
        host: str = "localhost",
        **headers: str,
    ) -> Answer:
        """`body` is made JSON, unless it is bytes."""
        fields = {"Host": host, "Connection": "close"}
        if body is not None:
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
            fields |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
        if token:
            fields["Authorization"] = f"Bearer {token}"
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
        answer = await self.send("\r\n".join(lines).encode() + (body or b""))
        leaks.look_at_answer(f"{method} {path}", answer.status, answer.body)
        return answer

    async def token(self, role: Any, name: str = "") -> str:
        """An access token of a new account."""
        accounts = self.server.foundation.accounts
        user = await accounts.create(name or f"a-{role}", "correct horse", role)
        return self.server.foundation.tokens.access(user)
