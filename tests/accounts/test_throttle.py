"""How long who fails to log in has to wait, and who never does."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.accounts.throttle import (
    CROWD,
    GAP,
    KNOWN_NETWORKS,
    LONGEST_WAIT,
    NEIGHBOURS,
    NETWORKS,
    QUIET,
    LoginThrottle,
)
from oxidecast.accounts.turns import LONGEST_TURN, TURN_LASTS

HOME = "192.0.2.1"


class ThrottleCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.throttle = LoginThrottle(self.clock, attempts=3, refill=10.0)

    def tries(self, address: str, username: str, times: int = 3) -> None:
        for _ in range(times):
            self.assertEqual(self.throttle.attempt(address, username), 0.0)

    def attack(self, username: str, times: int = 1) -> None:
        """From many addresses, each of which does what it may."""
        for number in range(CROWD):
            self.tries(f"198.51.100.{number}", username)
        for number in range(3 * CROWD * (times - 1)):
            address = f"10.1.{number >> 8}.{number & 255}"
            while (wait := self.throttle.attempt(address, username)) > 0.0:
                self.clock.advance(wait)


class OnePair(ThrottleCase):
    def test_the_fourth_try_waits(self) -> None:
        self.tries(HOME, "ada")
        self.assertEqual(self.throttle.attempt(HOME, "ADA"), 10.0)

    def test_each_further_failure_waits_twice_as_long(self) -> None:
        self.tries(HOME, "ada")
        for wait in (10.0, 20.0, 40.0, 80.0, 160.0, LONGEST_WAIT, LONGEST_WAIT):
            self.assertEqual(self.throttle.attempt(HOME, "ada"), wait)
            self.clock.advance(wait - 1)
            self.assertEqual(self.throttle.attempt(HOME, "ada"), 1.0)
            self.clock.advance(1)
            self.assertEqual(self.throttle.attempt(HOME, "ada"), 0.0)

    def test_it_never_waits_for_ever(self) -> None:
        for _ in range(5000):
            wait = self.throttle.attempt(HOME, "ada")
            self.assertTrue(wait <= LONGEST_WAIT)
            self.clock.advance(wait)

    def test_a_refused_try_costs_nothing(self) -> None:
        self.tries(HOME, "ada")
        for _ in range(100):
            self.throttle.attempt(HOME, "ada")
        self.clock.advance(10)
        self.assertEqual(self.throttle.attempt(HOME, "ada"), 0.0)

    def test_quiet_forgives(self) -> None:
        self.tries(HOME, "ada")
        self.clock.advance(QUIET)
        self.tries(HOME, "ada")
        self.assertEqual(self.throttle.attempt(HOME, "ada"), 10.0)

    def test_coming_back_after_quiet_is_no_faster_than_going_on(self) -> None:
        tries, end = 0, self.clock.seconds() + 10 * QUIET
        while self.clock.seconds() < end:
            tries += 1
            self.clock.advance(self.throttle.attempt(HOME, "ada"))
        self.assertGreaterEqual(tries, 10 * 3)

    def test_success_forgives(self) -> None:
        self.tries(HOME, "ada")
        self.throttle.succeeded(HOME, "Ada")
        self.assertEqual(self.throttle.attempt(HOME, "ada"), 0.0)

    def test_a_try_that_was_none_is_not_counted(self) -> None:
        for _ in range(100):
            self.tries(HOME, "ada", 1)
            self.throttle.undo(HOME, "ada")

    def test_a_clock_that_goes_back_lengthens_no_wait(self) -> None:
        self.tries(HOME, "ada")
        self.clock.rightNow -= 500_000
        self.assertEqual(self.throttle.attempt(HOME, "ada"), 10.0)

    def test_a_first_wait_that_is_longer_than_the_longest_stays(self) -> None:
        self.throttle = LoginThrottle(self.clock, 1, 1000.0)
        self.tries(HOME, "ada", 1)
        self.assertEqual(self.throttle.attempt(HOME, "ada"), 1000.0)


class Reloading(ThrottleCase):
    def test_other_numbers_forget_nobody(self) -> None:
        self.tries(HOME, "ada")
        self.throttle.limit(4, 20.0)
        self.tries(HOME, "ada", 1)
        self.assertEqual(self.throttle.attempt(HOME, "ada"), 20.0)


class Others(ThrottleCase):
    def test_the_owner_gets_in_from_elsewhere(self) -> None:
        self.tries(HOME, "ada")
        self.assertEqual(self.throttle.attempt("192.0.2.2", "ada"), 0.0)

    def test_an_address_that_tries_many_names_has_to_wait(self) -> None:
        for number in range(3 * NEIGHBOURS):
            self.tries(HOME, f"user{number}", 1)
        for number in range(3):
            wait = self.throttle.attempt(HOME, f"another{number}")
            self.assertEqual(wait, LONGEST_WAIT)
            self.clock.advance(wait)
            self.tries(HOME, f"another{number}", 1)

    def test_it_holds_up_nobody_who_is_known_there(self) -> None:
        self.throttle.seen(HOME, "ada")
        for number in range(100):
            self.throttle.attempt(HOME, f"user{number}")
        self.tries(HOME, "ada")

    def test_mistypes_of_many_people_never_add_up(self) -> None:
        """200 people behind one address, two logins a day each, every seventh mistyped, for a week."""
        for one in range(200 * 2 * 7):
            self.clock.advance(86_400 / 400)
            name = f"user{one % 200}"
            if one % 7 == 0:
                self.tries(HOME, name, 1)
            self.tries(HOME, name, 1)
            self.throttle.succeeded(HOME, name)

    def test_one_that_knows_a_password_is_not_forgiven_the_other_names(self) -> None:
        for number in range(3 * NEIGHBOURS - 1):
            self.tries(HOME, f"user{number}", 1)
            self.tries(HOME, "mallory", 1)
            self.throttle.succeeded(HOME, "mallory")
        self.tries(HOME, "another", 1)
        self.assertGreater(self.throttle.attempt(HOME, "one more"), 0.0)

    def test_many_people_behind_one_address_log_in(self) -> None:
        for number in range(1000):
            self.tries(HOME, f"user{number}", 1)
            self.throttle.succeeded(HOME, f"user{number}")

    def test_addresses_of_one_ipv6_network_count_together(self) -> None:
        for number in range(3):
            self.throttle.attempt(f"2001:db8::{number}", "ada")
        self.assertGreater(self.throttle.attempt("2001:db8::ffff:1:2:3", "ada"), 0.0)
        self.assertEqual(self.throttle.attempt("2001:db8:0:1::1", "ada"), 0.0)


class Crowd(ThrottleCase):
    def test_an_account_under_attack_gives_strangers_one_try(self) -> None:
        self.attack("ada")
        self.tries("203.0.113.9", "ada", 1)
        self.assertEqual(self.throttle.attempt("203.0.113.9", "ada"), 10.0)

    def test_its_owner_gets_in_from_anywhere(self) -> None:
        self.attack("ada")
        self.tries("203.0.113.9", "ada", 1)
        self.throttle.succeeded("203.0.113.9", "ada")

    def test_who_logged_in_lately_may_try_as_often_as_ever(self) -> None:
        self.throttle.attempt(HOME, "ada")
        self.throttle.succeeded(HOME, "ada")
        self.attack("ada")
        self.tries(HOME, "ada")
        self.assertEqual(self.throttle.attempt(HOME, "ada"), 10.0)

    def test_other_accounts_are_as_ever(self) -> None:
        self.attack("ada")
        self.tries("203.0.113.9", "bob")

    def test_a_name_that_is_no_accounts_is_treated_alike(self) -> None:
        waits = []
        for name in ("ada", "nobody"):
            self.setUp()
            if name == "ada":  # an account that somebody has
                self.throttle.attempt(HOME, name)
                self.throttle.succeeded(HOME, name)
            self.attack(name, 3)
            waits.append([self.throttle.attempt(f"203.0.113.{number % 20}", name) for number in range(60)])
        self.assertEqual(*waits)

    def test_an_attack_that_is_over_is_forgotten(self) -> None:
        self.attack("ada")
        self.clock.advance(QUIET)
        self.tries("203.0.113.9", "ada")


class Neighbours(ThrottleCase):
    def everywhere(self, username: str) -> int:
        """How many tries all networks of a /48 have at once, none more than one."""
        return sum(self.throttle.attempt(f"2001:db8:1:{one:x}::1", username) == 0.0 for one in range(65_536))

    def test_a_site_of_65536_networks_has_no_more_tries_at_an_account_than_make_an_attack(self) -> None:
        self.assertEqual(self.everywhere("ada"), 3 * CROWD + 1)

    def exhaust(self) -> int:
        """How many tries a /48 has at once, each from another network and at another account."""
        return sum(
            self.throttle.attempt(f"2001:db8:1:{one * 60:x}::1", f"user{one}") == 0.0 for one in range(1000)
        )

    def test_nor_at_all_accounts_than_are_free_for_a_site(self) -> None:
        self.assertEqual(self.exhaust(), 3 * NEIGHBOURS * NETWORKS[-1][1])

    def test_wider_networks_have_more(self) -> None:
        for (bits, times), step in zip(NETWORKS[1:], (1, 256), strict=True):
            self.setUp()
            most = 3 * NEIGHBOURS * times
            for one in range(most):
                self.tries(f"2001:db8:1:{one * step % 65_536:x}::{one}", f"user{one}", 1)
            near = self.throttle.attempt(f"2001:db8:1:{'ff' if bits == 56 else 'ffff'}::1", "another")
            self.assertEqual(near, LONGEST_WAIT / times)
            self.tries("2001:db8:2::1", "another", 1)
            self.clock.advance(near)
            self.tries("2001:db8:1:ff::1", "another", 1)

    def test_they_hold_up_nobody_who_is_known(self) -> None:
        self.throttle.attempt("2001:db8:1:aa::1", "bob")
        self.throttle.succeeded("2001:db8:1:aa::1", "bob")
        self.exhaust()
        self.tries("2001:db8:1:aa::2", "bob")

    def test_one_that_knows_a_password_wins_no_tries_by_it(self) -> None:
        self.exhaust()
        for _ in range(50):
            self.throttle.seen("2001:db8:1:aa::1", "mallory")
            self.tries("2001:db8:1:aa::1", "mallory", 1)
            self.throttle.succeeded("2001:db8:1:aa::1", "mallory")
        self.assertGreater(self.throttle.attempt("2001:db8:1:bb::1", "another"), 0.0)

    def test_many_people_of_one_site_log_in(self) -> None:
        for number in range(1000):
            self.tries(f"2001:db8:1:{number:x}::1", f"user{number}", 1)
            self.throttle.succeeded(f"2001:db8:1:{number:x}::1", f"user{number}")


class Strangers(ThrottleCase):
    """An account that has been attacked for a while, from ever new addresses."""

    def setUp(self) -> None:
        super().setUp()
        self.throttle.seen(HOME, "ada")
        self.attack("ada", 6)
        self.clock.advance(60)

    def bots(self, count: int) -> int:
        """All ask; how many were let in."""
        return sum(self.throttle.attempt(f"10.9.{n >> 8}.{n & 255}", "ada") == 0.0 for n in range(count))

    def test_many_are_no_faster_than_few(self) -> None:
        tries = 0
        for _ in range(60):
            tries += self.bots(300)
            self.clock.advance(10)
        self.assertTrue(600 / 10 <= tries <= (600 + TURN_LASTS) / GAP, tries)

    def test_nor_when_all_ask_as_an_attack_begins(self) -> None:
        self.throttle = LoginThrottle(self.clock, attempts=3, refill=10.0)
        self.attack("ada")
        tries = 0
        for _ in range(60):
            tries += self.bots(300)
            self.clock.advance(10)
        self.assertLessEqual(tries, (600 + TURN_LASTS) / GAP)

    def test_the_owner_at_home_logs_in_at_once(self) -> None:
        self.bots(1000)
        self.tries(HOME, "ada")

    def test_the_owner_elsewhere_waits_for_those_who_asked_before(self) -> None:
        self.bots(100)
        wait = self.throttle.attempt("203.0.113.9", "ada")
        self.assertEqual(wait, 100 * GAP)
        for _ in range(50):
            self.clock.advance(wait / 50)
            self.bots(200)
        self.tries("203.0.113.9", "ada", 1)
        self.throttle.succeeded("203.0.113.9", "ada")
        self.tries("203.0.113.9", "ada", 3)

    def test_and_never_longer_than_the_bound(self) -> None:
        self.bots(int(LONGEST_TURN / GAP))
        wait = self.throttle.attempt("203.0.113.9", "ada")
        self.assertEqual(wait, LONGEST_TURN)
        for _ in range(10):
            self.clock.advance(wait / 10)
            self.bots(1000)
        self.tries("203.0.113.9", "ada", 1)

    def test_all_networks_of_a_site_have_one_turn_at_a_time(self) -> None:
        waits = [self.throttle.attempt(f"2001:db8:1:{one:x}::1", "ada") for one in range(1000)]
        self.assertEqual(waits, [0.0] + [GAP] * 999)
        self.assertEqual(self.throttle.attempt("203.0.113.9", "ada"), 2 * GAP)

    def test_a_turn_at_which_no_password_was_looked_at_is_still_there(self) -> None:
        self.bots(1)
        wait = self.throttle.attempt("203.0.113.9", "ada")
        self.clock.advance(wait)
        for _ in range(3):
            self.bots(100)
            self.tries("203.0.113.9", "ada", 1)
            self.throttle.undo("203.0.113.9", "ada")

    def test_anothers_networks_push_none_of_the_owners_out(self) -> None:
        for number in range(1000):
            self.throttle.seen(f"198.51.100.{number}", "mallory")
        self.assertTrue(self.throttle.knows(HOME, "ada"))
        for number in range(KNOWN_NETWORKS):
            self.throttle.seen(f"203.0.113.{number}", "ada")
        self.assertFalse(self.throttle.knows(HOME, "ada"))
        self.assertTrue(self.throttle.knows("203.0.113.0", "ada"))


class Memory(ThrottleCase):
    def test_it_is_bounded(self) -> None:
        self.throttle = throttle = LoginThrottle(self.clock, 3, 10.0, maximum=5)
        for number in range(100):
            throttle.attempt(f"192.0.2.{number}", f"user{number}" * 1000)
            throttle.succeeded(f"192.0.2.{number}", f"user{number}")
            throttle.attempt(f"192.0.2.{number}", f"user{number}")
        for number in range(100):
            throttle.attempt(f"2001:db8:{number}::1", f"user{number}")
        networks = [buckets for _, _, buckets in throttle._networks]
        for kept in (throttle._pairs, throttle._accounts, throttle._known, *networks):
            self.assertEqual(len(kept), 5)  # type: ignore[arg-type]

    def test_asking_takes_none(self) -> None:
        self.tries(HOME, "ada")
        self.clock.advance(1)
        self.throttle.attempt(HOME, "ada")
        self.assertEqual(len(self.throttle._pairs), 1)

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(("attempt", "succeeded", "undo")),
                st.text(max_size=5) | st.sampled_from((HOME, "2001:db8::1")),
                st.text(max_size=5) | st.just("ada"),
                st.floats(-100, 4000),
            ),
            max_size=40,
        )
    )
    @settings(max_examples=60, deadline=None)
    def test_no_order_of_things_makes_anybody_wait_longer_than_the_longest(self, steps: list) -> None:  # type: ignore[type-arg]
        self.setUp()
        for step, address, username, seconds in steps:
            wait = getattr(self.throttle, step)(address, username)
            if step == "attempt":
                self.assertTrue(0.0 <= wait <= max(LONGEST_WAIT, LONGEST_TURN))
            self.clock.rightNow += seconds
