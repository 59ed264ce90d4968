"""The signature, against the specification's own example and the README's way to verify it."""

import re
from base64 import b64encode
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.webhooks.signature import WrongSecret, key_of, sign

README = Path(__file__).parents[2] / "README.md"


def readme_verify() -> Any:
    """The function that the README shows, as it stands there."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    (source,) = (block for block in blocks if "def verify" in block)
    names: dict[str, Any] = {}
    exec(compile(source, str(README), "exec"), names)
    return names["verify"]


class Signature(SynchronousTestCase):
    def test_the_example_that_implementations_share(self) -> None:
        headers = sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1614265330,
            b'{"test": 2432232314}',
            key_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        )
        self.assertEqual(
            headers,
            {
                "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
                "webhook-timestamp": "1614265330",
                "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            },
        )

    def test_a_secret_is_base64_behind_its_prefix_and_plain_text_otherwise(self) -> None:
        self.assertEqual(key_of("whsec_" + b64encode(b"key").decode()), b"key")
        self.assertEqual(key_of("plain é"), "plain é".encode())
        for wrong in ("whsec_###", "whsec_abc", "whsec_é"):
            self.assertRaises(WrongSecret, key_of, wrong)

    @given(st.text(max_size=80))
    def test_any_text_is_a_key_or_a_wrong_secret(self, text: str) -> None:
        for secret in (text, f"whsec_{text}"):
            try:
                self.assertIsInstance(key_of(secret), bytes)
            except (WrongSecret, UnicodeEncodeError):
                pass


class Readme(SynchronousTestCase):
    def setUp(self) -> None:
        self.verify = readme_verify()

    def test_it_accepts_what_is_signed(self) -> None:
        for secret in ("plain text that is long enough", "whsec_" + b64encode(b"k" * 32).decode()):
            headers = sign("evt_1", 1000, b"body", key_of(secret))
            self.assertTrue(self.verify(headers, b"body", secret, now=1010.0))

    def test_it_refuses_what_was_changed_what_is_old_and_another_secret(self) -> None:
        headers = sign("evt_1", 1000, b"body", key_of("secret"))
        self.assertFalse(self.verify(headers, b"Body", "secret", now=1010.0))
        self.assertFalse(self.verify(headers, b"body", "Secret", now=1010.0))
        self.assertFalse(self.verify(headers, b"body", "secret", now=2000.0))
        self.assertFalse(self.verify({**headers, "webhook-id": "evt_2"}, b"body", "secret", now=1010.0))
        self.assertFalse(self.verify({**headers, "webhook-timestamp": "1001"}, b"body", "secret", now=1010.0))
