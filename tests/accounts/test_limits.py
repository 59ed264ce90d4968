from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.accounts.limits import NEIGHBOURS, LoginThrottle, TokenBuckets, network_of


class Buckets(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.buckets = TokenBuckets(self.clock, burst=2, refill=10.0, maximum=3)

    def test_a_burst_passes_and_then_one_each_interval(self) -> None:
        for _ in range(2):
            self.assertEqual(self.buckets.wait("a"), 0.0)
            self.buckets.take("a")
        self.assertEqual(self.buckets.wait("a"), 10.0)
        self.clock.advance(4)
        self.assertEqual(self.buckets.wait("a"), 6.0)
        self.clock.advance(6)
        self.assertEqual(self.buckets.wait("a"), 0.0)

    def test_a_bucket_never_holds_more_than_its_burst(self) -> None:
        self.buckets.take("a")
        self.clock.advance(1e9)
        for _ in range(2):
            self.buckets.take("a")
        self.assertGreater(self.buckets.wait("a"), 0.0)

    def test_keys_do_not_share(self) -> None:
        for _ in range(2):
            self.buckets.take("a")
        self.assertEqual(self.buckets.wait("b"), 0.0)

    def test_memory_is_bounded(self) -> None:
        for number in range(1000):
            self.buckets.take(number)
        self.assertEqual(len(self.buckets), 3)

    def test_asking_takes_no_memory(self) -> None:
        self.buckets.wait("a")
        self.assertEqual(len(self.buckets), 0)

    def test_a_clock_that_goes_back_empties_nothing(self) -> None:
        self.clock.advance(100)
        self.buckets.take("a")
        self.clock.rightNow = 0.0
        self.assertEqual(self.buckets.wait("a"), 0.0)


class Logins(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.throttle = LoginThrottle(self.clock, attempts=3, refill=10.0)

    def exhaust(self, address: str, username: str) -> None:
        for _ in range(3):
            self.assertEqual(self.throttle.attempt(address, username), 0.0)

    def test_the_fourth_try_waits(self) -> None:
        self.exhaust("192.0.2.1", "ada")
        self.assertEqual(self.throttle.attempt("192.0.2.1", "ADA"), 10.0)

    def test_a_refused_try_costs_nothing(self) -> None:
        self.exhaust("192.0.2.1", "ada")
        for _ in range(100):
            self.throttle.attempt("192.0.2.1", "ada")
        self.clock.advance(10)
        self.assertEqual(self.throttle.attempt("192.0.2.1", "ada"), 0.0)

    def test_the_owner_gets_in_from_elsewhere(self) -> None:
        self.exhaust("192.0.2.1", "ada")
        self.assertEqual(self.throttle.attempt("192.0.2.2", "ada"), 0.0)

    def test_an_address_that_tries_many_names_waits(self) -> None:
        for number in range(3 * NEIGHBOURS):
            self.assertEqual(self.throttle.attempt("192.0.2.1", f"user{number}"), 0.0)
        self.assertGreater(self.throttle.attempt("192.0.2.1", "another"), 0.0)

    def test_addresses_of_one_ipv6_network_count_together(self) -> None:
        for number in range(3):
            self.throttle.attempt(f"2001:db8::{number}", "ada")
        self.assertGreater(self.throttle.attempt("2001:db8::ffff:1:2:3", "ada"), 0.0)
        self.assertEqual(self.throttle.attempt("2001:db8:0:1::1", "ada"), 0.0)

    def test_success_forgives(self) -> None:
        self.exhaust("192.0.2.1", "ada")
        self.throttle.succeeded("192.0.2.1", "Ada")
        self.assertEqual(self.throttle.attempt("192.0.2.1", "ada"), 0.0)


class Networks(SynchronousTestCase):
    def test_networks(self) -> None:
        for address, network in (
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("fe80::1%eth0", "fe80::/64"),
            ("unix socket", "unix socket"),
        ):
            self.assertEqual(network_of(address), network)
