"""The composition root: settings in, one tree of services out.

Everything is put together here and only here: which room owns which port, which gate it lends to whom, and in which
order things start and stop. What keeps the server from starting is a `StartError`, one sentence for the operator.
"""

import atexit
import os
import resource
import shlex
import signal
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from twisted.application.service import IService, MultiService
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.error import ReactorNotRunning
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from oxidecast.accounts.admission import Admission
from oxidecast.accounts.authenticator import KeyAuthenticator, OpenAuthenticator
from oxidecast.accounts.bootstrap import FirstSteps
from oxidecast.accounts.errors import KeyUnreadable
from oxidecast.accounts.failed_keys import FailedKeys
from oxidecast.accounts.gate import AccountsGate
from oxidecast.accounts.settings import AuthSettings
from oxidecast.analytics.settings import AnalyticsSettings
from oxidecast.analytics.upkeep import Upkeep
from oxidecast.database import DatabaseError
from oxidecast.database.audit import SERVER
from oxidecast.delivery.certificates import Source
from oxidecast.delivery.proxied import Proxies
from oxidecast.delivery.tls import Certificates
from oxidecast.foundation import Configuration, DatabaseAway, Foundation, configure
from oxidecast.interfaces import IAuthenticator, IEventListener, IReloadable, IServices
from oxidecast.logs import set_level
from oxidecast.metrics.prometheus import Metrics
from oxidecast.metrics.reactor import ReactorWatch
from oxidecast.registry import Detached, Plugin, Registry, Running, start
from oxidecast.rtmp.server import RTMPPort
from oxidecast.rtmp.settings import RtmpSettings
from oxidecast.settings.changes import difference, is_reloadable
from oxidecast.settings.errors import StartError
from oxidecast.settings.sections import (
    LoggingSettings,
    MetricsSettings,
    RateLimitSettings,
    ServerSettings,
    StorageSettings,
    TlsSettings,
    TranscodingSettings,
)
from oxidecast.site import HTTPSide, in_address
from oxidecast.streams.hub import Hub
from oxidecast.streams.settings import StreamsSettings
from oxidecast.transcoding.service import Transcoding
from oxidecast.webrtc.port import WebRTCPort
from oxidecast.webrtc.settings import WebrtcSettings

STOP_GRACE = 2.0
"""Seconds that answers in flight have when the server stops; it is to be gone within 5."""

DATABASE_CHECK = 1.0
"""Seconds between two looks whether the database answers, for `/ready`: whoever balances load must not send to a server
that cannot do its work."""

DEMO = "Demo"
"""Title of the stream that `--demo` publishes to."""


@implementer(IServices)
class Services:
    """What is lent to plugins."""

    def __init__(self, foundation: Foundation, hub: Hub, ports: Mapping[str, Any]) -> None:
        self.reactor = foundation.reactor
        self.hub = hub
        self.database = foundation.database
        self.data_directory = foundation.data_directory
        self.storage = foundation.settings.of(StorageSettings)
        self.transcoding = foundation.settings.of(TranscodingSettings)
        self.ports = ports
        self.secret = foundation.secret


class Server(MultiService):
    """The server. Starting is done in the background, once the reactor runs; `started` tells how it went."""

    log = Logger()

    def __init__(self, foundation: Foundation, demo: bool, reread: Any) -> None:
        super().__init__()
        self.foundation = foundation
        self.settings = foundation.settings
        self.registry = Registry()
        self.hub = Hub(self.settings.of(StreamsSettings), self.registry, foundation.reactor)
        self.admission = Admission(foundation.reactor, self.settings.of(RateLimitSettings))
        self.hub.guard = FailedKeys(self.admission)
        server = self.settings.of(ServerSettings)
        self.proxies = Proxies(server.trusted_proxies, server.proxy_headers)
        self.rtmp = RTMPPort(self.settings.of(RtmpSettings), foundation.reactor, self.proxies)
        self.rtmp.admit = lambda address: self.admission.take("publish", address)
        self.webrtc = WebRTCPort(self.settings.of(WebrtcSettings), foundation.reactor)
        self.webrtc.admit = lambda address: self.admission.take("publish", address)
        self.watch = ReactorWatch(foundation.reactor)
        self.watch.setServiceParent(self)
        self.metrics = Metrics(
            self.hub, self.registry, self.settings.of(MetricsSettings).max_streams, self.watch.lateness
        )
        self.metrics.limited = self.admission.limited
        self.transcoding = Transcoding(
            foundation.reactor, self.registry, self.settings.of(TranscodingSettings)
        )
        self._keys = KeyAuthenticator(
            foundation.database,
            foundation.reactor,
            foundation.safe,
            self.settings.of(AuthSettings).key_lifetime,
        )
        self.web = HTTPSide(
            foundation,
            self.hub,
            self.registry,
            self.metrics,
            self._keys,
            self.admission,
            self.proxies,
            lambda: self.settings,
            self.not_ready,
            self.transcoding,
        )
        self.web.setServiceParent(self)
        self.tls: Certificates | None = None
        """The certificates, where the settings name some."""
        self.started: Deferred[None] = Deferred()
        """Fires when the server is ready, fails with StartError."""
        self._demo = demo
        self._reread = reread
        self._ready = self._stopped = False
        self._database_away = ""
        self._prepared = False
        """Whether the database has this version's schema, and a first account."""
        self._check = LoopingCall(self._check_database)
        self._check.clock = foundation.reactor
        self._starting: Deferred[None] | None = None

    @classmethod
    def build(
        cls,
        config: Path | None,
        data_directory: Path,
        environ: Mapping[str, str],
        reactor: Any,
        demo: bool = False,
    ) -> "Server":
        """Read the settings and open what the server stands on. Raises StartError."""

        def read() -> Configuration:
            return configure(config, environ)

        return cls(Foundation(read(), data_directory, reactor), demo, read)

    # -- starting

    def startService(self) -> None:
        super().startService()
        set_level(self.settings.of(LoggingSettings).level)
        self.foundation.reactor.callWhenRunning(self._begin)

    def _begin(self) -> None:
        if self._stopped:
            return
        self._handle_signals()
        self._starting = Deferred.fromCoroutine(self._start())
        self._starting.addErrback(self._did_not_start)

    async def _start(self) -> None:
        _allow_many_files()
        first_steps = await self._prepare()
        demo_key = await self._demo_key() if self._demo else None
        self._start_tls()
        self._start_plugins(demo_key)
        self.web.listen(self.tls)
        self.rtmp.setServiceParent(self)
        self.webrtc.setServiceParent(self)
        for running in self.registry.running:
            if running.state == "running" and IService.providedBy(running.instance):
                self._start_service(running)
        foundation = self.foundation
        Upkeep(
            foundation.database, foundation.reactor, lambda: self.settings.of(AnalyticsSettings)
        ).setServiceParent(self)
        self._check.start(DATABASE_CHECK)
        self._ready = True
        self._say(first_steps)
        self.started.callback(None)

    def _start_tls(self) -> None:
        source = Source(self.settings.of(TlsSettings), self.foundation.data_directory)
        if source:
            self.tls = Certificates(source, self.foundation.reactor)
            self.tls.setServiceParent(self)
            self.rtmp.secure = partial(self.tls.wrap, "rtmps")
            self.metrics.more.append(self.tls.metrics)

    async def _prepare(self) -> FirstSteps | None:
        """None when the database is away, which is then waited for: viewers and outputs need none."""
        try:
            first_steps = await self.foundation.prepare()
        except DatabaseAway as away:
            if self._demo:
                raise StartError(f"the demo needs the database: {away}")
            self._database_away = str(away)
            self.log.critical("starting without the database, which is waited for: {away}", away=away)
            return None
        self._prepared = True
        return first_steps

    def _start_service(self, running: Running) -> None:
        """Start a plugin's service. A StartError stops the start, anything else only the plugin."""
        try:
            running.instance.setServiceParent(self)
        except StartError:
            raise
        except Exception as error:
            running.fault(error)
            running.fail(f"its service did not start: {error}")

    def _did_not_start(self, failure: Failure) -> None:
        error = failure.value
        if isinstance(error, CancelledError):
            return  # stopped before it had started
        if not isinstance(error, StartError):
            self.log.failure("the server did not start", failure=failure)
            error = StartError(f"the server did not start: {error}")
        else:
            self.log.critical("{error}", error=error)
        if self.foundation.reactor.running:
            print(f"oxidecast: {error}", file=sys.__stderr__)
            # twistd has no way to tell a service's failure by its exit code, so the interpreter's end does.
            atexit.register(os._exit, 1)
            self.foundation.reactor.stop()
        self.started.errback(error)
        self.started.addErrback(lambda _: None)

    async def _demo_key(self) -> str:
        """The key of the demo's stream, which is made when it is not there."""
        streams, keys = self.foundation.streams, self.foundation.keys
        info = await streams.find(DEMO.lower())
        if info is None:
            admins = (await self.foundation.accounts.users.page(limit=1, role="admin")).items
            if not admins:
                raise StartError("the demo needs an account of the role admin that its stream can belong to")
            info = await streams.create(admins[0].id, DEMO, description="A built-in test pattern.")
        try:
            key = await keys.newest(info.id)
        except KeyUnreadable:
            key = None
        return (key or await keys.create(info.id)).text

    def _start_plugins(self, demo_key: str | None) -> None:
        foundation, services = (
            self.foundation,
            Services(self.foundation, self.hub, {"rtmp": self.rtmp, "webrtc": self.webrtc}),
        )
        gate = AccountsGate(
            self._keys,
            OpenAuthenticator(foundation.database, foundation.reactor, lambda: self._keys.changes),
            foundation.accounts,
            foundation.tokens,
            open_for=frozenset() if self.settings.of(RtmpSettings).enable_auth else frozenset({"rtmp"}),
        )
        accounts = Plugin("accounts", IAuthenticator, lambda settings, services: gate)
        self.registry.running.append(start(accounts, None, services))
        if not self.settings.of(RtmpSettings).enable_auth:
            self.log.warn("rtmp.enable_auth is false: anybody who reaches the RTMP port can publish")
        for plugin in foundation.configuration.plugins:
            settings = self.settings[plugin.name]
            if plugin.name == "testpattern" and demo_key is not None:
                settings = msgspec.structs.replace(settings, stream_key=demo_key)
            running = start(plugin, settings, services)
            running.on_failed.append(lambda running=running: self.hub.plugin_failed(running))  # type: ignore[misc]
            self.registry.running.append(running)
        transcoding = Plugin("transcoding", IEventListener, lambda settings, services: self.transcoding)
        self.registry.running.append(start(transcoding, None, services))

    def not_ready(self) -> list[str]:
        """Why the server cannot do all of its work now."""
        reasons = [] if self._ready else ["starting or stopping"]
        if self._database_away:
            reasons.append(self._database_away)
        return reasons

    async def _check_database(self) -> None:
        was_away = self._database_away
        try:
            if not self._prepared:
                await self.foundation.prepare()
                self._prepared = True
            await self.foundation.database.query("SELECT 1")
            self._database_away = ""
        except (DatabaseError, DatabaseAway) as error:
            self._database_away = str(error)
        except StartError as error:
            # It is back, and not as this version can use it.
            self._database_away = str(error)
            if str(error) != was_away:
                self.log.critical("{error}", error=error)
        self.metrics.database_away = bool(self._database_away)
        if was_away and not self._database_away:
            self.log.info("the database answers again")
        elif self._database_away and not was_away:
            self.log.error("the database is away: {reason}", reason=self._database_away)

    def _say(self, first: FirstSteps | None) -> None:
        """Tell where everything is. A key is shown on a terminal, and nowhere else."""
        host = self.settings.of(ServerSettings).host
        shown = "localhost" if host in ("0.0.0.0", "::", "") else in_address(host)
        web = f"http://{shown}:{self.web.number}/"
        if self.tls is not None:
            # A browser is content only with a name that the certificate has.
            names = (in_address(name) for name in self.tls.certificates[0].names if "*" not in name)
            web = f"https://{next(names, shown)}:{self.web.tls_number}/"
        ingests = self.registry.ingest_addresses(web.rstrip("/"))
        self.log.info("OxideCast is ready: {web} {ingests}", web=web, ingests=" ".join(ingests))
        if first is None:
            return  # What else there is to tell lies in the database.
        if sys.__stdout__ is None or not sys.__stdout__.isatty():
            # Without the directory the commands would open another database, or find none.
            self.log.info(
                "a stream key: oxidecast key show {stream} --data-dir {data}; "
                "a password for admin: oxidecast user passwd admin --data-dir {data}",
                stream=first.stream.name if first.stream is not None else "STREAM",
                data=shlex.quote(str(self.foundation.data_directory)),
            )
            return
        lines = [f"Web     {web}"]
        lines += [f"{'WHIP  ' if one.startswith('http') else 'Server'}  {one}" for one in ingests]
        if first.key is not None:
            lines.append(f"Key     {first.key}")
        if first.password_file.exists():
            lines.append(f"Admin   user admin, password in {first.password_file}")
        print("", *(f"  {line}" for line in lines), "", sep="\n", file=sys.__stdout__, flush=True)

    # -- signals

    def _handle_signals(self) -> None:
        """Stop cleanly, with exit code 0, on SIGINT and SIGTERM; reread the settings on SIGHUP.

        twistd would end the process by the signal itself, which a supervisor takes for a crash.
        """
        reactor = self.foundation.reactor
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: reactor.callFromThread(self._stop_reactor))
            signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(self.reload))
        except ValueError:
            self.log.debug("signals are handled by the thread that runs this one")

    def _stop_reactor(self) -> None:
        try:
            self.foundation.reactor.stop()
        except ReactorNotRunning:
            pass  # It stops already: somebody pressed Ctrl-C twice.

    def reload(self) -> list[str]:
        """Read the certificates again, and take over the settings that can change while the server runs; the answer
        names the changed keys that cannot."""
        if self.tls is not None:
            self.tls.reload()
        try:
            fresh = self._reread().settings
        except StartError as error:
            self.log.error("the settings were not reloaded: {error}", error=error)
            return []
        changed = difference(self.settings, fresh)
        taken = [key for key in changed if is_reloadable(self.settings, key)]
        waiting = [key for key in changed if key not in taken]
        for name in {key.partition(".")[0] for key in taken}:
            keys = [key.partition(".")[2] for key in taken if key.startswith(f"{name}.")]
            self.settings = self.settings.changed(
                name,
                msgspec.structs.replace(
                    self.settings[name], **{key: getattr(fresh[name], key) for key in keys}
                ),
            )
            self._apply(name)
        self.log.info("settings reloaded: {taken}", taken=", ".join(taken) or "nothing changed that can")
        if taken:
            Deferred.fromCoroutine(self._note_reload(taken))
        if waiting:
            self.log.warn("these settings wait for a restart: {waiting}", waiting=", ".join(waiting))
        return waiting

    async def _note_reload(self, taken: list[str]) -> None:
        """It was done by whoever may send signals: no database is waited for."""
        try:
            await self.foundation.audit.add(SERVER, "settings.reload", "", {"changed": taken})
        except DatabaseError as error:
            self.log.warn("the reload is not in the audit log: {error}", error=error)

    def _apply(self, name: str) -> None:
        settings = self.settings
        if name == "rate_limit":
            self.admission.reload(settings.of(RateLimitSettings))
        self.web.reload(name)
        if name == "logging":
            set_level(settings.of(LoggingSettings).level)
        elif name == "server":
            server = settings.of(ServerSettings)
            self.proxies.change(server.trusted_proxies, server.proxy_headers)
        elif name == "streams":
            self.hub.settings = settings.of(StreamsSettings)
        elif name == "rtmp":
            self.rtmp.settings = settings.of(RtmpSettings)
        elif name == "webrtc":
            self.webrtc.settings = settings.of(WebrtcSettings)
        elif name == "auth":
            auth = settings.of(AuthSettings)
            self._keys.lifetime = auth.key_lifetime
            try:
                self.foundation.renew_keys(auth)
            except StartError as error:
                self.log.error("the keys of tokens stay as they were: {error}", error=error)
        elif name == "metrics":
            self.metrics.max_streams = settings.of(MetricsSettings).max_streams
        elif name == "rate_limit":
            limit = settings.of(RateLimitSettings)
            self.foundation.accounts.throttle.limit(limit.login_attempts, limit.login_refill)
        for running in self.registry.running:
            if running.name == name and IReloadable.providedBy(running.instance):
                try:
                    running.call(running.instance.reload, settings[name])
                except Detached:
                    self.log.error("the plugin {name} did not take its new settings", name=name)

    # -- stopping

    def stopService(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._ready, self._stopped = False, True
        self.log.info("OxideCast is stopping")
        if self._starting is not None:
            self._starting.cancel()
        if self._check.running:
            self._check.stop()
        self.hub.close()
        await self.web.stop_listening()
        services = super().stopService()
        await self.web.finish(STOP_GRACE)
        timer: Deferred[None] = deferLater(self.foundation.reactor, STOP_GRACE)
        _, first = await DeferredList([services, timer], fireOnOneCallback=True, consumeErrors=True)
        if first == 1:
            self.log.error("a service did not stop within {grace} s", grace=STOP_GRACE)
        timer.cancel()
        await self.foundation.close()


def _allow_many_files() -> None:
    """Each viewer is a file descriptor: take as many as the system allows without asking."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
