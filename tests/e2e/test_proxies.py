"""Behind the real nginx and the real HAProxy, configured as `config/nginx.conf` and `config/haproxy.cfg` say.

The one idea: loopback has many addresses. Clients come from 127.0.0.2 and up, the proxy asks from 127.0.0.1, and only
that one is trusted; so whose address the server sees shows in what it lets whom do.
"""

import http.client
import http.server
import json
import re
import ssl
import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.e2e.browser import BrowserTestCase
from tests.e2e.encoder import Encoder, material
from tests.e2e.programs import ROOT, STARTUP, Program, ServerCase, free_port, publish, until

GUESSES = 3
CALLS = 20


def certificate(path: Path) -> Path:
    """A key and a certificate of its own in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tv.example")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(private + made.public_bytes(pem))
    return path


class ProxyCase(ServerCase):
    """A server behind a proxy, on ports `https` and `rtmp`."""

    settings: Mapping[str, str | None] = {
        "OXIDECAST_SERVER_TRUSTED_PROXIES": '["127.0.0.1/32"]',
        "OXIDECAST_RTMP_PROXY_PROTOCOL": "true",
        "OXIDECAST_METRICS_ALLOW": '["127.0.0.1/32", "127.0.0.3/32"]',
        "OXIDECAST_RATE_LIMIT_EXEMPT": '["127.0.0.1/32"]',
        "OXIDECAST_RATE_LIMIT_API_BURST": str(CALLS),
        "OXIDECAST_RATE_LIMIT_API_RATE": "0.01",
        "OXIDECAST_RATE_LIMIT_FAILED_KEYS_BURST": str(GUESSES),
        "OXIDECAST_RATE_LIMIT_FAILED_KEYS_RATE": "0.01",
    }
    https: ClassVar[int]
    rtmp: ClassVar[int]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.https, cls.rtmp = free_port(), free_port()
        pem = certificate(cls.server.folder / "site.pem")
        cls.proxy = cls._stack.enter_context(Program(cls.command(pem), cls.server.folder / "proxy.log"))
        until(cls.answers, STARTUP, "the proxy answers")

    @classmethod
    def command(cls, pem: Path) -> list[str]:
        raise NotImplementedError

    @classmethod
    def configured(cls, name: str, pem: Path) -> str:
        """A file of `config/`, with this test's addresses in it."""
        text = (ROOT / "config" / name).read_text()
        for written, here in (
            ("192.0.2.10:443", f"127.0.0.1:{cls.https}"),
            ("192.0.2.10:1935", f"127.0.0.1:{cls.rtmp}"),
            ("127.0.0.1:8080", f"127.0.0.1:{cls.server.http}"),
            ("127.0.0.1:1935", f"127.0.0.1:{cls.server.rtmp}"),
        ):
            assert written in text
            text = text.replace(written, here)
        return re.sub(r"/etc/ssl/tv\.example\.com\.(pem|key)", str(pem), text)

    @classmethod
    def answers(cls) -> bool:
        assert cls.proxy.process.poll() is None, cls.proxy.output
        try:
            return cls.ask("GET", "/health")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    @classmethod
    def ask(
        cls, method: str, path: str, source: str = "127.0.0.2", **headers: str
    ) -> tuple[int, Mapping[str, str], bytes]:
        """A request by the proxy from an address: (status, fields in lower case, body)."""
        unproved = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection(
            "127.0.0.1", cls.https, timeout=15, source_address=(source, 0), context=unproved
        )
        try:
            fields = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, headers={"Host": f"tv.example:{cls.https}", **fields})
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()


class Behind:
    """What holds behind any of them."""

    def test_whose_address_counts(self: Any) -> None:
        for source, expected in (("127.0.0.2", 403), ("127.0.0.3", 200), ("127.0.0.2", 403)):
            self.assertEqual(self.ask("GET", "/metrics", source)[0], expected, source)
        for forged in ("127.0.0.3", "127.0.0.1", "nonsense", '"'):
            status, _, _ = self.ask(
                "GET", "/metrics", X_Forwarded_For=forged, Forwarded=f"for={forged}", X_Real_IP=forged
            )
            self.assertEqual(status, 403, forged)

    def test_one_client_that_asks_too_often_is_not_all_of_them(self: Any) -> None:
        statuses = [self.ask("GET", "/api/v1/streams", "127.0.0.4")[0] for _ in range(CALLS + 1)]
        self.assertEqual(statuses, [200] * CALLS + [429])
        self.assertEqual(self.ask("GET", "/api/v1/streams", "127.0.0.5")[0], 200)
        status, fields, body = self.ask("GET", "/api/v1/streams", "127.0.0.4", X_Forwarded_For="127.0.0.1")
        self.assertEqual((status, json.loads(body)["code"]), (429, "rate_limited"))
        self.assertIn("retry-after", fields)

    def test_addresses_are_those_of_the_client(self: Any) -> None:
        name, _ = self.server.new_stream("Addresses")
        origin = f"https://tv.example:{self.https}"
        status, fields, body = self.ask(
            "GET", f"/api/v1/streams/{name}", Origin=origin, X_Forwarded_Proto="http"
        )
        self.assertEqual(status, 200)
        self.assertEqual(fields["access-control-allow-origin"], origin)
        urls = json.loads(body)["data"]["stream_urls"]
        self.assertEqual(urls["hls"], f"{origin}/api/v1/hls/{name}/playlist.m3u8")

    def test_a_publisher_has_its_own_address_and_others_do_not_suffer_for_it(self: Any) -> None:
        name, key = self.server.new_stream("Through")
        for number in range(GUESSES):
            with self.assertRaisesRegex(AssertionError, "not known"):
                Encoder(self.rtmp, f"guess-{number}", source="127.0.0.6").start()
        with self.assertRaisesRegex(AssertionError, "Too many unknown stream keys"):
            Encoder(self.rtmp, "guess", source="127.0.0.6").start()
        with Encoder(self.rtmp, key, source="127.0.0.7").start() as encoder:
            encoder.send(material()[:60])
            stream = until(lambda: self.server.stream(name)["publisher"], 5, "it is known")
            self.assertEqual(stream["address"], "127.0.0.7")
            encoder.finish()

    def test_without_its_header_the_proxy_cannot_publish_and_others_cannot_speak_for_it(self: Any) -> None:
        with self.assertRaises((AssertionError, OSError)):
            Encoder(self.server.rtmp, "key").start()
        with self.assertRaisesRegex(AssertionError, "not known"):
            Encoder(self.server.rtmp, "key", source="127.0.0.8").start()


class TestNginx(Behind, ProxyCase):
    @classmethod
    def command(cls, pem: Path) -> list[str]:
        folder = cls.server.folder
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        own = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
        text = cls.configured("nginx.conf", pem).replace("http {", f"http {{ access_log off; {own}", 1)
        file = folder / "nginx.conf"
        file.write_text(f"daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr;\n{text}")
        return ["setpriv", "--pdeathsig=KILL", "/usr/sbin/nginx", "-e", "stderr", "-c", str(file)]


class TestHAProxy(Behind, ProxyCase):
    @classmethod
    def command(cls, pem: Path) -> list[str]:
        file = cls.server.folder / "haproxy.cfg"
        file.write_text(cls.configured("haproxy.cfg", pem))
        return ["setpriv", "--pdeathsig=KILL", "/usr/sbin/haproxy", "-db", "-f", str(file)]


class Outer(http.server.SimpleHTTPRequestHandler):
    """Another site's page, with a frame around what its address names."""

    def do_GET(self) -> None:
        framed = self.path.partition("?")[2]
        body = f'<!doctype html><title>Another site</title><iframe src="{framed}"></iframe>'.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


class TestBrowser(BrowserTestCase):
    """A viewer who comes by HTTPS, where browsers are strictest: nothing of what the pages forbid is missed."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        TestNginx.setUpClass()
        cls.addClassCleanup(TestNginx.tearDownClass)
        cls.origin = f"https://127.0.0.1:{TestNginx.https}"

    def test_the_player_plays_and_complains_of_nothing(self) -> None:
        server = TestNginx.server
        name, key = server.new_stream("Browser")
        log = server.folder / "ffmpeg.log"
        with publish(f"rtmp://127.0.0.1:{TestNginx.rtmp}/live/{key}", log, size="320x180", gop=30):
            server.wait_live(name)
            context = self.new_context(ignore_https_errors=True)
            self.watch(f"{self.origin}/player/{name}", context).wait_for_motion()
            for path in ("/", "/player", "/api/v1/docs", f"/embed/{name}"):
                self.open(f"{self.origin}{path}", context).wait_for_timeout(500)
            self.assert_only_asked(self.origin)

    def test_other_sites_may_frame_what_is_made_for_it_and_nothing_else(self) -> None:
        outer = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Outer)
        threading.Thread(target=outer.serve_forever, daemon=True).start()
        self.addCleanup(outer.server_close)
        self.addCleanup(outer.shutdown)
        page = self.new_context(ignore_https_errors=True).new_page()
        for path, framed in (("/embed/none", True), ("/player", False), ("/api/v1/docs", False)):
            page.goto(f"http://127.0.0.1:{outer.server_port}/?{self.origin}{path}")
            page.wait_for_timeout(500)
            shown = [frame.url.startswith(self.origin) for frame in page.frames[1:]]
            self.assertEqual(shown, [framed], path)
        self.requests_may_fail = True
        self.errors = [text for text in self.errors if "frame" not in text.lower()]
