"""The depth of JSON texts, also of those that are none."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.web.nesting import DEEPEST, too_deep


def depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return max(map(depth, inner), default=0) + isinstance(value, dict | list)


class NestingTests(SynchronousTestCase):
    def test_so_deep_and_no_deeper(self) -> None:
        for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
            for levels, deep in ((DEEPEST, False), (DEEPEST + 1, True), (60_000, True)):
                self.assertEqual(too_deep(opening * levels + b"1" + closing * levels), deep, levels)
                self.assertEqual(too_deep(opening * levels), deep, levels)

    def test_many_brackets_side_by_side(self) -> None:
        self.assertFalse(too_deep(b"[" + b"[],{}," * 5000 + b"[]]"))

    def test_brackets_in_strings_are_text(self) -> None:
        for text in ("[" * 100, '\\"' + "[" * 100, '"' + "{" * 100, "\\", "a\nb" + "[" * 99):
            self.assertFalse(too_deep(json.dumps({"a": text}).encode()), text)
        self.assertTrue(too_deep(b'"\\"' + b"[" * 100 + b'"' + b"[" * 100))

    def test_a_string_that_does_not_end(self) -> None:
        self.assertFalse(too_deep(b'"' + b"[" * 1000))

    @given(
        st.recursive(
            st.none() | st.text(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
            max_leaves=20,
        ),
        st.integers(20, 40),
    )
    def test_the_depth_of_anything(self, value: Any, more: int) -> None:
        for _ in range(more):
            value = [value, "[{"]
        self.assertEqual(too_deep(json.dumps(value).encode()), depth(value) > DEEPEST)

    @given(st.binary(max_size=200))
    def test_any_bytes(self, text: bytes) -> None:
        too_deep(text)
