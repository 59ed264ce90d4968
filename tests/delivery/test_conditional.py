from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.delivery.conditional import is_older, parse_range, preflight_head, represent
from oxidecast.delivery.hot import HotAnswer

BODY = b"0123456789"
ANSWER = HotAnswer(BODY, etag=b"e")


class RangeTests(SynchronousTestCase):
    def test_single_ranges(self) -> None:
        for value, span in (
            (b"bytes=0-4", (0, 5)),
            (b"bytes=5-", (5, 10)),
            (b"bytes=-3", (7, 10)),
            (b"bytes=-100", (0, 10)),
            (b"bytes=8-100", (8, 10)),
            (b"BYTES= 1 - 2 ", (1, 3)),
        ):
            self.assertEqual(parse_range(value, 10), span, value)

    def test_what_cannot_be_satisfied_is_empty(self) -> None:
        for value in (b"bytes=10-", b"bytes=99-100", b"bytes=-0"):
            first, end = parse_range(value, 10) or (0, 1)
            self.assertGreaterEqual(first, end, value)

    def test_what_is_not_one_valid_range_is_ignored(self) -> None:
        for value in (
            b"bytes=0-1,3-4", b"bytes=4-1", b"bytes=-", b"bytes=a-b", b"items=0-1", b"bytes", b"bytes=1-2-3",
            b"bytes=" + b"9" * 50 + b"-", b"bytes=--1", b"",
        ):  # fmt: skip
            self.assertIsNone(parse_range(value, 10), value)

    @given(st.binary(max_size=40), st.integers(0, 1000))
    def test_any_bytes_give_a_span_inside_or_nothing(self, spec: bytes, length: int) -> None:
        span = parse_range(b"bytes=" + spec, length)
        if span is not None and span[0] < span[1]:
            self.assertTrue(0 <= span[0] < span[1] <= length)


class RepresentTests(SynchronousTestCase):
    def represent(self, ranges: bool = True, **fields: bytes) -> tuple[int, bytes]:
        named = {name.replace("_", "-").encode(): value for name, value in fields.items()}
        status, _, body = represent(named, ANSWER, ranges)
        return status, bytes(body)

    def test_if_none_match(self) -> None:
        for value in (b'"e"', b"*", b'W/"e"', b'"a", "e"', b'"a",W/"e" , "b"'):
            self.assertEqual(self.represent(if_none_match=value), (304, b""), value)
        for value in (b'"f"', b"e", b"", b'"e'):
            self.assertEqual(self.represent(if_none_match=value), (200, BODY), value)

    def test_if_modified_since(self) -> None:
        answer = HotAnswer(b"picture", etag=b"two", modified=784111777.9)
        self.assertIn(b"Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n", answer.head)
        for since, status in (
            (b"Sun, 06 Nov 1994 08:49:37 GMT", 304),
            (b"Sunday, 06-Nov-94 08:49:37 GMT", 304),
            (b"Sun Nov  6 08:49:37 1994", 304),
            (b"Sun, 06 Nov 1994 08:49:36 GMT", 200),
            (b"Sun, 06 Nov 1994 09:49:36 +0100", 200),
            (b"yesterday", 200),
            (b"", 200),
        ):
            self.assertEqual(represent({b"if-modified-since": since}, answer, True)[0], status, since)
        # With If-None-Match it means nothing (13.1.3).
        both = {b"if-modified-since": b"Sun, 06 Nov 1994 08:49:37 GMT", b"if-none-match": b'"one"'}
        self.assertEqual(represent(both, answer, True)[0], 200)
        self.assertEqual(represent(both, HotAnswer(b"untold"), True)[0], 200)

    @given(st.binary(max_size=40))
    def test_any_bytes_are_a_date_or_ignored(self, since: bytes) -> None:
        self.assertIn(is_older(0.0, since), (True, False))

    def test_a_condition_that_matches_goes_before_a_range(self) -> None:
        self.assertEqual(self.represent(if_none_match=b'"e"', range=b"bytes=0-1"), (304, b""))

    def test_if_range_is_strong_and_knows_no_dates(self) -> None:
        self.assertEqual(self.represent(range=b"bytes=0-1", if_range=b'"e"'), (206, b"01"))
        for value in (b'W/"e"', b'"f"', b"Sun, 06 Nov 1994 08:49:37 GMT"):
            self.assertEqual(self.represent(range=b"bytes=0-1", if_range=value), (200, BODY), value)

    def test_ranges_only_where_they_are_allowed(self) -> None:
        self.assertEqual(self.represent(ranges=False, range=b"bytes=0-1"), (200, BODY))

    def test_416_says_how_long_it_is(self) -> None:
        status, head, body = represent({b"range": b"bytes=10-"}, ANSWER, True)
        self.assertEqual((status, bytes(body)), (416, b""))
        self.assertIn(b"Content-Range: bytes */10\r\n", head)
        self.assertIn(b"Content-Length: 0\r\n", head)

    def test_a_range_is_a_view_of_the_same_memory(self) -> None:
        _, _, body = represent({b"range": b"bytes=2-3"}, ANSWER, True)
        assert isinstance(body, memoryview)
        self.assertIs(body.obj, BODY)


class PreflightTests(SynchronousTestCase):
    def test_requested_fields_are_allowed(self) -> None:
        head = preflight_head({b"access-control-request-headers": b"range, authorization"})
        self.assertIn(b"Access-Control-Allow-Headers: range, authorization\r\n", head)

    def test_what_is_not_a_list_of_names_is_not_repeated(self) -> None:
        self.assertNotIn(
            b"Allow-Headers", preflight_head({b"access-control-request-headers": b"a b<script>"})
        )
