from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.delivery.hot import HotAnswer, HotRequest, decode_path
from oxidecast.media.errors import LocalProtocolError


class DecodePathTests(SynchronousTestCase):
    def test_plain_and_escaped_names_are_decoded(self) -> None:
        for raw, decoded in (
            (b"cam/720p/1.m4s", b"cam/720p/1.m4s"),
            (b"my%20cam/a", b"my cam/a"),
            (b"caf%C3%A9", b"caf\xc3\xa9"),
            (b"%252e%252e/x", b"%2e%2e/x"),
            (b"..a/b..", b"..a/b.."),
            (b"", b""),
        ):
            self.assertEqual(decode_path(raw), decoded)

    def test_paths_that_try_to_be_more_than_a_name_are_none(self) -> None:
        for raw in (
            b"../x", b"a/../b", b"a/..", b"a/./b", b".", b"%2e%2e/x", b"a/%2E%2e", b"a%2fb", b"a%2Fb",
            b"a\\b", b"a%5cb", b"a%00b", b"a%0ab", b"a%7f", b"%", b"a%zz", b"a%1",
        ):  # fmt: skip
            self.assertIsNone(decode_path(raw), raw)


class HotAnswerTests(SynchronousTestCase):
    def test_the_head_is_rendered_once(self) -> None:
        answer = HotAnswer(b"x")
        self.assertIs(answer.head, answer.head)
        self.assertIs(answer.not_modified_head, answer.not_modified_head)

    def test_a_field_value_with_a_line_break_is_our_own_mistake(self) -> None:
        for answer in (
            HotAnswer(content_type=b"a\r\nb"),
            HotAnswer(etag=b"a\nb"),
            HotAnswer(headers=((b"X", b"a\x00"),)),
            HotAnswer(headers=((b"X: y", b"a"),)),
        ):
            self.assertRaises(LocalProtocolError, lambda answer=answer: answer.head)

    def test_no_content_has_no_length(self) -> None:
        self.assertNotIn(b"Content-Length", HotAnswer(status=204).head)


class HotRequestTests(SynchronousTestCase):
    def test_the_query_is_decoded_and_the_first_of_a_repeated_parameter_counts(self) -> None:
        request = HotRequest()
        request.raw_query = b"_HLS_msn=5&token=a%2Bb&token=c&empty="
        self.assertEqual(request.query, {b"_HLS_msn": b"5", b"token": b"a+b", b"empty": b""})

    def test_a_query_of_any_bytes(self) -> None:
        request = HotRequest()
        request.raw_query = b"a=%ff%00&%C3%A9=\xfe&quality=H%C3%B6he"
        self.assertEqual(
            request.query,
            {b"a": b"\xff\0", b"\xc3\xa9": b"\xfe", b"quality": "Höhe".encode()},
        )

    @given(st.binary(max_size=200))
    def test_whatever_the_query_is_it_is_read(self, query: bytes) -> None:
        request = HotRequest()
        request.raw_query = query
        request.query  # noqa: B018
