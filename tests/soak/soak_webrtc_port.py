"""A million strange datagrams on a whole server's port while fifty viewers watch: `make soak`. A hundred thousand in
memory are in `tests/outputs/webrtc/test_noise.py`."""

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import TestCase

from tests.e2e.programs import ROOT, Server

VIEWERS = 50
STRANGE = 1_000_000
SECONDS = 200
"""5,000 a second."""


class SoakTests(TestCase):
    def order(self, line: str) -> dict[str, Any]:
        self.crowd.stdin.write(line + "\n")  # type: ignore[union-attr]
        self.crowd.stdin.flush()  # type: ignore[union-attr]
        return json.loads(self.crowd.stdout.readline())  # type: ignore[no-any-return, union-attr]

    def test_nobody_notices(self) -> None:
        with TemporaryDirectory() as folder, Server(Path(folder), "--demo") as server:
            server.wait_live("demo")
            url = f"{server.url}/api/v1/webrtc/demo/whep"
            self.crowd = subprocess.Popen(
                [sys.executable, "-m", "tests.webrtc.crowd", url],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
            )
            try:
                self.assertEqual(self.order(f"add {VIEWERS}")["watching"], VIEWERS)
                self.order("watch 3")
                found = self.order(f"watch {SECONDS} {STRANGE}")
                print(found)
                self.assertEqual((found["lost"], found["unauthentic"]), (0, 0))
                self.assertGreater(found["fewest"], 25 * SECONDS, "everybody had pictures all the time")
                self.assertEqual(server.metric("oxidecast_webrtc_sessions_opened_total"), VIEWERS)
                self.assertEqual(server.metric("oxidecast_webrtc_sessions"), VIEWERS)
                server.assert_clean()
            finally:
                self.crowd.communicate()
