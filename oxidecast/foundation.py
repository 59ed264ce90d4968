"""What the server and its commands both stand on: settings, the data directory, secrets, the database, accounts.

The one idea: `oxidecast key show` and the running server open the same things in the same way, so neither can see what
the other would not.
"""

import hmac
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from twisted.python.threadpool import ThreadPool

import oxidecast.plugins
from oxidecast.accounts.accounts import Accounts
from oxidecast.accounts.bootstrap import FirstSteps, bootstrap
from oxidecast.accounts.keys import KeySafe, PublishKeys
from oxidecast.accounts.outsiders import Outsiders
from oxidecast.accounts.passwords import Passwords
from oxidecast.accounts.settings import AuthSettings
from oxidecast.accounts.signing import Keyring, open_keyring
from oxidecast.accounts.throttle import LoginThrottle
from oxidecast.accounts.tokens import Tokens
from oxidecast.analytics.settings import AnalyticsSettings
from oxidecast.database import (
    DatabaseError,
    IDatabase,
    migrate,
    open_database,
    partitions,
    require_database,
)
from oxidecast.database.audit import AuditLog
from oxidecast.database.errors import DatabaseRefuses, DatabaseUnavailable
from oxidecast.database.gate import Gate
from oxidecast.database.settings import DatabaseSettings
from oxidecast.database.streams import Streams
from oxidecast.interfaces import IPlugin
from oxidecast.registry import discover, enabled
from oxidecast.rtmp.settings import RtmpSettings
from oxidecast.settings.errors import StartError
from oxidecast.settings.loader import RawSettings, Settings
from oxidecast.settings.private import open_data_directory
from oxidecast.settings.secrets import Secrets, open_secrets
from oxidecast.settings.sections import (
    CorsSettings,
    LoggingSettings,
    MetricsSettings,
    PluginsSettings,
    RateLimitSettings,
    ServerSettings,
    StorageSettings,
    TlsSettings,
    TranscodingSettings,
)
from oxidecast.streams.settings import StreamsSettings
from oxidecast.webrtc.settings import WebrtcSettings

SECTIONS: Mapping[str, type[msgspec.Struct]] = {
    "server": ServerSettings,
    "logging": LoggingSettings,
    "plugins": PluginsSettings,
    "database": DatabaseSettings,
    "auth": AuthSettings,
    "rate_limit": RateLimitSettings,
    "cors": CorsSettings,
    "metrics": MetricsSettings,
    "tls": TlsSettings,
    "storage": StorageSettings,
    "analytics": AnalyticsSettings,
    "streams": StreamsSettings,
    "rtmp": RtmpSettings,
    "transcoding": TranscodingSettings,
    "webrtc": WebrtcSettings,
}
"""The server's own sections; plugins add theirs."""

PASSWORD_THREADS = 2
"""Passwords are hashed in so many threads at once: a hash takes a core for 0.2 s and 64 MiB."""


@dataclass(frozen=True)
class Configuration:
    """The settings of this start, and the plugins that they leave enabled."""

    settings: Settings
    found: list[IPlugin]
    """All plugins that were found, disabled ones included."""
    plugins: list[IPlugin]


def configure(file: Path | None, environ: Mapping[str, str]) -> Configuration:
    """Read the settings and find the plugins. Raises StartError."""
    raw = RawSettings.read(file, environ)
    chosen = raw.section("plugins", PluginsSettings)
    found = discover(oxidecast.plugins, chosen.path)
    plugins = enabled(found, chosen.disabled)
    for name, struct in SECTIONS.items():
        raw.section(name, struct)
    for plugin in found:
        try:
            raw.section(plugin.name, plugin.settings)
        except ValueError as error:
            raise StartError(f"the plugin {plugin.name!r} cannot have its settings section: {error}")
    return Configuration(raw.finish(), found, plugins)


def keyring(secrets: Secrets, auth: AuthSettings, data_directory: Path) -> Keyring:
    """The keys of tokens. Raises StartError."""
    return open_keyring(
        secrets.jwt,
        auth.previous_jwt_secrets,
        data_directory / auth.signing_key if auth.signing_key is not None else None,
        [data_directory / file for file in auth.verification_keys],
    )


@contextmanager
def _in_one_sentence() -> Iterator[None]:
    try:
        yield
    except DatabaseError as error:
        raise StartError(f"the database cannot be used: {error}") from error


class DatabaseAway(Exception):
    """The database is a server that does not answer now."""


class Foundation:
    """Everything below the live media. Close it with `close`.

    What is missing is made, which is for the server alone: without `make` it raises StartError instead.
    """

    def __init__(
        self, configuration: Configuration, data_directory: Path, reactor: Any, *, make: bool = True
    ) -> None:
        self.configuration = configuration
        self.settings = configuration.settings
        if not make:
            require_database(self.settings.of(DatabaseSettings).url, data_directory)
        self.data_directory = open_data_directory(data_directory, make=make)
        self.reactor = reactor
        auth, server = self.settings.of(AuthSettings), self.settings.of(ServerSettings)
        self.secrets: Secrets = open_secrets(
            self.data_directory, server_secret=server.secret_key, jwt_secret=auth.jwt_secret, make=make
        )
        keys = keyring(self.secrets, auth, self.data_directory)
        database = self.settings.of(DatabaseSettings)
        self._gate = Gate(open_database(database.url, self.data_directory, reactor, database.pool_size))
        self.database: IDatabase = self._gate
        """Opens once its schema is this version's."""
        self._threads = ThreadPool(0, PASSWORD_THREADS, "passwords")
        self._threads.start()
        limit = self.settings.of(RateLimitSettings)
        self.tokens = Tokens(keys, reactor, auth.jwt_expiry)
        self.passwords = Passwords(reactor, self._threads)
        self.outsiders = Outsiders.build(auth.issuers, self.database, reactor, self.passwords.no_password)
        self.accounts = Accounts(
            self.database,
            reactor,
            self.passwords,
            self.tokens,
            LoginThrottle(reactor, limit.login_attempts, limit.login_refill),
            auth.refresh_expiry,
            self.outsiders,
        )
        self.safe = KeySafe(self.secrets.server)
        self.audit = AuditLog(self.database, reactor)
        self.streams = Streams(self.database, reactor)
        self.keys = PublishKeys(self.database, reactor, self.safe)

    def renew_keys(self, auth: AuthSettings) -> None:
        """Sign with the keys that `[auth]` names now. Raises StartError, and then nothing has changed."""
        server = self.settings.of(ServerSettings)
        self.secrets = open_secrets(
            self.data_directory, server_secret=server.secret_key, jwt_secret=auth.jwt_secret, make=False
        )
        self.tokens.keys = keyring(self.secrets, auth, self.data_directory)

    async def migrate(self) -> None:
        """Bring the database to this version's schema. Raises StartError."""
        with _in_one_sentence():
            await self._migrate()

    async def prepare(self) -> FirstSteps:
        """Bring the database to this version's schema, and make the first account and stream. Raises StartError, and
        DatabaseAway when that is to be tried again."""
        try:
            with _in_one_sentence():
                await self._migrate()
                return await bootstrap(
                    self.database, self.reactor, self.passwords, self.safe, self.data_directory
                )
        except StartError as error:
            cause = error.__cause__
            passing = isinstance(cause, DatabaseUnavailable) and not isinstance(cause, DatabaseRefuses)
            # A file that cannot be opened is for who starts the server to mend; a server comes back by itself.
            if passing and self.database.flavour != "sqlite":
                raise DatabaseAway(str(cause)) from cause
            raise

    async def _migrate(self) -> None:
        now = datetime.now(UTC)
        await migrate(self._gate.database, now)
        await partitions.ensure(self._gate.database, now)
        self._gate.is_open = True

    def secret(self, purpose: str) -> bytes:
        """See `IServices.secret`."""
        return hmac.digest(self.secrets.server, b"oxidecast purpose: " + purpose.encode(), "sha256")

    async def close(self) -> None:
        """Finish what was begun, and let threads and connections go."""
        self.outsiders.close()
        if not self._threads.joined:
            self._threads.stop()
        await self.database.close()
