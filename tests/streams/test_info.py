from uuid import uuid4

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.streams.info import is_stream_id, is_stream_name, name_from_title, numbered


class Names(SynchronousTestCase):
    def test_names(self) -> None:
        for name in ("a", "0", "my-stream", "x" * 64):
            self.assertTrue(is_stream_name(name), name)

    def test_what_is_no_name(self) -> None:
        for name in ("", "-a", "a-", "A", "a_b", "a/b", "..", "x" * 65, "ä", "a\n", "²"):
            self.assertFalse(is_stream_name(name), name)

    def test_an_id_is_no_name(self) -> None:
        value = uuid4()
        for text in (str(value), value.hex):
            self.assertTrue(is_stream_id(text))
            self.assertFalse(is_stream_name(text))

    def test_from_titles(self) -> None:
        for title, name in (
            ("My stream", "my-stream"),
            ("Überblick: 3. Tag!", "uberblick-3-tag"),
            ("東京", "stream"),
            ("", "stream"),
            ("../../etc/passwd", "etc-passwd"),
            ("0" * 32, "stream-" + "0" * 32),
        ):
            self.assertEqual(name_from_title(title), name)

    @given(st.text(max_size=300) | st.uuids().map(str))
    @settings(max_examples=200, deadline=None)
    def test_any_title_gives_a_name_that_can_be_numbered(self, title: str) -> None:
        name = name_from_title(title)
        self.assertTrue(is_stream_name(name), name)
        self.assertTrue(is_stream_name(numbered(name, 123)), name)
