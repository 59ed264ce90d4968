"""What a proxy says of its client: both forms, and what strangers put into them."""

from ipaddress import ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.formats.addresses import Address, Networks, address
from oxidecast.formats.forwarded import MOST_HOPS, Fields, Origin, forwarded, x_forwarded
from oxidecast.media.errors import RemoteProtocolError

TRUSTED = Networks(["10.0.0.0/8", "2001:db8:1::/48"])


def trusted(one: Address) -> bool:
    return one in TRUSTED


def chain(*values: bytes) -> Fields:
    return [(b"x-forwarded-for", value) for value in values]


class XForwardedTests(SynchronousTestCase):
    def client(self, *values: bytes) -> str:
        return str(x_forwarded(chain(*values), trusted).address)

    def test_the_last_address_that_is_no_proxy_of_ours(self) -> None:
        for values, client in (
            ((b"192.0.2.1",), "192.0.2.1"),
            ((b"192.0.2.1, 10.0.0.1",), "192.0.2.1"),
            ((b"203.0.113.9, 192.0.2.1, 10.0.0.1, 10.0.0.2",), "192.0.2.1"),
            ((b"203.0.113.9", b"192.0.2.1", b"10.0.0.1"), "192.0.2.1"),
            ((b"127.0.0.1, 192.0.2.1",), "192.0.2.1"),
            ((b"10.0.0.3, 10.0.0.1",), "10.0.0.3"),
            ((b", 192.0.2.1 , ,",), "192.0.2.1"),
            ((b"192.0.2.1:4711",), "192.0.2.1"),
            ((b"[2001:db8::7]:4711",), "2001:db8::7"),
            ((b"2001:db8::7, 2001:db8:1::1",), "2001:db8::7"),
            ((b"::ffff:192.0.2.1",), "192.0.2.1"),
            ((b"192.0.2.1, unknown, 10.0.0.1",), "10.0.0.1"),
            ((b"unknown",), "None"),
            ((), "None"),
        ):
            self.assertEqual(self.client(*values), client, values)

    def test_what_stands_before_the_client_is_not_looked_at(self) -> None:
        for own in (b"garbage", b"\xff\x00", b"1.2.3.4.5", b"a" * 5000):
            self.assertEqual(self.client(own + b", 192.0.2.1"), "192.0.2.1")

    def test_an_entry_that_counts_and_is_no_address(self) -> None:
        for value in (
            b"garbage",
            b"256.1.1.1",
            b"1.2.3.4:",
            b"[::1",
            b"1.2.3.4:123456",
            b"x, 10.0.0.1",
            b"[10.0.0.1",
        ):
            with self.assertRaisesRegex(RemoteProtocolError, "X-Forwarded-For"):
                self.client(value)

    def test_a_list_of_proxies_without_end(self) -> None:
        with self.assertRaisesRegex(RemoteProtocolError, "proxies"):
            self.client(b",".join([b"10.0.0.1"] * (MOST_HOPS + 1)))
        self.assertEqual(self.client(b",".join([b"10.0.0.1"] * MOST_HOPS)), "10.0.0.1")

    def test_protocol_and_host(self) -> None:
        for protocol, host, expected in (
            (b"https", b"tv.example", (True, b"tv.example")),
            (b"HTTP", b"tv.example:8443", (False, b"tv.example:8443")),
            (b"http, https", b"other.example, [2001:db8::1]:80", (True, b"[2001:db8::1]:80")),
            (b"gopher", b"a b", (None, None)),
            (b"", b"evil.example/path", (None, None)),
        ):
            fields = [(b"x-forwarded-proto", protocol), (b"x-forwarded-host", host)]
            origin = x_forwarded(fields, trusted)
            self.assertEqual((origin.secure, origin.host), expected)

    def test_the_other_form_is_not_heeded(self) -> None:
        self.assertEqual(x_forwarded([(b"forwarded", b"for=192.0.2.1")], trusted), Origin())
        self.assertEqual(forwarded(chain(b"192.0.2.1"), trusted), Origin())


class ForwardedTests(SynchronousTestCase):
    def origin(self, *values: bytes) -> Origin:
        return forwarded([(b"forwarded", value) for value in values], trusted)

    def test_entries(self) -> None:
        for values, client in (
            ((b"for=192.0.2.60;proto=http;by=203.0.113.43",), "192.0.2.60"),
            ((b'For="[2001:db8::17]:4711"',), "2001:db8::17"),
            ((b"for=192.0.2.43, for=198.51.100.17",), "198.51.100.17"),
            ((b"for=192.0.2.43", b"for=10.0.0.1;by=10.0.0.2"), "192.0.2.43"),
            ((b'for="_gazonk"',), "None"),
            ((b"for=unknown, for=10.0.0.1",), "10.0.0.1"),
            ((b"proto=https",), "None"),
            ((b'for="192.0.2.1\\:80"',), "192.0.2.1"),
            ((b", ,for=192.0.2.1,",), "192.0.2.1"),
            ((), "None"),
        ):
            self.assertEqual(str(self.origin(*values).address), client, values)

    def test_protocol_and_host_are_those_of_the_client(self) -> None:
        origin = self.origin(
            b"for=203.0.113.9;proto=http;host=evil.example, for=192.0.2.1;proto=https;host=tv.example, for=10.0.0.1"
        )
        self.assertEqual(origin, Origin(ip_address("192.0.2.1"), True, b"tv.example"))

    def test_a_quote_left_open_swallows_nothing(self) -> None:
        for own in (b'for="', b'for="x', b'a="b;', b'for="10.0.0.1'):
            for proxy in (
                b", for=192.0.2.1",
                b', for="192.0.2.1"',
                b', for="[2001:db8::1]";by="[2001:db8:1::1]"',
            ):
                with self.assertRaises(RemoteProtocolError):
                    self.origin(own + proxy)

    def test_what_is_malformed(self) -> None:
        for value in (
            b"for",
            b"for=",
            b"for=a b",
            b"for=1.2.3.4;;proto=http",
            b"for=1.2.3.4;",
            b"for=1;for=2",
            b"=x",
            b"for=1.2.3.4:80",
            b'for="1.2.3.4"x',
            b"192.0.2.1",
            b"for=banana",
            b";for=1.2.3.4",
        ):
            with self.assertRaisesRegex(RemoteProtocolError, "Forwarded"):
                self.origin(value)


class FuzzTests(SynchronousTestCase):
    ALPHABET = st.lists(
        st.sampled_from(
            [
                b"for=",
                b"proto=",
                b"host=",
                b'"',
                b"\\",
                b",",
                b";",
                b"=",
                b" ",
                b"10.0.0.1",
                b"192.0.2.1",
                b"[2001:db8::1]",
                b":80",
                b"unknown",
                b"https",
                b"_x",
                b"\xff",
            ]
        )
        | st.binary(max_size=4)
    ).map(b"".join)

    @given(ALPHABET)
    def test_anything_is_an_origin_or_refused(self, value: bytes) -> None:
        for read, name in ((forwarded, b"forwarded"), (x_forwarded, b"x-forwarded-for")):
            try:
                origin = read(
                    [(name, value), (b"x-forwarded-host", value), (b"x-forwarded-proto", value)], trusted
                )
            except RemoteProtocolError:
                continue
            self.assertIsInstance(origin, Origin)
            self.assertNotIn(b"\r", origin.host or b"")

    @given(ALPHABET)
    def test_the_client_cannot_speak_for_the_proxy(self, own: bytes) -> None:
        """Whatever it sends: a proxy that appends its address is believed, or the request refused."""
        self.assertEqual(str(x_forwarded(chain(own + b", 192.0.2.77"), trusted).address), "192.0.2.77")
        self.assertEqual(str(x_forwarded(chain(own, b"192.0.2.77"), trusted).address), "192.0.2.77")
        for fields in (
            [(b"forwarded", own + b", for=192.0.2.77")],
            [(b"forwarded", own), (b"forwarded", b"for=192.0.2.77")],
        ):
            try:
                origin = forwarded(fields, trusted)
            except RemoteProtocolError:
                continue
            self.assertEqual(str(origin.address), "192.0.2.77")


class AddressTests(SynchronousTestCase):
    def test_one_form(self) -> None:
        for text, form in (
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("fe80::1%eth0", "fe80::1"),
            ("192.0.2.1", "192.0.2.1"),
            ("x", "None"),
            ("", "None"),
            ("1" * 1000, "None"),
        ):
            self.assertEqual(str(address(text)), form)

    def test_networks(self) -> None:
        networks = Networks(["192.0.2.0/24", "2001:db8::1"])
        for one, inside in (
            ("192.0.2.9", True),
            ("::ffff:192.0.2.9", True),
            ("192.0.3.1", False),
            ("2001:db8::1", True),
            ("2001:db8::2", False),
            ("", False),
        ):
            self.assertEqual(one in networks, inside, one)
        self.assertFalse(Networks())
        self.assertRaises(ValueError, Networks, ["192.0.2.1/24"])
        self.assertEqual(ip_network("192.0.2.0/24").num_addresses, 256)

    @given(st.text(max_size=200))
    def test_any_text(self, text: str) -> None:
        address(text)
