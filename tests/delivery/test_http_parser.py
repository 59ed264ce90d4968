from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.delivery.http_limits import HTTPLimits
from oxidecast.delivery.http_parser import READ_AHEAD, Incoming, RequestParser
from tests.delivery.serving import CLIENT, request

SMALL = HTTPLimits(max_uri=100, max_header_bytes=500, max_headers=10, max_body=20)


def parse(*pieces: bytes, limits: HTTPLimits = SMALL) -> tuple[list[Incoming], int | None]:
    """The requests in `pieces`, and the status of the refusal after them."""
    parser = RequestParser(limits, CLIENT)
    requests: list[Incoming] = []
    for piece in pieces:
        parser.unparsed = b"".join((parser.unparsed, piece))
        while parser.unparsed:
            parser.parse()
            while parser.ready:
                requests.append(parser.ready.popleft())
    return requests, parser.refusal.status if parser.refusal else None


def told(outcome: tuple[list[Incoming], int | None]) -> object:
    requests, refusal = outcome
    return [
        (one.method, one.target, one.version, one.keep_alive, one.upgrade, one.headers, b"".join(one.body))
        for one in requests
    ], refusal


class TrailerTests(SynchronousTestCase):
    """What comes with the chunks of a body, and is none of it, has bounds as well."""

    HEAD = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"

    def test_a_few_are_let_through_and_not_kept(self) -> None:
        [one], refusal = parse(self.HEAD + b"2\r\nhi\r\n0\r\nDigest: x\r\n\r\n")
        self.assertEqual((b"".join(one.body), refusal), (b"hi", None))
        self.assertNotIn(b"digest", dict(one.headers))

    def test_the_next_request_has_its_own_fields(self) -> None:
        first, second = parse(self.HEAD + b"0\r\nDigest: x\r\n\r\n" + self.HEAD + b"0\r\n\r\n")[0]
        self.assertEqual(first.headers, second.headers)

    def test_they_do_not_go_on_without_end(self) -> None:
        parser = RequestParser(SMALL, CLIENT)
        parser.unparsed = self.HEAD + b"0\r\n"
        for _ in range(1000):
            parser.parse()
            if parser.refusal is not None:
                break
            parser.unparsed = b"".join((parser.unparsed, b"a: b\r\n" * 10))
        assert parser.refusal is not None
        self.assertEqual((parser.refusal.status, parser._headers), (431, []))

    def test_chunk_extensions_do_not_either(self) -> None:
        wasteful = self.HEAD + b"1;" + b"x" * (SMALL.max_body * 8 + 3 * READ_AHEAD)
        self.assertEqual(parse(wasteful), ([], 413))

    def test_chunks_of_a_byte_are_no_waste(self) -> None:
        [one], refusal = parse(self.HEAD + b"1\r\nx\r\n" * SMALL.max_body + b"0\r\n\r\n")
        self.assertEqual((one.body_size, refusal), (SMALL.max_body, None))


class RefusalTests(SynchronousTestCase):
    def assertRefused(self, data: bytes, status: int, requests: int = 0) -> None:
        found, refusal = parse(data)
        self.assertEqual((len(found), refusal), (requests, status), data)

    def test_what_smuggling_is_made_of(self) -> None:
        post = b"POST / HTTP/1.1\r\nHost: a\r\n"
        chunked = post + b"Transfer-Encoding: chunked\r\n\r\n"
        for data in (
            post + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            post + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
            post + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
            post + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
            post + b"Content-Length: 3, 3\r\n\r\nabc",
            post + b"Content-Length: +3\r\n\r\nabc",
            post + b"Content-Length: -3\r\n\r\nabc",
            post + b"Content-Length: 0x3\r\n\r\nabc",
            post + b"Content-Length:\r\n\r\nabc",
            post + b"Content-Length: 99999999999999999999999\r\n\r\n",
            post + b"Content-Length : 3\r\n\r\nabc",
            post + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
            post + b"Transfer-Encoding: chunked, identity\r\n\r\n",
            chunked + b"0x3\r\nabc\r\n0\r\n\r\n",
            chunked + b"-3\r\nabc\r\n0\r\n\r\n",
            chunked + b"3\nabc\r\n0\r\n\r\n",
            chunked + b"3 \r\nabc\r\n0\r\n\r\n",
            chunked + b"zz\r\n",
            chunked + b"FFFFFFFFFFFFFFFFF\r\n",
            chunked + b"3\r\nabcd\r\n0\r\n\r\n",
            b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"GET / HTTP/1.1\nHost: a\n\n",
            b"GET / HTTP/1.1\r\nHost: a\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET / b HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
            b"get / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET a HTTP/1.1\r\nHost: a\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ):
            self.assertRefused(data, 400)

    def test_other_versions(self) -> None:
        for data in (
            b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
            b"GET / HTTP/0.9\r\nHost: a\r\n\r\n",
            b"GET /\r\n\r\n",
        ):
            self.assertRefused(data, 505)
        self.assertRefused(b"GET / HTTP/3.7\r\nHost: a\r\n\r\n", 400)

    def test_limits(self) -> None:
        self.assertRefused(request(b"/" + b"a" * 100), 414)
        self.assertRefused(request(b"/", b"X: " + b"a" * 500), 431)
        self.assertRefused(request(b"/", *[b"X: a"] * 10), 431)
        self.assertRefused(request(b"/", b"Content-Length: 21", method=b"POST"), 413)
        chunked = request(b"/", b"Transfer-Encoding: chunked", method=b"POST")
        self.assertRefused(chunked + b"15\r\n" + b"a" * 21, 413)
        self.assertRefused(request(b"/", b"Transfer-Encoding: gzip, chunked", method=b"POST"), 501)
        self.assertRefused(request(b"/", b"Expect: a miracle", b"Content-Length: 1", method=b"POST"), 417)

    def test_a_head_that_never_ends_is_refused_before_it_fills_memory(self) -> None:
        pieces = [b"GET / HTTP/1.1\r\nHost: a\r\nX: "] + [b"a" * 1000] * 20
        self.assertEqual(parse(*pieces), ([], 431))

    def test_requests_before_the_broken_one_are_good(self) -> None:
        self.assertRefused(request(b"/a") + request(b"/b") + b"garbage\r\n\r\n", 400, requests=2)

    def test_the_sentence_names_the_trouble_and_is_one_line(self) -> None:
        parser = RequestParser(SMALL, CLIENT)
        parser.unparsed = b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n"
        parser.parse()
        assert parser.refusal is not None
        self.assertNotIn("\n", parser.refusal.sentence)


class RequestTests(SynchronousTestCase):
    def test_absolute_targets_become_paths(self) -> None:
        for target, expected in (
            (b"http://other/a?b", b"/a?b"),
            (b"HTTPS://other", b"/"),
            (b"http://other?x=/y", b"/?x=/y"),
        ):
            (one,), _ = parse(request(target))
            self.assertEqual(one.target, expected)

    def test_keep_alive_follows_version_and_connection(self) -> None:
        for data, keep_alive in (
            (request(b"/"), True),
            (request(b"/", b"Connection: close"), False),
            (request(b"/", b"Connection: foo, Close"), False),
            (request(b"/", version=b"HTTP/1.0"), False),
            (request(b"/", b"Connection: keep-alive", version=b"HTTP/1.0"), True),
        ):
            (one,), _ = parse(data)
            self.assertEqual(one.keep_alive, keep_alive, data)

    def test_nothing_is_read_after_a_close(self) -> None:
        requests, refusal = parse(request(b"/a", b"Connection: close") + request(b"/b") + b"garbage", b"more")
        self.assertEqual(([one.target for one in requests], refusal), ([b"/a"], None))

    def test_a_chunked_body_is_joined_and_its_trailers_forgotten(self) -> None:
        chunked = request(b"/", b"Transfer-Encoding: chunked", method=b"POST")
        (one, two), _ = parse(
            chunked + b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nHost: evil\r\n\r\n" + request(b"/b")
        )
        self.assertEqual((b"".join(one.body), one.header(b"host"), two.target), (b"abcde", b"test", b"/b"))

    def test_only_a_bodyless_websocket_get_is_an_upgrade(self) -> None:
        upgrade = (b"Upgrade: websocket", b"Connection: Upgrade")
        for data, granted in (
            (request(b"/", *upgrade), True),
            (request(b"/", b"Upgrade: h2c", b"Connection: Upgrade"), False),
            (request(b"/", b"Upgrade: websocket"), False),
            (request(b"/", *upgrade, b"Content-Length: 2") + b"ab", False),
        ):
            (one,), _ = parse(data)
            self.assertEqual(one.upgrade, granted, data)

    def test_a_request_whose_upgrade_is_not_granted_keeps_its_body(self) -> None:
        upgrade = (b"Upgrade: h2c", b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: AAMAAA")
        for framing, body in (
            (b"Content-Length: 3", b"abc"),
            (b"Transfer-Encoding: chunked", b"3\r\nabc\r\n0\r\n\r\n"),
        ):
            data = request(b"/a", *upgrade, framing, method=b"POST") + body + request(b"/b")
            requests, refusal = parse(data)
            self.assertEqual(
                [(one.target, b"".join(one.body)) for one in requests], [(b"/a", b"abc"), (b"/b", b"")]
            )
            self.assertIsNone(refusal)

    def test_bytes_after_a_websocket_upgrade_are_left_alone(self) -> None:
        parser = RequestParser(SMALL, CLIENT)
        parser.unparsed = request(b"/", b"Upgrade: websocket", b"Connection: Upgrade") + b"\x81\x85frames"
        parser.parse()
        self.assertEqual((len(parser.ready), bytes(parser.unparsed)), (1, b"\x81\x85frames"))

    def test_few_requests_are_parsed_ahead(self) -> None:
        parser = RequestParser(SMALL, CLIENT)
        one = b"GET / HTTP/1.0\r\n\r\n"
        parser.unparsed = b"GET / HTTP/1.1\r\nHost:\r\n\r\n" * 10_000
        parser.parse()
        self.assertLess(len(parser.ready), READ_AHEAD // len(one))

    def test_a_repeated_request_is_remembered_only_as_a_whole(self) -> None:
        get, other = request(b"/a"), request(b"/b")
        for pieces in (
            (get, get, get),
            (get, get + other, get),
            (get, get[:10], get[10:], get),
            (get, request(b"/", b"Content-Length: 1", method=b"POST"), b"x", get),
            (get, request(b"/", b"Content-Length: 60", method=b"POST"), get),
        ):
            limits = HTTPLimits()
            self.assertEqual(
                told(parse(*pieces, limits=limits)), told(parse(b"".join(pieces), limits=limits)), pieces
            )


WELL_FORMED = [
    request(b"/api/v1/hls/playlist.m3u8"),
    request(b"/a?b=c", b"Range: bytes=0-1"),
    request(b"/", b"Content-Length: 5", method=b"POST") + b"hello",
    request(b"/", b"Transfer-Encoding: chunked", method=b"POST") + b"5\r\nhello\r\n0\r\n\r\n",
    request(b"/", b"Upgrade: h2c", b"Connection: Upgrade", b"Content-Length: 2", method=b"PUT") + b"ab",
    request(b"/", version=b"HTTP/1.0"),
    request(b"/", b"Connection: close"),
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    data = bytearray(b"".join(draw(st.lists(st.sampled_from(WELL_FORMED), min_size=1, max_size=4))))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data) - 1))
        kind = draw(st.integers(0, 2))
        if kind == 0:
            data[at] = draw(st.integers(0, 255))
        elif kind == 1:
            data[at:at] = draw(
                st.sampled_from([b"\r\n", b"\n", b"\r\n\r\n", b" ", b"\x00", b"0", b":", b"chunked"])
            )
        else:
            del data[at : at + draw(st.integers(1, 8))]
            if not data:
                data += b"x"
    return bytes(data)


class FuzzTests(SynchronousTestCase):
    @settings(max_examples=200, deadline=None)
    @given(
        st.lists(
            st.one_of(
                st.sampled_from(
                    [b"GET /a", b"HEAD /a?b=c?d", b"POST /a", b"GET *", b"GET http://o/x", b"GET /a#b"]
                ),
                st.binary(max_size=20).map(lambda tail: b"GET /" + tail),
            ),
            max_size=6,
        ),
        st.sampled_from([b"HTTP/1.1", b"HTTP/1.0"]),
        st.sampled_from(
            [(), (b"Connection: close",), (b"Upgrade: h2c", b"Connection: Upgrade"), (b"Content-Length: 0",)]
        ),
    )
    def test_repeated_fields_mean_what_they_meant(
        self, lines: list[bytes], version: bytes, headers: tuple[bytes, ...]
    ) -> None:
        pieces = [b"\r\n".join((line + b" " + version, b"Host: a", *headers, b"", b"")) for line in lines]
        self.assertEqual(told(parse(*pieces)), told(parse(b"".join(pieces))))

    @settings(max_examples=300, deadline=None)
    @given(st.one_of(st.binary(max_size=300), mutated()), st.lists(st.integers(0, 400), max_size=12))
    def test_split_anywhere_gives_the_same(self, data: bytes, cuts: list[int]) -> None:
        points = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
        pieces = [data[start:end] for start, end in pairwise(points)]
        self.assertEqual(told(parse(*pieces)), told(parse(data)))
