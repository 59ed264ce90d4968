"""The composition root: starting, failing to start, reloading, stopping."""

import io
import json
import socket
from typing import Any

import jwt
from msgspec.structs import replace
from twisted.application.service import Service
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from zope.interface import implementer

from oxidecast import app, foundation
from oxidecast.app import Server
from oxidecast.foundation import configure
from oxidecast.interfaces import IIngest, IOutput, IReloadable, PublishRequest
from oxidecast.registry import Plugin
from oxidecast.settings.errors import StartError
from oxidecast.settings.section import Section
from oxidecast.settings.sections import ServerSettings
from oxidecast.streams.settings import StreamsSettings
from tests.accounts.pem import ec_key, private_pem
from tests.house import HouseCase
from tests.streams.stage import AUDIO, VIDEO, Encoder, WatchingOutput


class Gone(Exception):
    """What the tests' plugins raise."""


class AppCase(HouseCase):
    def with_plugin(self, kind: Any, instance: Any, name: str = "mine", **how: Any) -> None:
        """Let the server find one plugin more."""
        plugin = Plugin(name, kind, lambda settings, services: instance, **how)

        def found(package: Any, path: Any = ()) -> Any:
            return [*discover(package, path), plugin]

        discover = foundation.discover
        self.patch(foundation, "discover", found)

    async def failing(self, demo: bool = False) -> str:
        """The sentence of a start that fails."""
        self.patch(app.sys, "__stderr__", io.StringIO())
        try:
            await self.start(demo)
        except StartError as error:
            self.assertEqual(self.reactor.stopped, 1)
            return str(error)
        raise AssertionError("it started")


class TestStart(AppCase):
    async def test_it_says_where_it_listens(self) -> None:
        server = await self.start()
        self.assertGreater(server.web.number, 0)
        self.assertGreater(server.rtmp.number, 0)
        self.assertEqual(server.not_ready(), [])

    async def test_the_data_directory_is_private(self) -> None:
        await self.start()
        modes = {path.name: path.stat().st_mode & 0o777 for path in (self.folder / "data").iterdir()}
        self.assertEqual((self.folder / "data").stat().st_mode & 0o777, 0o700)
        self.assertEqual(modes["secrets.toml"], 0o600)
        self.assertEqual(modes["admin-password"], 0o600)

    async def test_a_second_start_finds_what_the_first_made(self) -> None:
        first = await self.start()
        key = (await first.foundation.prepare()).key
        await first.stopService()
        second = await self.start()
        again = await second.foundation.prepare()
        self.assertEqual((again.key, again.is_first_start), (key, False))

    async def test_the_demos_stream_is_made_once(self) -> None:
        keys = set()
        for _ in range(2):
            server = Server(self.build().foundation, True, None)
            await server.foundation.prepare()
            keys.add(await server._demo_key())
            page = await server.foundation.streams.page(include_private=True)
            self.assertEqual([info.name for info in page.items].count("demo"), 1)
            await server.foundation.close()
        self.assertEqual(len(keys), 1)

    async def test_a_demo_key_that_cannot_be_read_any_more_is_replaced(self) -> None:
        for secret in ("a" * 32, "b" * 32):
            self.environ["OXIDECAST_SERVER_SECRET_KEY"] = secret
            server = self.build()
            await server.foundation.prepare()
            self.assertEqual(len(await server._demo_key()), 39)
            await server.foundation.close()

    async def test_an_http_port_that_is_taken_is_one_sentence(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            number = taken.getsockname()[1]
            self.environ["OXIDECAST_SERVER_PORT"] = str(number)
            sentence = await self.failing()
        self.assertEqual(
            sentence,
            f"HTTP cannot listen on 127.0.0.1:{number}: another program uses it. Free the port, or set server.port.",
        )

    async def test_an_rtmp_port_that_is_taken_is_one_sentence(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            number = taken.getsockname()[1]
            self.environ["OXIDECAST_RTMP_BIND_ADDRESS"] = f"127.0.0.1:{number}"
            sentence = await self.failing()
        self.assertIn(f"RTMP cannot listen on 127.0.0.1:{number}", sentence)

    async def test_a_database_that_cannot_be_opened_is_one_sentence(self) -> None:
        (self.folder / "data").mkdir(mode=0o700)
        (self.folder / "data" / "oxidecast.db").write_text(
            "this is no database, and long enough to be none" * 50
        )
        self.assertIn("the database cannot be used", await self.failing())

    def test_settings_that_are_wrong_are_one_sentence(self) -> None:
        for name, value in (
            ("PLUGINS_DISABLED", '["nonsense"]'),
            ("SERVER_PORT", "x"),
            ("NOTHING_AT_ALL", "1"),
        ):
            self.environ = {f"OXIDECAST_{name}": value}
            self.assertRaises(StartError, self.build)

    async def test_stopping_while_it_starts_is_no_failure(self) -> None:
        for steps in range(4):
            await deferLater(reactor, 0)
            server = self.build()
            outcomes: list[Any] = []
            server.started.addBoth(outcomes.append)
            server.startService()
            for _ in range(steps):
                await deferLater(reactor, 0)
            await server.stopService()
            self.assertEqual((outcomes, self.reactor.stopped), ([], 0))

    async def test_stopping_before_the_reactor_runs_starts_nothing(self) -> None:
        server = self.build()
        server.startService()  # trial runs the reactor only from the first await on
        await server.stopService()
        await deferLater(reactor, 0.05)
        self.assertEqual((server.web.factory, self.reactor.stopped), (None, 0))


class Terminal(io.StringIO):
    """A standard output that a person looks at."""

    def isatty(self) -> bool:
        return True


class TestTerminal(AppCase):
    """What is shown to who starts the server on a terminal."""

    async def shown(self, **server: Any) -> dict[str, str]:
        """The lines by their first word; `server` changes the settings of that section."""
        running = await self.start()
        changed = replace(running.settings.of(ServerSettings), **server)
        running.settings = running.settings.changed("server", changed)
        self.patch(app.sys, "__stdout__", Terminal())
        running._say(await running.foundation.prepare())
        lines = app.sys.__stdout__.getvalue().splitlines()  # type: ignore[union-attr]
        return {line.split()[0]: line.split(maxsplit=1)[1] for line in lines if line}

    async def test_where_to_watch_and_where_and_with_which_key_to_publish(self) -> None:
        lines = await self.shown()
        self.assertEqual(lines["Web"], f"http://127.0.0.1:{self.server.web.number}/")
        self.assertEqual(lines["Server"], f"rtmp://127.0.0.1:{self.server.rtmp.number}/live")
        self.assertEqual(lines["WHIP"], f"http://127.0.0.1:{self.server.web.number}/api/v1/webrtc/whip")
        self.assertEqual(len(lines["Key"]), 39)

    async def test_an_ipv6_host_stands_in_brackets(self) -> None:
        lines = await self.shown(host="::1")
        self.assertEqual(lines["Web"], f"http://[::1]:{self.server.web.number}/")
        self.assertEqual(lines["Server"], f"rtmp://[::1]:{self.server.rtmp.number}/live")

    async def test_all_interfaces_are_localhost(self) -> None:
        for host in ("0.0.0.0", "::"):
            lines = await self.shown(host=host)
            self.assertEqual(lines["Web"], f"http://localhost:{self.server.web.number}/")
            await self.server.stopService()

    async def test_the_first_password_is_named_as_long_as_its_file_is_there(self) -> None:
        file = self.folder / "data" / "admin-password"
        self.assertIn(str(file), (await self.shown())["Admin"])
        file.unlink()
        await self.server.stopService()
        self.assertNotIn("Admin", await self.shown())


@implementer(IOutput)
class BrokenRoutes(WatchingOutput):
    def routes(self) -> Any:
        raise Gone


class Greedy(WatchingOutput):
    def routes(self) -> Any:
        return {"auth": None}


@implementer(IIngest)
class BrokenService(Service):
    error: Exception = Gone("no such device")

    def addresses(self) -> Any:
        raise Gone

    def startService(self) -> None:
        raise self.error


@implementer(IIngest)
class Stuck(Service):
    def addresses(self) -> Any:
        return ()

    def stopService(self) -> Deferred[None]:
        return Deferred()


class TestPlugins(AppCase):
    """The server starts without the plugin that misbehaves."""

    async def failed(self) -> str:
        server = await self.start()
        (running,) = [one for one in server.registry.running if one.name == "mine"]
        self.assertEqual(running.state, "failed")
        self.assertEqual((await self.ask("GET", "/ready")).status, 200)
        return running.error

    async def test_one_whose_routes_raise(self) -> None:
        self.with_plugin(IOutput, BrokenRoutes())
        self.assertIn("routes", await self.failed())
        self.flushLoggedErrors(Gone)

    async def test_one_that_asks_for_what_is_the_apis(self) -> None:
        self.with_plugin(IOutput, Greedy())
        self.assertIn("auth", await self.failed())
        self.assertEqual((await self.ask("GET", "/api/v1/auth/login")).status, 405)

    async def test_one_whose_service_does_not_start(self) -> None:
        self.with_plugin(IIngest, BrokenService())
        self.assertIn("no such device", await self.failed())
        self.flushLoggedErrors(Gone)

    async def test_a_start_error_of_a_service_stops_the_start(self) -> None:
        service = BrokenService()
        service.error = StartError("the multicast interface does not exist")
        self.with_plugin(IIngest, service)
        self.assertEqual(await self.failing(), "the multicast interface does not exist")

    async def test_one_that_does_not_stop_cannot_hold_the_server(self) -> None:
        self.patch(app, "STOP_GRACE", 0.05)
        self.with_plugin(IIngest, Stuck())
        server = await self.start()
        await server.stopService()
        self.assertEqual(server.hub.streams, {})


class Settings(Section, frozen=True, kw_only=True):
    """[mine]"""

    reloadable = frozenset({"colour"})

    colour: str = "red"
    size: int = 1


@implementer(IOutput, IReloadable)
class Reloading(WatchingOutput):
    def __init__(self) -> None:
        super().__init__()
        self.got: list[Any] = []
        self.error: Exception | None = None

    def reload(self, settings: Any) -> None:
        if self.error is not None:
            raise self.error
        self.got.append(settings)


class TestReload(AppCase):
    async def test_what_can_change_does_and_what_cannot_is_named(self) -> None:
        server = await self.start()
        self.environ |= {
            "OXIDECAST_STREAMS_PUBLISHER_GRACE": "3",
            "OXIDECAST_STREAMS_GOP_CACHE_SIZE": "1000",
            "OXIDECAST_RTMP_MAX_CONNECTIONS": "7",
            "OXIDECAST_SERVER_MAX_CONNECTIONS": "77",
            "OXIDECAST_METRICS_MAX_STREAMS": "5",
        }
        self.assertEqual(server.reload(), ["streams.gop_cache_size"])
        self.assertEqual(server.hub.settings.publisher_grace, 3)
        self.assertEqual(server.hub.settings.gop_cache_size, StreamsSettings().gop_cache_size)
        self.assertEqual(server.rtmp.settings.max_connections, 7)
        self.assertEqual(server.web.factory.limits.max_connections, 77)  # type: ignore[union-attr]
        self.assertEqual(server.metrics.max_streams, 5)
        self.assertEqual(server.reload(), ["streams.gop_cache_size"])

    async def test_keys_of_tokens_change_and_what_the_old_ones_signed_goes_on(self) -> None:
        self.environ["OXIDECAST_AUTH_JWT_SECRET"] = secret = "the first secret of the tokens here"
        server = await self.start()
        first = await self.token("viewer")
        (self.folder / "data" / "new.pem").write_bytes(private_pem(ec_key()))
        (self.folder / "data" / "new.pem").chmod(0o600)
        self.environ |= {
            "OXIDECAST_AUTH_SIGNING_KEY": "new.pem",
            "OXIDECAST_AUTH_PREVIOUS_JWT_SECRETS": json.dumps([secret]),
        }
        self.assertEqual(server.reload(), [])
        second = await self.token("streamer")
        for token in (first, second):
            self.assertEqual((await self.ask("GET", "/api/v1/streams", token=token)).status, 200)
        self.assertEqual(jwt.get_unverified_header(second)["alg"], "ES256")
        self.assertEqual(len((await self.ask("GET", "/.well-known/jwks.json")).json["keys"]), 1)
        self.environ["OXIDECAST_AUTH_SIGNING_KEY"] = "none.pem"
        server.reload()
        self.assertEqual((await self.ask("GET", "/api/v1/streams", token=second)).status, 200)

    async def test_a_key_of_tokens_that_is_none_stops_the_start(self) -> None:
        self.environ["OXIDECAST_AUTH_SIGNING_KEY"] = "none.pem"
        error = self.assertRaises(StartError, self.build)
        self.assertIn("auth.signing_key", str(error))

    async def test_settings_that_are_wrong_change_nothing(self) -> None:
        server = await self.start()
        self.environ |= {"OXIDECAST_STREAMS_PUBLISHER_GRACE": "3", "OXIDECAST_SERVER_PORT": "nonsense"}
        self.assertEqual(server.reload(), [])
        self.assertEqual(server.hub.settings.publisher_grace, 15)

    async def test_a_plugin_gets_its_reloadable_keys_and_no_others(self) -> None:
        plugin = Reloading()
        self.with_plugin(IOutput, plugin, settings=Settings)
        server = await self.start()
        self.environ |= {"OXIDECAST_MINE_COLOUR": "blue", "OXIDECAST_MINE_SIZE": "9"}
        self.assertEqual(server.reload(), ["mine.size"])
        self.assertEqual([(one.colour, one.size) for one in plugin.got], [("blue", 1)])

    async def test_a_plugin_that_raises_does_not_keep_the_rest_from_changing(self) -> None:
        plugin = Reloading()
        plugin.error = Gone()
        self.with_plugin(IOutput, plugin, settings=Settings)
        server = await self.start()
        self.environ |= {"OXIDECAST_MINE_COLOUR": "blue", "OXIDECAST_STREAMS_PUBLISHER_GRACE": "3"}
        server.reload()
        self.assertEqual(server.hub.settings.publisher_grace, 3)
        self.flushLoggedErrors(Gone)

    async def test_a_plugin_that_was_installed_meanwhile_waits_for_a_restart(self) -> None:
        server = await self.start()
        self.with_plugin(IOutput, Reloading(), settings=Settings)
        self.assertEqual(server.reload(), ["mine"])

    async def test_hls_follows_for_new_streams(self) -> None:
        server = await self.start()
        self.environ["OXIDECAST_HLS_SEGMENT_TYPE"] = "mpegts"
        self.assertEqual(server.reload(), [])
        hls, *_ = [one.instance for one in server.registry.of(IOutput)]
        self.assertEqual(hls._settings.segment_type, "mpegts")


class TestStop(AppCase):
    async def test_playlists_end_publishers_are_told_and_sockets_close(self) -> None:
        server = await self.start()
        key = (await server.foundation.prepare()).key
        encoder: Any = Encoder(self)  # type: ignore[arg-type]
        request = PublishRequest(protocol="test", address="192.0.2.1", key=key or "")
        publication = await server.hub.publish(request, encoder)
        for track in (VIDEO, AUDIO):
            publication.track(track)
        publication.packet(1, 0, 0, True, b"\0\0\0\1\x65")
        idle = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", server.web.number), Protocol())
        lost: Deferred[None] = Deferred()
        idle.connectionLost = lambda reason: lost.callback(None)  # type: ignore
        hls, *_ = [one.instance for one in server.registry.of(IOutput)]
        ports = (server.web.number, server.rtmp.number)
        await server.stopService()
        await lost
        self.assertEqual(encoder.stopped, ["shutting_down"])
        self.assertIn(b"#EXT-X-ENDLIST", bytes(hls.streams["my-stream"].renditions["source"].playlist.body))
        self.assertEqual(server.hub.streams, {})
        for port in ports:
            with socket.socket() as probe:
                self.assertNotEqual(probe.connect_ex(("127.0.0.1", port)), 0)

    async def test_stopping_twice_is_once(self) -> None:
        server = await self.start()
        await server.stopService()
        await server.stopService()


class TestConfigure(AppCase):
    def test_every_plugin_has_a_section_of_its_name(self) -> None:
        configuration = configure(None, {})
        for plugin in configuration.found:
            self.assertIsInstance(configuration.settings[plugin.name], plugin.settings)

    def test_a_plugin_that_wants_the_servers_own_section_is_a_sentence(self) -> None:
        self.with_plugin(IOutput, WatchingOutput(), name="server")
        error = self.assertRaises(StartError, configure, None, {})
        self.assertIn("'server'", str(error))
