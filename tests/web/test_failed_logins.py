"""Failed logins in the audit log: told of, and never so many that they fill it."""

from datetime import timedelta

from twisted.internet.defer import fail

from oxidecast.accounts import Accounts, Keyring, LoginThrottle, Tokens, secret_key
from oxidecast.database import DatabaseUnavailable
from oxidecast.database.audit import AuditLog, Entry
from oxidecast.web import failed_logins
from oxidecast.web.failed_logins import ACTION, BURST, PERIOD, REFILL, FailedLogins
from tests.accounts.support import PASSWORD, SECRET, AccountsCase
from tests.database.support import START, both_engines


@both_engines
class Counting(AccountsCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        tokens = Tokens(Keyring(secret_key(SECRET)), self.clock, 3600.0)
        throttle = LoginThrottle(self.clock, 3, 10.0)
        accounts = Accounts(self.database, self.clock, self.passwords, tokens, throttle, 86_400.0)
        await accounts.create("Ada", PASSWORD)
        self.audit = AuditLog(self.database, self.clock)
        self.failures = FailedLogins(accounts, self.audit, self.clock)

    async def written(self) -> list[Entry]:
        await self.failures.write()
        return (await self.audit.page(limit=100, action=ACTION)).items

    async def test_those_of_one_network_on_one_account_are_one_row(self) -> None:
        for address in ("2001:db8::1", "2001:db8::2", "2001:db8::3"):
            self.failures.add(address, "ada")
            self.clock.advance(1)
        [entry] = await self.written()
        self.assertEqual((entry.target, entry.times), ("user:Ada", 3))
        self.assertEqual((entry.actor, entry.address), ("anonymous", "2001:db8::3"))
        self.assertEqual((entry.at, entry.last_at), (START, START + timedelta(seconds=2)))

    async def test_others_are_rows_of_their_own(self) -> None:
        for address, name in (("192.0.2.1", "ada"), ("192.0.2.2", "ada"), ("192.0.2.1", "nobody")):
            self.failures.add(address, name)
        self.assertEqual(len(await self.written()), 3)
        self.assertEqual(len(await self.written()), 3)

    async def test_a_name_that_nobody_has_may_be_a_password(self) -> None:
        for name in ("planted-password", "\0planted", "x" * 1000):
            self.failures.add("192.0.2.1", name)
        entries = await self.written()
        self.assertEqual([entry.target for entry in entries], ["", "", ""])
        self.assertNotIn("planted", str(await self.database.query("SELECT * FROM audit_log")))

    async def test_rows_are_few_however_many_try(self) -> None:
        for number in range(3 * BURST):
            self.failures.add(f"192.0.2.{number % 250}", f"name{number}")
        await self.written()
        page = await self.audit.page(action=ACTION)
        self.assertEqual(page.total, BURST)
        self.clock.advance(2 * REFILL)
        await self.written()
        self.assertEqual((await self.audit.page(action=ACTION)).total, BURST + 2)

    async def test_what_is_counted_is_bounded_and_nobody_is_left_out(self) -> None:
        self.patch(failed_logins, "MOST_COUNTED", 3)
        for number in range(100):
            self.failures.add(f"192.0.2.{number}", "ada")
        entries = await self.written()
        self.assertEqual(sorted(entry.times for entry in entries), [1, 1, 1, 97])
        together = next(entry for entry in entries if entry.times == 97)
        self.assertEqual((together.address, together.target), (None, ""))

    async def test_while_the_database_is_away_they_are_counted_on(self) -> None:
        self.failures.add("192.0.2.1", "ada")
        away = lambda *_, **__: fail(DatabaseUnavailable("away"))  # noqa: E731
        with_database = self.database.transaction
        self.database.transaction = away  # type: ignore[method-assign]
        await self.failures.write()
        self.database.transaction = with_database  # type: ignore[method-assign]
        self.failures.add("192.0.2.1", "ada")
        self.clock.advance(1)
        [entry] = await self.written()
        self.assertEqual((entry.times, entry.at), (2, START))

    async def test_a_service_writes_by_itself_and_at_its_end(self) -> None:
        self.failures.startService()
        self.failures.add("192.0.2.1", "ada")
        self.clock.advance(PERIOD)
        self.failures.add("192.0.2.2", "ada")
        await self.failures.stopService()
        self.assertEqual((await self.audit.page(action=ACTION)).total, 2)
