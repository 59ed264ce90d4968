"""The pages' resources, asked by a real HTTP client over a real twisted.web channel in memory."""

import gzip
import shutil
import tempfile
from pathlib import Path

from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import Site

from oxidecast.web.pages import pages

SCRIPT = b"export const answer = 42;\n" * 40


def write_bundle(directory: Path) -> None:
    """What the build leaves, in small."""
    assets = directory / "assets"
    assets.mkdir()
    for name in ("index", "player", "watch", "embed"):
        (directory / f"{name}.html").write_text(f"<!doctype html><title>{name}</title>")
    (assets / "watch-ABCD1234.js").write_bytes(SCRIPT)
    (assets / "watch-ABCD1234.js.gz").write_bytes(gzip.compress(SCRIPT))
    (assets / "watch-ABCD1234.js.br").write_bytes(b"brotli, as far as this test is concerned")
    (assets / "icon-ABCD1234.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (directory / "sources.sha256").write_text("0" * 64)


class Answer:
    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        self.status = int(status.split()[1])
        self.headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}


class PagesCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.static = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.static)
        write_bundle(self.static)

    def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        root = Resource()
        for segment, resource in pages(self.static).items():
            root.putChild(segment, resource)
        channel = Site(root).buildProtocol(None)
        transport = StringTransport()
        channel.makeConnection(transport)
        lines = [f"{method} {path} HTTP/1.1", "Host: test", "Connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        channel.dataReceived("\r\n".join([*lines, "", ""]).encode())
        return Answer(transport.value())


class TestAddresses(PagesCase):
    def test_each_address_has_its_page(self) -> None:
        for path, title in [
            ("/", b"index"),
            ("/player", b"player"),
            ("/player/", b"player"),
            ("/player/show", b"watch"),
            ("/player/show/", b"watch"),
            ("/embed/show", b"embed"),
            ("/embed/show?token=abc", b"embed"),
        ]:
            answer = self.ask(path)
            self.assertEqual((path, answer.status), (path, 200))
            self.assertIn(b"<title>%s</title>" % title, answer.body)

    def test_what_is_not_there_is_a_404_page(self) -> None:
        for path in (
            "/embed",
            "/embed/",
            "/player/a/b",
            "/assets",
            "/assets/",
            "/assets/none.js",
            "/assets/a/b.js",
        ):
            answer = self.ask(path)
            self.assertEqual((path, answer.status), (path, 404))
            self.assertIn("default-src 'none'", answer.headers["content-security-policy"])

    def test_nothing_outside_the_assets_can_be_fetched(self) -> None:
        for path in (
            "/assets/../watch.html",
            "/assets/..%2fwatch.html",
            "/assets/%2e%2e/sources.sha256",
            "/assets/watch-ABCD1234.js.gz",
        ):
            self.assertEqual((path, self.ask(path).status), (path, 404))

    def test_a_hostile_name_is_not_reflected(self) -> None:
        for path in (
            "/player/%3Cscript%3Ealert(1)%3C%2Fscript%3E",
            "/player/a/%3Cscript%3E",
            "/assets/%3Cscript%3E",
        ):
            self.assertNotIn(b"script>", self.ask(path).body)

    def test_head_has_the_headers_without_the_body(self) -> None:
        answer = self.ask("/player/show", "HEAD")
        self.assertEqual((answer.status, answer.body), (200, b""))
        self.assertEqual(answer.headers["content-length"], str(len("<!doctype html><title>watch</title>")))

    def test_other_methods_are_refused(self) -> None:
        self.assertEqual(self.ask("/player/show", "POST").status, 405)


class TestHeaders(PagesCase):
    def test_pages_allow_nothing_but_files_of_this_server(self) -> None:
        for path in ("/", "/player", "/player/show", "/embed/show"):
            policy = dict(
                part.strip().split(" ", 1)
                for part in self.ask(path).headers["content-security-policy"].split(";")
            )
            self.assertEqual(policy["default-src"], "'none'")
            self.assertEqual(policy["script-src"], "'self'")
            self.assertEqual(policy["style-src"], "'self'")
            self.assertEqual(policy["connect-src"], "'self'")
            self.assertEqual(policy["media-src"], "'self' blob:")
            self.assertEqual(policy["base-uri"], "'none'")
            self.assertEqual(policy["form-action"], "'none'")

    def test_only_embed_may_be_framed(self) -> None:
        for path, ancestors in (
            ("/", "'none'"),
            ("/player", "'none'"),
            ("/player/x", "'none'"),
            ("/embed/x", "*"),
        ):
            self.assertIn(f"frame-ancestors {ancestors}", self.ask(path).headers["content-security-policy"])

    def test_pages_keep_tokens_and_devices_to_themselves(self) -> None:
        headers = self.ask("/player/show").headers
        self.assertEqual(headers["referrer-policy"], "no-referrer")
        self.assertEqual(headers["x-content-type-options"], "nosniff")
        self.assertIn("camera=()", headers["permissions-policy"])

    def test_types_are_exact(self) -> None:
        self.assertEqual(self.ask("/").headers["content-type"], "text/html; charset=utf-8")
        script = self.ask("/assets/watch-ABCD1234.js").headers
        self.assertEqual(script["content-type"], "text/javascript; charset=utf-8")
        self.assertEqual(script["x-content-type-options"], "nosniff")
        self.assertEqual(self.ask("/assets/icon-ABCD1234.svg").headers["content-type"], "image/svg+xml")


class TestCaching(PagesCase):
    def test_pages_are_asked_again_each_time(self) -> None:
        self.assertEqual(self.ask("/player").headers["cache-control"], "no-cache")

    def test_assets_are_kept_for_ever(self) -> None:
        cache = self.ask("/assets/watch-ABCD1234.js").headers["cache-control"]
        self.assertEqual(cache, "public, max-age=31536000, immutable")

    def test_a_known_page_is_not_sent_again(self) -> None:
        tag = self.ask("/player").headers["etag"]
        for known in (tag, f'"other", {tag}', f"W/{tag}", "*"):
            answer = self.ask("/player", if_none_match=known)
            self.assertEqual((known, answer.status, answer.body), (known, 304, b""))
            self.assertEqual(answer.headers["etag"], tag)
            self.assertIn("content-security-policy", answer.headers)

    def test_a_changed_page_is_sent(self) -> None:
        tag = self.ask("/player").headers["etag"]
        (self.static / "player.html").write_text("<!doctype html><title>player, newer</title>")
        answer = self.ask("/player", if_none_match=tag)
        self.assertEqual(answer.status, 200)
        self.assertNotEqual(answer.headers["etag"], tag)


class TestCompression(PagesCase):
    def test_the_best_allowed_variant_is_sent(self) -> None:
        for accepted, coding in [
            ("gzip, deflate, br", "br"),
            ("gzip", "gzip"),
            ("GZIP;q=0.5", "gzip"),
            ("br;q=0, gzip", "gzip"),
            ("br; q=0.0, gzip;q=0", None),
            ("identity", None),
            ("", None),
        ]:
            answer = self.ask("/assets/watch-ABCD1234.js", accept_encoding=accepted)
            self.assertEqual((accepted, answer.headers.get("content-encoding")), (accepted, coding))
            self.assertEqual(answer.headers["vary"], "Accept-Encoding")

    def test_a_variant_is_the_same_script(self) -> None:
        answer = self.ask("/assets/watch-ABCD1234.js", accept_encoding="gzip")
        self.assertEqual(gzip.decompress(answer.body), SCRIPT)

    def test_variants_have_tags_of_their_own(self) -> None:
        plain = self.ask("/assets/watch-ABCD1234.js").headers["etag"]
        packed = self.ask("/assets/watch-ABCD1234.js", accept_encoding="gzip").headers["etag"]
        self.assertNotEqual(plain, packed)


class TestUnbuilt(PagesCase):
    def test_each_page_says_how_to_build_it(self) -> None:
        (self.static / "watch.html").unlink()
        for path in ("/", "/player", "/player/show", "/embed/show", "/assets/watch-ABCD1234.js"):
            answer = self.ask(path)
            self.assertEqual((path, answer.status), (path, 503))
            self.assertIn(b"npm run build", answer.body)
            self.assertEqual(answer.headers["cache-control"], "no-store")
