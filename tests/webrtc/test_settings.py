"""[webrtc]: what is accepted."""

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.webrtc.settings import WebrtcSettings


class TestSettings(SynchronousTestCase):
    def read(self, **values: object) -> WebrtcSettings:
        return msgspec.convert(values, WebrtcSettings)

    def test_what_is_good(self) -> None:
        self.read()
        self.read(host="::", addresses=["203.0.113.7", "2001:db8::1"])
        self.read(stun_servers=["stun:stun.example.com:3478"], turn_servers=[{"url": "turns:a.example:5349"}])

    def test_what_is_not(self) -> None:
        for values in (
            {"host": "localhost"},
            {"addresses": ["example.com"]},
            {"addresses": ["fe80::1%eth0"]},
            {"stun_servers": ["stun.example.com"]},
            {"stun_servers": ["stun:a>b"]},
            {"turn_servers": [{"url": "stun:a"}]},
            {"max_sessions": 0},
        ):
            with self.assertRaises((msgspec.ValidationError, ValueError), msg=str(values)):
                self.read(**values)

    def test_a_password_is_not_shown(self) -> None:
        settings = self.read(turn_servers=[{"url": "turn:a", "username": "u", "credential": "hidden"}])
        self.assertNotIn("hidden", repr(settings))
