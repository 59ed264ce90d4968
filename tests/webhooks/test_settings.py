"""[webhooks], and what `oxidecast check` says of it."""

import json
import socket
from base64 import b64encode
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.foundation import configure
from oxidecast.settings import SettingsError
from oxidecast.settings.section import Invalid
from oxidecast.webhooks import check as module
from oxidecast.webhooks.check import check
from oxidecast.webhooks.settings import (
    EVENTS,
    MOST_ENDPOINTS,
    DeciderSettings,
    EndpointSettings,
    WebhooksSettings,
    check_url,
)
from tests.webhooks.receiver import SECRET


def endpoint(**changes: Any) -> EndpointSettings:
    return EndpointSettings(
        **{"name": "site", "url": "https://example.com/hook", "secret": SECRET, **changes}
    )


class Rules(SynchronousTestCase):
    def refused(self, key: str, **changes: Any) -> None:
        error = self.assertRaises(Invalid, endpoint, **changes)
        self.assertEqual(error.key, key, changes)

    def test_an_address_is_one_that_can_be_posted_to(self) -> None:
        for url in (
            "",
            "example.com",
            "ftp://example.com",
            "file:///etc/passwd",
            "https://",
            "https://:8080/",
            "https://example.com:99999/",
            "https://example.com:0/",
            "https://user:password@example.com/",
            "https://user@example.com/",
            "https://example.com/#part",
            "https://example.com/a b",
            "https://example.com/\r\nX: y",
            "https://exämple.com/",
            "https://example.com\\@other.example.com/",
            "https://example.com/" + "a" * 2048,
        ):
            self.refused("url", url=url)
        for url in ("http://127.0.0.1:1/", "https://[::1]:8443/x?y=z", "HTTPS://Example.com"):
            endpoint(url=url)

    @given(st.text(max_size=60))
    def test_any_text_is_an_address_or_a_mistake(self, text: str) -> None:
        for url in (text, f"https://{text}"):
            try:
                check_url(url)
            except Invalid:
                pass

    def test_a_secret_is_long_enough_in_either_way_of_writing_it(self) -> None:
        self.refused("secret", secret="short")
        self.refused("secret", secret="whsec_" + "#" * 60)
        self.refused("secret", secret="whsec_" + b64encode(b"k" * 31).decode())
        endpoint(secret="whsec_" + b64encode(b"k" * 32).decode())
        self.assertRaises(Invalid, DeciderSettings, url="https://example.com/", secret="short")

    def test_names_are_plain_and_differ(self) -> None:
        for name in ("", "Site", "a b", "-a", "a" * 33, "a.b"):
            self.refused("name", name=name)
        self.assertRaises(Invalid, WebhooksSettings, endpoints=(endpoint(), endpoint()))

    def test_there_is_a_most(self) -> None:
        many = tuple(endpoint(name=f"n{number}") for number in range(MOST_ENDPOINTS + 1))
        self.assertRaises(Invalid, WebhooksSettings, endpoints=many)

    def test_an_unknown_event_is_named(self) -> None:
        wrong = {"name": "site", "url": "https://example.com/", "secret": SECRET, "events": ["stream.gone"]}
        error = self.assertRaises(
            SettingsError, configure, None, {"OXIDECAST_WEBHOOKS_ENDPOINTS": json.dumps([wrong])}
        )
        self.assertIn('must be one of "publish.refused"', str(error))
        self.assertNotIn(SECRET, str(error))

    def test_without_events_it_hears_of_all(self) -> None:
        self.assertEqual(endpoint().events, EVENTS)

    def test_neither_secrets_nor_addresses_are_shown(self) -> None:
        settings = WebhooksSettings(
            endpoints=(endpoint(url="https://example.com/hidden"),),
            on_publish=DeciderSettings(url="https://example.com/hidden", secret=SECRET),
        )
        self.assertNotIn(SECRET, repr(settings))
        self.assertNotIn("hidden", repr(settings))


class Check(SynchronousTestCase):
    """`addresses` is what the name service says."""

    def lines(self, url: str, addresses: list[str], allow_private: bool = False) -> list[str]:
        def found(host: str, port: int, **more: Any) -> list[Any]:
            if not addresses:
                raise socket.gaierror("no such name")
            return [(0, 0, 0, "", (address, port)) for address in addresses]

        self.patch(module.socket, "getaddrinfo", found)
        settings = WebhooksSettings(endpoints=(endpoint(url=url, allow_private=allow_private),))
        return [f"{verdict}: {sentence}" for verdict, sentence in check(settings)]

    def test_a_public_address(self) -> None:
        self.assertEqual(
            self.lines("https://example.com/hidden", ["8.8.8.8"]),
            ["ok: webhook site: example.com is 8.8.8.8"],
        )

    def test_one_that_is_not_encrypted(self) -> None:
        lines = self.lines("http://example.com/hidden", ["8.8.8.8"])
        self.assertTrue(lines[1].startswith("warn: webhook site: what is posted to example.com can be read"))
        self.assertEqual(len(self.lines("http://box.lan/", ["10.0.0.1"], allow_private=True)), 1)

    def test_a_private_one(self) -> None:
        (line,) = self.lines("https://example.com/", ["10.0.0.1"])
        self.assertEqual(
            line,
            "fail: webhook site: example.com is 10.0.0.1, which is a private address; "
            "set allow_private = true if that is meant",
        )

    def test_metadata(self) -> None:
        (line,) = self.lines("http://example.com/", ["169.254.169.254"], allow_private=True)
        self.assertTrue(line.startswith("fail:") and line.endswith("name another host"), line)

    def test_a_name_that_does_not_resolve(self) -> None:
        (line,) = self.lines("https://example.com/", [])
        self.assertTrue(line.startswith("warn: webhook site: example.com does not resolve"), line)

    def test_who_decides_is_looked_at_as_well(self) -> None:
        self.patch(module.socket, "getaddrinfo", lambda *a, **k: [(0, 0, 0, "", ("8.8.8.8", 443))])
        on_publish = DeciderSettings(url="https://example.com/", secret=SECRET)
        lines = list(check(WebhooksSettings(on_publish=on_publish)))
        self.assertEqual(lines, [("ok", "webhooks.on_publish: example.com is 8.8.8.8")])
