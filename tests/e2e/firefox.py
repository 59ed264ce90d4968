"""Firefox, by the protocol that it brings along for tests (Marionette): commands as JSON, each with its length before
it, over TCP.

The one idea: a test runs one script in a page of its own and gets what the script's promise becomes.
"""

import json
import shutil
import socket
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.e2e.programs import Program, free_port, until

FIREFOX = "/usr/bin/firefox-esr"
STARTUP = 30.0
SCRIPT = 40.0
"""Seconds that a script may take."""

PREFERENCES: dict[str, Any] = {
    "app.update.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "toolkit.telemetry.reportingpolicy.firstRun": False,
    "media.autoplay.default": 0,
    # ICE leaves loopback out, and pairs a loopback address with no other.
    "media.peerconnection.ice.loopback": True,
    # A page that captures nothing is shown the address of the default route alone: it has to capture, what is made up.
    "media.navigator.permission.disabled": True,
    "media.navigator.streams.fake": True,
    "permissions.default.microphone": 1,
    "permissions.default.camera": 1,
    # An address in a candidate is a name of multicast DNS, which nobody resolves here.
    "media.peerconnection.ice.obfuscate_host_addresses": False,
}


class Firefox:
    """A headless one with a profile of its own. A context: it is gone at its end."""

    def __init__(self, preferences: dict[str, Any] | None = None) -> None:
        self._folder = TemporaryDirectory(prefix="firefox-", ignore_cleanup_errors=True)
        folder = Path(self._folder.name)
        port = free_port()
        lines = []
        for name, value in {**PREFERENCES, **(preferences or {}), "marionette.port": port}.items():
            lines.append(f"user_pref({json.dumps(name)}, {json.dumps(value)});")
        profile = folder / "profile"
        profile.mkdir()
        (profile / "user.js").write_text("\n".join(lines))
        environ = {"HOME": str(folder), "PATH": "/usr/bin:/bin", "MOZ_HEADLESS": "1"}
        command = [FIREFOX, "--headless", "--no-remote", "--marionette", "--profile", str(profile)]
        self.program = Program(["setpriv", "--pdeathsig=KILL", *command], folder / "firefox.log", environ)
        self._number = 0
        self._rest = b""
        self._socket = until(lambda: self._connected(port), STARTUP, "Firefox listens")
        self._socket.settimeout(SCRIPT + 5)
        self._receive()
        timeouts = {"script": SCRIPT * 1000}
        self.call("WebDriver:NewSession", {"capabilities": {"alwaysMatch": {"timeouts": timeouts}}})

    def __enter__(self) -> "Firefox":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.call("Marionette:Quit", {"flags": ["eForceQuit"]})
            self.program.process.wait(10)
        finally:
            self._socket.close()
            if self.program.process.poll() is None:
                self.program.process.kill()
                self.program.process.wait()
            shutil.rmtree(self._folder.name, ignore_errors=True)

    def call(self, command: str, parameters: dict[str, Any]) -> Any:
        self._number += 1
        message = json.dumps([0, self._number, command, parameters]).encode()
        self._socket.sendall(b"%d:%b" % (len(message), message))
        _, _, error, result = self._receive()
        assert error is None, f"{error['error']}: {error['message']}"
        return result

    def run(self, script: str, *arguments: Any) -> Any:
        """Call a function, given as text, in the page; the answer is what its promise becomes."""
        wrapped = f"return ({script})(...arguments)"
        return self.call("WebDriver:ExecuteScript", {"script": wrapped, "args": list(arguments)})["value"]

    def _connected(self, port: int) -> socket.socket | None:
        assert self.program.process.poll() is None, self.program.output
        try:
            return socket.create_connection(("127.0.0.1", port), 1)
        except OSError:
            return None

    def _receive(self) -> Any:
        while b":" not in self._rest:
            self._read()
        length, _, self._rest = self._rest.partition(b":")
        while len(self._rest) < int(length):
            self._read()
        message, self._rest = self._rest[: int(length)], self._rest[int(length) :]
        return json.loads(message)

    def _read(self) -> None:
        data = self._socket.recv(65_536)
        assert data, f"Firefox has ended:\n{self.program.output}"
        self._rest += data
