"""The whole server with certificates: which ports are there, what they answer, and what keeps it from starting."""

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

from twisted.internet import reactor
from twisted.internet.endpoints import SSL4ClientEndpoint, TCP4ClientEndpoint, connectProtocol
from twisted.internet.ssl import CertificateOptions

from oxidecast import app
from oxidecast.app import Server
from oxidecast.settings.errors import StartError
from tests.delivery.secure import Authority
from tests.house import Answer, HouseCase, _Once

FREE = {"OXIDECAST_SERVER_TLS_PORT": "0", "OXIDECAST_RTMP_TLS_BIND_ADDRESS": "127.0.0.1:0"}


class SecureCase(HouseCase):
    root: ClassVar[Authority]

    @classmethod
    def setUpClass(cls) -> None:
        cls.root = Authority()

    def setUp(self) -> None:
        super().setUp()
        self.pems = self.folder / "pems"
        self.pems.mkdir()
        self.environ |= FREE

    def certify(self, *names: str, file: str = "a.pem", **dates: float) -> Path:
        """A certificate in the folder, and the setting that names the folder."""
        self.environ["OXIDECAST_TLS_CERTIFICATE_DIRECTORY"] = str(self.pems)
        return self.root.issue(*(names or ("a.example",)), **dates).write(self.pems / file)

    async def securely(self, method: str, path: str, host: str = "localhost") -> Answer:
        endpoint = SSL4ClientEndpoint(reactor, "127.0.0.1", self.server.web.tls_number, CertificateOptions())
        connection = await connectProtocol(endpoint, _Once())
        assert connection.transport is not None
        head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        connection.transport.write(head.encode())
        return Answer(await connection.done)

    async def failing(self) -> str:
        """The sentence of a start that fails."""
        self.patch(app.sys, "__stderr__", io.StringIO())
        try:
            await self.start()
        except StartError as error:
            return str(error)
        raise AssertionError("it started")


class TestPorts(SecureCase):
    async def test_without_a_certificate_nothing_listens_there(self) -> None:
        server = await self.start()
        self.assertEqual((server.tls, server.web.tls_number, server.rtmp.tls_number), (None, 0, 0))
        self.assertFalse(any("rtmps" in one for one in server.registry.ingest_addresses("https://h")))

    async def test_with_one_both_are_there(self) -> None:
        self.certify()
        server = await self.start()
        self.assertEqual((await self.securely("GET", "/health")).status, 200)
        self.assertEqual(
            server.registry.ingest_addresses("https://h"),
            [
                f"rtmp://h:{server.rtmp.number}/live",
                f"rtmps://h:{server.rtmp.tls_number}/live",
                "https://h/api/v1/webrtc/whip",
            ],
        )
        self.assertEqual((await self.ask("GET", "/health")).status, 200)

    async def test_one_file_below_the_data_directory_will_do(self) -> None:
        (self.folder / "data").mkdir(mode=0o700)
        issued = self.root.issue("a.example")
        (self.folder / "data" / "cert.pem").write_bytes(issued.pem)
        (self.folder / "data" / "key.pem").write_bytes(issued.key_pem)
        self.environ |= {"OXIDECAST_TLS_CERTIFICATE_FILE": "cert.pem", "OXIDECAST_TLS_KEY_FILE": "key.pem"}
        await self.start()
        self.assertEqual((await self.securely("GET", "/health")).status, 200)

    async def test_addresses_are_those_by_which_the_client_came(self) -> None:
        self.certify()
        await self.start()
        said = json.loads((await self.securely("GET", "/api/v1/openapi.json", "a.example:8443")).body)
        self.assertIn("openapi", said)
        stream = await self.server.foundation.streams.find("my-stream")
        self.assertIsNotNone(stream)
        for host in ("a.example:8443", "a.example"):
            urls = (await self.securely("GET", "/api/v1/streams/my-stream", host)).data["stream_urls"]
            self.assertEqual(urls["hls"], f"https://{host}/api/v1/hls/my-stream/playlist.m3u8")
        urls = (await self.ask("GET", "/api/v1/streams/my-stream")).data["stream_urls"]
        self.assertTrue(urls["hls"].startswith("http://"))

    async def test_the_metrics_tell_when_a_certificate_expires(self) -> None:
        self.certify("a.example", "b.example")
        await self.start()
        text = (await self.securely("GET", "/metrics")).body.decode()
        self.assertIn('oxidecast_tls_certificate_expiry_timestamp_seconds{name="a.example"}', text)
        self.assertIn('oxidecast_tls_handshake_failures_total{port="https"} 0.0', text)
        self.assertIn('oxidecast_tls_handshake_failures_total{port="rtmps"} 0.0', text)

    async def test_a_proxy_that_passes_tls_on_says_who_the_client_is_before_it(self) -> None:
        self.certify()
        self.environ |= {
            "OXIDECAST_SERVER_TRUSTED_PROXIES": '["127.0.0.0/8"]',
            "OXIDECAST_SERVER_PROXY_PROTOCOL": "true",
        }
        await self.start()
        for source, expected in (("203.0.113.7", 403), ("10.0.0.9", 200)):
            endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.server.web.tls_number)
            connection: Any = await connectProtocol(endpoint, _Once())
            connection.transport.write(f"PROXY TCP4 {source} 127.0.0.1 4711 443\r\n".encode())
            connection.transport.startTLS(CertificateOptions(), connection)
            connection.transport.write(
                b"GET /metrics HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"
            )
            self.assertEqual(Answer(await connection.done).status, expected)

    async def test_a_stopped_server_listens_nowhere(self) -> None:
        self.certify()
        server = await self.start()
        await server.stopService()
        self.assertEqual(server.rtmp.tls_number, 0)
        with self.assertRaises(Exception):  # noqa: B017
            await self.securely("GET", "/health")


class TestStart(SecureCase):
    async def test_it_says_a_name_that_the_certificate_has(self) -> None:
        self.certify("*.a.example", "a.example")
        said: list[str] = []
        self.patch(Server, "log", SimpleNamespace(info=lambda text, **more: said.append(text.format(**more))))
        server = await self.start()
        self.assertTrue(
            any(f"ready: https://a.example:{server.web.tls_number}/ " in line for line in said), said
        )

    async def test_what_cannot_be_used_is_one_sentence(self) -> None:
        file = self.certify()
        file.write_bytes(self.root.issue("a.example").pem)
        self.assertIn("no file holds a private key", await self.failing())

    async def test_a_port_that_is_taken_is_one_sentence(self) -> None:
        self.certify()
        self.environ["OXIDECAST_SERVER_TLS_PORT"] = await self.taken()
        self.assertIn("Free the port, or set server.tls_port.", await self.failing())

    async def test_an_rtmps_port_that_is_taken_is_one_sentence(self) -> None:
        self.certify()
        self.environ["OXIDECAST_RTMP_TLS_BIND_ADDRESS"] = f"127.0.0.1:{await self.taken()}"
        self.assertIn("Free the port, or set rtmp.tls_bind_address.", await self.failing())

    async def taken(self) -> str:
        from twisted.internet.protocol import ServerFactory

        port: Any = reactor.listenTCP(0, ServerFactory(), interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        return str(port.getHost().port)

    async def test_an_expired_certificate_starts(self) -> None:
        self.certify(begins=-90, ends=-1)
        await self.start()
        self.assertEqual((await self.securely("GET", "/health")).status, 200)


class TestReload(SecureCase):
    async def test_a_reload_reads_the_certificates_even_where_the_settings_are_wrong(self) -> None:
        self.certify()
        server = await self.start()
        self.certify("b.example")
        self.environ["OXIDECAST_SERVER_PORT"] = "nonsense"
        assert server.tls is not None
        server.reload()
        await server.tls._reading
        self.assertEqual([one.name for one in server.tls.certificates], ["b.example"])

    async def test_redirect_and_hsts_change_while_it_runs(self) -> None:
        self.certify()
        server = await self.start()
        self.assertNotIn("strict-transport-security", (await self.securely("GET", "/health")).headers)
        self.environ |= {"OXIDECAST_TLS_REDIRECT": "true", "OXIDECAST_TLS_HSTS": "60"}
        self.assertEqual(server.reload(), [])
        answer = await self.securely("GET", "/health")
        self.assertEqual(answer.headers["strict-transport-security"], "max-age=60")
        self.assertEqual((await self.ask("GET", "/")).status, 308)

    async def test_a_redirect_waits_for_the_certificates_as_they_wait_for_a_restart(self) -> None:
        server = await self.start()
        self.certify()
        self.environ |= {"OXIDECAST_TLS_REDIRECT": "true", "OXIDECAST_TLS_REDIRECT_PORT": "443"}
        self.assertEqual(server.reload(), ["tls.certificate_directory"])
        self.assertEqual((await self.ask("GET", "/api/v1/streams")).status, 200)


class TestRedirect(SecureCase):
    def setUp(self) -> None:
        super().setUp()
        self.certify()
        self.environ["OXIDECAST_TLS_REDIRECT"] = "true"

    async def test_pages_and_the_api_are_sent_on_with_path_and_query(self) -> None:
        server = await self.start()
        base = f"https://localhost:{server.web.tls_number}"
        for method in ("GET", "HEAD", "POST"):
            for path in ("/", "/player/my-stream?token=x", "/nope", "/api/v1/streams?page=2", "/api/v1/docs"):
                answer = await self.ask(method, path)
                self.assertEqual((answer.status, answer.headers["location"]), (308, base + path), method)
                self.assertEqual((answer.headers["cache-control"], answer.body), ("no-store", b""))

    async def test_what_programs_ask_for_stays(self) -> None:
        await self.start()
        for path in (
            "/health",
            "/ready",
            "/metrics",
            "/api/v1/hls/my-stream/playlist.m3u8",
            "/api/v1/multicast/channels.m3u",
        ):
            answer = await self.ask("GET", path)
            self.assertIn(answer.status, (200, 404), path)

    async def test_https_is_answered(self) -> None:
        await self.start()
        for path in ("/", "/player", "/api/v1/streams"):
            self.assertEqual((await self.securely("GET", path)).status, 200)

    async def test_the_port_can_be_another_one(self) -> None:
        self.environ["OXIDECAST_TLS_REDIRECT_PORT"] = "443"
        await self.start()
        for host, there in (
            ("a.example:8080", "a.example"),
            ("a.example", "a.example"),
            ("[::1]:8080", "[::1]"),
            ("192.0.2.1:80", "192.0.2.1"),
        ):
            answer = await self.ask("GET", "/player", host=host)
            self.assertEqual(answer.headers["location"], f"https://{there}/player")

    async def test_a_public_url_is_where_it_leads(self) -> None:
        self.environ["OXIDECAST_SERVER_PUBLIC_URL"] = "https://tv.example"
        await self.start()
        for host in ("localhost", "evil.example", "a b"):
            answer = await self.ask("GET", "/player?x=1", host=host)
            self.assertEqual(
                (answer.status, answer.headers["location"]), (308, "https://tv.example/player?x=1")
            )

    async def test_a_host_that_is_none_is_refused(self) -> None:
        await self.start()
        for host in ("a.example/evil", "user@a.example", 'a"b', "a b"):
            answer = await self.ask("GET", "/player", host=host)
            self.assertEqual(answer.status, 400, host)
            self.assertNotIn("location", answer.headers)

    async def test_a_target_with_a_host_leads_to_no_other_host(self) -> None:
        await self.start()
        for target in ("http://evil.example/player", "//evil.example/player", "/\\evil.example"):
            answer = await self.ask("GET", target)
            self.assertIn(answer.status, (308, 400), target)
            where = answer.headers.get("location", "https://localhost:")
            self.assertTrue(where.startswith("https://localhost:"), where)
