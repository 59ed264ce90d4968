"""Text from outside that must stay in its line."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.formats.lines import one_line

HOSTILE = st.text(st.characters(exclude_categories=()), max_size=300)
"""Any code points, lone surrogates included."""


class OneLineTests(SynchronousTestCase):
    def test_what_becomes_of_text(self) -> None:
        for text, line in [
            ("Evening news", "Evening news"),
            ("a\r\nb", "a b"),
            ("a\0b\x1bc\x7fd\x85e", "a b c d e"),
            ("a\u2028b\u2029c", "a b c"),
            (" \t two  words \n", "two words"),
            ("\ud800x\udfff", "x"),
            ("\u202egnp.exe", "gnp.exe"),
            ("Fußball – 足球 ⚽", "Fußball – 足球 ⚽"),
            ("👩\u200d🚀", "👩\u200d🚀"),
            ("", ""),
            ("\n\n", ""),
        ]:
            with self.subTest(text=text):
                self.assertEqual(one_line(text, 200), line)

    def test_it_is_cut_between_characters(self) -> None:
        for text, longest, line in [
            ("äöü", 4, "äö"),
            ("äöü", 5, "äö"),
            ("a b", 2, "a"),
            ("⚽" * 10**6, 7, "⚽⚽"),
        ]:
            with self.subTest(longest=longest):
                self.assertEqual(one_line(text, longest), line)

    @given(HOSTILE, st.integers(0, 100))
    @settings(max_examples=200, deadline=None)
    def test_any_text_is_one_short_line(self, text: str, longest: int) -> None:
        line = one_line(text, longest)
        self.assertLessEqual(len(line.encode()), longest)
        self.assertLessEqual(len(line.splitlines()), 1)
        self.assertNotIn("\0", line)
        self.assertEqual(one_line(line, longest), line)
