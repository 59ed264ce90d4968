"""Finding plugins in a folder, starting them, and what becomes of their faults."""

import importlib
import shutil
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

import oxidecast.plugins
from oxidecast.foundation import configure
from oxidecast.interfaces import IAuthenticator, IEventListener, IIngest, IOutput
from oxidecast.registry import (
    SLOW_CALLS_ALLOWED,
    SLOW_WINDOW,
    Detached,
    Plugin,
    Registry,
    Running,
    discover,
    enabled,
    kind_word,
    start,
)
from oxidecast.settings.errors import StartError
from tests.streams.stage import Listener, WatchingOutput

DROPIN = """
from oxidecast.interfaces import IOutput
from oxidecast.registry import Plugin

one = Plugin({name!r}, IOutput, print, api_version={version})
"""


class DiscoverCase(SynchronousTestCase):
    def setUp(self) -> None:
        # A package as `oxidecast.plugins` is one, and a folder outside of it as `plugins.path` names one.
        root = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, root)
        self.folder = root / "elsewhere"
        self.folder.mkdir()
        (root / "dropins_of_a_test").mkdir()
        (root / "dropins_of_a_test" / "__init__.py").write_text("")
        sys.path.insert(0, str(root))
        self.addCleanup(sys.path.remove, str(root))
        self.addCleanup(self._forget, "dropins_of_a_test")
        importlib.invalidate_caches()
        self.package = importlib.import_module("dropins_of_a_test")

    def _forget(self, package: str) -> None:
        for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
            del sys.modules[name]

    def write(self, module: str, text: str) -> None:
        (self.folder / f"{module}.py").write_text(text)
        importlib.invalidate_caches()

    def dropin(self, module: str, name: str, version: int = 1) -> None:
        self.write(module, DROPIN.format(name=name, version=version))

    def discover(self) -> list[Any]:
        return discover(self.package, (str(self.folder),))

    def refusal(self) -> str:
        return str(self.assertRaises(StartError, self.discover))


class TestDiscover(DiscoverCase):
    def test_a_drop_in_in_a_named_folder_is_found(self) -> None:
        self.dropin("a_dropin", "mine")
        self.assertEqual([(one.name, kind_word(one)) for one in self.discover()], [("mine", "output")])

    def test_looking_twice_finds_it_once(self) -> None:
        self.dropin("a_dropin", "mine")
        self.discover()
        self.assertEqual(len(self.discover()), 1)
        self.assertEqual(self.package.__path__.count(str(self.folder)), 1)

    def test_one_that_raises_at_import_is_logged_and_left_out(self) -> None:
        self.dropin("a_dropin", "mine")
        self.write("b_dropin", "raise RuntimeError('broken at import')")
        self.assertEqual([one.name for one in self.discover()], ["mine"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_another_api_version_stops_the_start(self) -> None:
        self.dropin("a_dropin", "mine", version=7)
        self.assertIn("'mine' is written for plugin API 7", self.refusal())

    def test_two_of_a_name_stop_the_start(self) -> None:
        self.dropin("a_dropin", "mine")
        self.dropin("b_dropin", "mine")
        self.assertIn("two plugins of the kind output are named 'mine'", self.refusal())

    def test_a_name_that_cannot_be_a_section_stops_the_start(self) -> None:
        for name in ("My Output", "../x", "", "a" * 65):
            self.dropin("a_dropin", name)
            self._forget(f"{self.package.__name__}.a_dropin")
            self.assertIn("a plugin is named", self.refusal())

    def test_a_kind_that_does_not_exist_stops_the_start(self) -> None:
        self.write(
            "a_dropin",
            "from oxidecast.registry import Plugin\nfrom zope.interface import Interface\n"
            "one = Plugin('mine', Interface, print)",
        )
        self.assertIn("of no kind", self.refusal())

    def test_a_plugin_without_any_attribute_stops_the_start_with_a_sentence(self) -> None:
        self.write(
            "a_dropin",
            "from zope.interface import implementer\nfrom oxidecast.interfaces import IPlugin\n"
            "@implementer(IPlugin)\nclass Bare: pass\none = Bare()",
        )
        self.assertIn("written for plugin API None", self.refusal())

    def test_the_built_in_ones_come_through_the_same_door(self) -> None:
        found = {(kind_word(one), one.name) for one in discover(oxidecast.plugins)}
        self.assertLessEqual({("ingest", "rtmp"), ("ingest", "testpattern"), ("output", "hls")}, found)


class TestEnabled(SynchronousTestCase):
    plugins = [Plugin("one", IOutput, print), Plugin("two", IIngest, print)]

    def test_those_that_are_named_are_switched_off(self) -> None:
        self.assertEqual([one.name for one in enabled(self.plugins, ["one"])], ["two"])

    def test_an_unknown_name_stops_the_start_and_lists_what_was_found(self) -> None:
        error = self.assertRaises(StartError, enabled, self.plugins, ["three"])
        self.assertIn("'three'", str(error))
        self.assertIn("one, two", str(error))

    def test_the_settings_reach_it(self) -> None:
        environ = {"OXIDECAST_PLUGINS_DISABLED": '["hls"]'}
        configuration = configure(None, environ)
        self.assertNotIn("hls", [one.name for one in configuration.plugins])
        self.assertIn("hls", [one.name for one in configuration.found])
        self.assertRaises(StartError, configure, None, {"OXIDECAST_PLUGINS_DISABLED": '["nonsense"]'})


class TestStart(SynchronousTestCase):
    def setUp(self) -> None:
        self.services = SimpleNamespace(reactor=Clock())

    def start(self, factory: Any, kind: Any = IOutput) -> Running:
        return start(Plugin("mine", kind, factory), "settings", self.services)

    def test_the_factory_gets_settings_and_services(self) -> None:
        got: list[Any] = []

        def factory(*given: Any) -> WatchingOutput:
            got.extend(given)
            return WatchingOutput()

        self.assertEqual(self.start(factory).state, "running")
        self.assertEqual(got, ["settings", self.services])

    def test_a_factory_that_raises_marks_the_plugin_failed(self) -> None:
        def factory(settings: Any, services: Any) -> None:
            raise RuntimeError("no such device")

        running = self.start(factory)
        self.assertEqual((running.state, running.error), ("failed", "it did not start: no such device"))
        self.flushLoggedErrors(RuntimeError)

    def test_what_does_not_provide_the_interface_is_failed(self) -> None:
        running = self.start(lambda settings, services: object())
        self.assertEqual(running.state, "failed")
        self.assertIn("IOutput", running.error)

    def test_what_claims_the_interface_and_lacks_a_method_is_failed(self) -> None:
        @implementer(IEventListener)
        class Half: ...

        running = self.start(lambda settings, services: Half(), IEventListener)
        self.assertEqual(running.state, "failed")

    def test_one_that_provides_a_second_kind_is_found_by_both(self) -> None:
        @implementer(IAuthenticator)
        class Both(Listener):
            async def may_publish(self, request: Any) -> None: ...

            async def may_play(self, stream: Any, request: Any) -> None: ...

        both = self.start(lambda settings, services: Both(), IEventListener)
        registry = Registry([both])
        self.assertEqual(
            (list(registry.of(IEventListener)), list(registry.of(IAuthenticator))), ([both], [both])
        )
        self.assertEqual(list(registry.of(IOutput)), [])

    def test_one_that_claims_a_second_kind_and_lacks_a_method_is_failed(self) -> None:
        @implementer(IAuthenticator)
        class Half(Listener): ...

        running = self.start(lambda settings, services: Half(), IEventListener)
        self.assertEqual(running.state, "failed")
        self.assertIn("IAuthenticator", running.error)

    def test_a_failed_one_is_none_of_its_kind(self) -> None:
        registry = Registry([self.start(lambda settings, services: object())])
        self.assertEqual(list(registry.of(IOutput)), [])


class TestRunning(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.running = Running(Plugin("mine", IOutput, print), self.clock.seconds)
        self.failed: list[str] = []
        self.running.on_failed.append(lambda: self.failed.append("failed"))

    def test_what_it_raises_becomes_detached_and_is_counted(self) -> None:
        error = self.assertRaises(Detached, self.running.call, int, "x")
        self.assertIsInstance(error.__cause__, ValueError)
        self.assertEqual((self.running.faults, self.running.state), (1, "running"))
        self.flushLoggedErrors(ValueError)

    def test_slow_calls_are_counted_and_then_it_is_detached_once(self) -> None:
        for _ in range(SLOW_CALLS_ALLOWED):
            self.running.call(self.clock.advance, 0.2)
        self.assertEqual(self.running.state, "running")
        self.running.call(self.clock.advance, 0.2)
        self.assertEqual((self.running.state, self.failed), ("failed", ["failed"]))
        self.assertRaises(Detached, self.running.call, self.clock.advance, 0.2)
        self.running.fail("again")
        self.assertEqual(self.failed, ["failed"])

    def test_slow_calls_that_are_rare_never_add_up(self) -> None:
        for _ in range(SLOW_CALLS_ALLOWED * 10):
            self.running.call(self.clock.advance, 0.2)
            self.clock.advance(SLOW_WINDOW / SLOW_CALLS_ALLOWED)
        self.assertEqual(self.running.state, "running")
        self.assertEqual(self.running.slow_calls.total, SLOW_CALLS_ALLOWED * 10)

    def test_quick_calls_are_not(self) -> None:
        for _ in range(1000):
            self.running.call(self.clock.advance, 0.09)
        self.assertEqual(self.running.slow_calls.total, 0)

    def test_a_slow_call_that_raises_counts_as_both(self) -> None:
        def both() -> None:
            self.clock.advance(1)
            raise ValueError

        self.assertRaises(Detached, self.running.call, both)
        self.assertEqual((self.running.faults, self.running.slow_calls.total), (1, 1))
        self.flushLoggedErrors(ValueError)


class TestIngestAddresses(SynchronousTestCase):
    def test_the_host_is_put_in_and_a_broken_ingest_is_left_out(self) -> None:
        def running(name: str, addresses: Any) -> Running:
            return Running(Plugin(name, IIngest, print), lambda: 0.0, SimpleNamespace(addresses=addresses))

        def later() -> Any:
            yield "x://HOST"
            raise ValueError("broken")

        registry = Registry(
            [running("bad", later), running("good", lambda: ("rtmp://HOST:1935/live", "/whip"))]
        )
        self.assertEqual(
            registry.ingest_addresses("https://example.com:8443"),
            ["rtmp://example.com:1935/live", "https://example.com:8443/whip"],
        )
        self.assertEqual(registry.ingest_addresses("http://[::1]:8080")[0], "rtmp://[::1]:1935/live")
        self.flushLoggedErrors(ValueError)
