"""The HTTP side of the composition root: API, pages, operations and the outputs' own routes behind one port.

Nothing is decided here. A room of `web/` gets what it stands on, and a route is on the air because it is in this list.
"""

import errno
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError

from oxidecast.accounts.admission import Admission
from oxidecast.accounts.authenticator import KeyAuthenticator
from oxidecast.accounts.settings import AuthSettings
from oxidecast.database.changes import Changes
from oxidecast.database.recordings import Recordings
from oxidecast.delivery.hot import IHotResource
from oxidecast.delivery.http_limits import HTTPLimits
from oxidecast.delivery.http_server import HTTPServerFactory
from oxidecast.delivery.proxied import Proxies, ProxyProtocolFactory
from oxidecast.delivery.stored import Store
from oxidecast.delivery.tls import Certificates
from oxidecast.foundation import Foundation
from oxidecast.interfaces import IOutput
from oxidecast.metrics.prometheus import Metrics
from oxidecast.registry import Detached, Registry
from oxidecast.settings.errors import StartError
from oxidecast.settings.loader import Settings
from oxidecast.settings.sections import (
    CorsSettings,
    MetricsSettings,
    ServerSettings,
    StorageSettings,
    TlsSettings,
    TranscodingSettings,
)
from oxidecast.streams.hub import Hub
from oxidecast.transcoding.service import Transcoding
from oxidecast.web.access import StreamAccess
from oxidecast.web.addresses import Addresses
from oxidecast.web.api import Api, Route
from oxidecast.web.audit import AuditRoutes
from oxidecast.web.auth import AuthRoutes
from oxidecast.web.consequences import Consequences
from oxidecast.web.docs import documents
from oxidecast.web.elsewhere import Elsewhere
from oxidecast.web.failed_logins import FailedLogins
from oxidecast.web.history import History
from oxidecast.web.joined import JoinedViewers
from oxidecast.web.keys import KeyRoutes
from oxidecast.web.limits import PortLimits
from oxidecast.web.openapi import document
from oxidecast.web.operations import Health, KeySet, MetricsResource, Ready
from oxidecast.web.outputs import OutputRoutes
from oxidecast.web.pages import pages
from oxidecast.web.recordings import RecordingRoutes
from oxidecast.web.redirect import ToHTTPS
from oxidecast.web.request import API
from oxidecast.web.site import site
from oxidecast.web.stats import HTTPStats, StatsRoutes
from oxidecast.web.stream_views import StreamViews
from oxidecast.web.streams import StreamRoutes
from oxidecast.web.users import UserRoutes
from oxidecast.web.viewers import ViewerRoutes

BACKLOG = 1024
"""Connections that the kernel keeps until they are accepted."""

API_NAMES = frozenset(
    {
        "auth",
        "streams",
        "ingests",
        "users",
        "viewers",
        "stats",
        "audit",
        "recordings",
        "openapi.json",
        "docs",
        "events",
    }
)
"""What the API itself answers, or will, below /api/v1: no plugin can have it."""


class HTTPSide(MultiService):
    """Everything that answers HTTP. `settings()` are those of now; `not_ready()` says why the server cannot do all of
    its work."""

    def __init__(
        self,
        foundation: Foundation,
        hub: Hub,
        registry: Registry,
        metrics: Metrics,
        keys: KeyAuthenticator,
        admission: Admission,
        proxies: Proxies,
        settings: Callable[[], Settings],
        not_ready: Callable[[], list[str]],
        transcoding: Transcoding,
    ) -> None:
        super().__init__()
        self._foundation = foundation
        self._hub = hub
        self._registry = registry
        self._metrics = metrics
        self._admission = admission
        self._limits = PortLimits(admission, foundation.reactor.seconds)
        self._proxies = proxies
        self._settings = settings
        self._not_ready = not_ready
        self._transcoding = transcoding
        self.consequences = Consequences(hub, keys)
        self.joined = JoinedViewers(foundation.reactor)
        self.joined.setServiceParent(self)
        changes = Changes(foundation.database, foundation.reactor)
        self.elsewhere = Elsewhere(changes, foundation.streams, hub, self.consequences, foundation.reactor)
        self.elsewhere.setServiceParent(self)
        self.failed_logins = FailedLogins(foundation.accounts, foundation.audit, foundation.reactor)
        self.failed_logins.setServiceParent(self)
        self._auth = AuthRoutes(foundation.accounts, settings().of(AuthSettings), self.failed_logins)
        self.api: Api | None = None
        self.factory: HTTPServerFactory | None = None
        self.number = 0
        """The TCP port that is listened on, once one is."""
        self.tls_number = 0
        """That of HTTPS, where there are certificates."""
        self._listening: list[Any] = []

    def listen(self, tls: Certificates | None) -> None:
        """To be called when the plugins have started. Raises StartError."""
        server, reactor = self._settings().of(ServerSettings), self._foundation.reactor
        outputs = self._outputs()
        self.factory = HTTPServerFactory(
            self._site(outputs),
            {
                f"/api/v1/{name}/".encode(): resource
                for name, resource in outputs.items()
                if IHotResource.providedBy(resource)
            },
            HTTPLimits(max_connections=server.max_connections),
            reactor,
            on_request=self._metrics.request,
            admit=self._limits.cold,
            proxies=self._proxies,
        )
        self.reload("rate_limit")
        self.reload("tls")
        self.number = self._listen("HTTP", "server.port", server.port, self.factory)
        if tls is not None:
            secured = tls.wrap("https", self.factory)
            self.tls_number = self._listen("HTTPS", "server.tls_port", server.tls_port, secured)

    async def stop_listening(self) -> None:
        """Take no more connections."""
        ports, self._listening = self._listening, []
        for port in ports:
            await port.stopListening()

    def finish(self, grace: float) -> Deferred[None]:
        """End the connections: idle ones now, all of them after `grace` seconds."""
        return self.factory.stop(grace) if self.factory is not None else succeed(None)

    def reload(self, name: str) -> None:
        """A section of the settings has changed."""
        if name == "server" and self.factory is not None:
            connections = self._settings().of(ServerSettings).max_connections
            self.factory.limits = msgspec.structs.replace(self.factory.limits, max_connections=connections)
        elif name == "rate_limit" and self.factory is not None:
            self.factory.admit_hot = self._limits.hot if self._admission.limits("media") else None
        elif name == "tls" and self.factory is not None:
            seconds = self._settings().of(TlsSettings).hsts
            self.factory.hsts = b"Strict-Transport-Security: max-age=%d\r\n" % seconds if seconds else b""
        elif name == "auth":
            self._auth.settings = self._settings().of(AuthSettings)

    # -- inside

    def _listen(self, name: str, key: str, number: int, factory: Any) -> int:
        server = self._settings().of(ServerSettings)
        host = server.host
        if server.proxy_protocol:
            # Before TLS: a proxy says it in plain text.
            factory = ProxyProtocolFactory(factory, self._proxies, self._foundation.reactor)
        try:
            port = self._foundation.reactor.listenTCP(number, factory, interface=host, backlog=BACKLOG)
        except CannotListenError as error:
            raise StartError(
                f"{name} cannot listen on {in_address(host)}:{number}: {reason(error)}. Free the port, or set {key}."
            )
        self._listening.append(port)
        return int(port.getHost().port)

    def _redirect(self) -> int:
        """The port that plain requests are sent to; 0 while they are answered."""
        tls = self._settings().of(TlsSettings)
        return tls.redirect_port or self.tls_number if tls.redirect and self.tls_number else 0

    def _outputs(self) -> dict[str, Any]:
        """The outputs' resources by their name below /api/v1. The first that asks for a name has it."""
        routes: dict[str, Any] = {}
        for running in list(self._registry.of(IOutput)):
            try:
                asked = running.call(lambda: dict(running.instance.routes()))  # noqa: B023
            except Detached:
                running.fail("it does not say its routes")
                continue
            taken = sorted(name for name in asked if name in routes or name in API_NAMES)
            if taken:
                running.fail(f"it asks for {', '.join(taken)} below /api/v1, which is taken")
                continue
            routes |= asked
        return routes

    def _site(self, outputs: Mapping[str, Any]) -> Any:
        foundation = self._foundation
        self.api = Api(
            self._routes(),
            foundation.accounts,
            lambda: self._settings().of(CorsSettings).origins,
            foundation.reactor,
            self._admission,
        )
        operations = {
            b"health": Health(lambda: self._metrics.database_away),
            b"ready": Ready(self._not_ready),
            b"metrics": MetricsResource(self._metrics, lambda: self._settings().of(MetricsSettings).allow),
        }
        # No operation: who trusts these keys comes by HTTPS where there is one.
        keys = {b".well-known/jwks.json": KeySet(lambda: foundation.tokens.keys.published)}
        described = documents(document(self.api.routes))
        stay = [[name] for name in operations] + [[*API, name.encode()] for name in outputs]
        return site(
            {**pages(), **keys},
            operations,
            self.api,
            {**outputs, **described},
            foundation.reactor.seconds,
            ToHTTPS(self._redirect, stay),
            lambda: self._settings().of(ServerSettings).public_url,
        )

    def _routes(self) -> list[Route]:
        """All that the API answers, apart from the outputs."""
        foundation, hub, registry = self._foundation, self._hub, self._registry
        transcoding = self._settings().of(TranscodingSettings)
        access = StreamAccess(hub, foundation.streams, foundation.accounts)
        views = StreamViews(hub, registry)
        addresses = Addresses(
            views, foundation.tokens, lambda: self._settings().of(AuthSettings).bind_playback_tokens
        )
        consequences = self.consequences
        history = History(foundation.database, foundation.reactor, access, hub)
        return [
            *self._auth.routes(),
            *UserRoutes(foundation.accounts, consequences).routes(),
            *StreamRoutes(
                hub,
                registry,
                foundation.streams,
                foundation.keys,
                transcoding,
                access,
                views,
                addresses,
                consequences,
            ).routes(),
            *KeyRoutes(access, foundation.keys, consequences).routes(),
            *ViewerRoutes(access, views, addresses, self.joined, transcoding).routes(),
            *StatsRoutes(hub, registry, access, history, self._http_stats, self._transcoding).routes(),
            *history.routes(),
            *RecordingRoutes(
                Recordings(foundation.database, foundation.reactor),
                foundation.accounts,
                Store(self._settings().of(StorageSettings).recordings(foundation.data_directory)),
                registry,
                foundation.tokens,
                addresses,
                foundation.reactor,
            ).routes(),
            *AuditRoutes(foundation.audit).routes(),
            *OutputRoutes(hub, registry, foundation.streams, access, consequences.stream_changed).routes(),
        ]

    def _http_stats(self) -> HTTPStats:
        connections = len(self.factory.channels) if self.factory is not None else 0
        return HTTPStats(connections=connections, requests=self._metrics.requests)


def in_address(host: str) -> str:
    """A host as addresses have it: IPv6 in brackets (RFC 3986, 3.2.2)."""
    return f"[{host}]" if ":" in host else host


def reason(error: CannotListenError) -> str:
    """Why a port cannot be listened on, for people."""
    if getattr(error.socketError, "errno", None) == errno.EADDRINUSE:
        return "another program uses it"
    # The numbers of failed look-ups of a name are no errnos: only the exception knows their words.
    return getattr(error.socketError, "strerror", None) or str(error.socketError)
