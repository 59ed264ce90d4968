"""What people are told of a value that is wrong."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.web import fields
from oxidecast.web.fields import in_words


class Words(SynchronousTestCase):
    def test_every_rule_has_its_words(self) -> None:
        whole = Annotated[int, Meta(ge=1, le=9)]
        for type, value, words in (
            (fields.Title, "", "must not be empty"),
            (fields.Title, "x" * 201, "must have at most 200 characters"),
            (fields.Title, "\0", "must not have NUL characters"),
            (fields.Password, "short", "must have at least 8 characters"),
            (fields.Profiles, ["x"] * 21, "must have at most 20 entries"),
            (fields.Profiles, ["x", 5], "must be text, not a whole number"),
            (
                fields.Time,
                "2026-01-01T00:00:00",
                "must be a time with its zone, such as 2026-01-31T12:00:00Z",
            ),
            (fields.Time, "soon", "must be a time with its zone, such as 2026-01-31T12:00:00Z"),
            (whole, 0, "must be 1 or more"),
            (whole, 10, "must be 9 or less"),
            (Annotated[float, Meta(gt=0)], 0.0, "must be more than 0.0"),
            (str | None, 5, "must be text or null, not a whole number"),
            (bool, "yes", "must be true or false, not text"),
            (dict[str, bool], [1], "must be an object, not a list"),
        ):
            kind: Any = type
            with self.assertRaises(msgspec.ValidationError) as raised:
                msgspec.convert(value, kind)
            self.assertEqual(in_words(str(raised.exception)), words)

    def test_what_has_none_stays(self) -> None:
        self.assertEqual(in_words("Something new - at `$.x`"), "Something new")
