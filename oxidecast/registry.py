"""Finding plugins, and keeping their faults from everybody else.

The one idea: a drop-in is only a name and a factory, so that looking at all of them is cheap and safe; what runs is
made by `start`, and is called through a `Running`, which contains what it raises.
"""

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, ParamSpec, TypeVar

import msgspec
from twisted.logger import Logger
from twisted.plugin import getPlugins
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

import oxidecast
from oxidecast.interfaces import (
    API_VERSION,
    IAuthenticator,
    IEventListener,
    IIngest,
    IOutput,
    IPlugin,
    IServices,
    ITranscoderBackend,
)
from oxidecast.settings.errors import StartError

P = ParamSpec("P")
R = TypeVar("R")

CALLBACK_BOUND = 0.1
"""Seconds that one call into a plugin may keep the reactor. A viewer's buffer hides a tenth of a second, and no
built-in callback takes more than a few milliseconds."""

SLOW_CALLS_ALLOWED = 20
SLOW_WINDOW = 60.0
"""So many calls over the bound within so many seconds detach a plugin: a noisy machine makes a few a day, which must
not add up over months; a plugin that blocks makes many a minute, even one that does so only at each segment."""

KINDS: dict[str, Any] = {
    "ingest": IIngest,
    "output": IOutput,
    "transcoder": ITranscoderBackend,
    "listener": IEventListener,
    "authenticator": IAuthenticator,
}
"""The kinds by the words that `oxidecast plugins` prints."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


class NoSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The section of a plugin without settings."""


@implementer(IPlugin)
@dataclass(frozen=True)
class Plugin:
    """A drop-in's entry: see `IPlugin`. `factory(settings, services)` makes the running plugin; `check` is what
    `IPlugin.check` says, if there is anything to check."""

    name: str
    kind: Any
    factory: Callable[[Any, IServices], Any]
    settings: type[msgspec.Struct] = NoSettings
    api_version: int = API_VERSION
    check: Callable[[Any], Iterable[tuple[str, str]]] = lambda settings: ()

    def start(self, settings: Any, services: IServices) -> Any:
        return self.factory(settings, services)


def kind_word(plugin: IPlugin) -> str:
    """`output`, `ingest`, ...: the word of the plugin's kind."""
    return next(word for word, kind in KINDS.items() if kind is plugin.kind)


def discover(package: ModuleType, path: Sequence[str] = ()) -> list[IPlugin]:
    """All drop-ins in `package` that can be imported, sorted by kind and name.

    `path` names further folders that hold drop-in modules. A module that raises is logged and left out by
    `twisted.plugin`. Raises StartError for a wrong version, kind or name, or two of a kind with one name.
    """
    for folder in path:
        if folder not in package.__path__:
            package.__path__.append(folder)
    found: dict[tuple[str, str], IPlugin] = {}
    for plugin in getPlugins(IPlugin, package):
        name, version = getattr(plugin, "name", None), getattr(plugin, "api_version", None)
        if version != API_VERSION:
            raise StartError(
                f"the plugin {name!r} is written for plugin API {version}, "
                f"and OxideCast {oxidecast.__version__} has {API_VERSION}: upgrade the plugin or remove it"
            )
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise StartError(
                f"a plugin is named {name!r}: a name is like my_output, of at most 64 characters"
            )
        if getattr(plugin, "kind", None) not in KINDS.values():
            raise StartError(f"the plugin {name!r} is of no kind that this server has: {', '.join(KINDS)}")
        key = (kind_word(plugin), plugin.name)
        if key in found:
            raise StartError(f"two plugins of the kind {key[0]} are named {key[1]!r}: remove one")
        found[key] = plugin
    return [found[key] for key in sorted(found)]


def enabled(plugins: Iterable[IPlugin], disabled: Sequence[str]) -> list[IPlugin]:
    """Those that are not switched off by name; an unknown name stops the start."""
    plugins = list(plugins)
    names = sorted({plugin.name for plugin in plugins})
    for name in disabled:
        if name not in names:
            raise StartError(
                f"plugins.disabled names {name!r}, and no such plugin was found; found: {', '.join(names)}"
            )
    return [plugin for plugin in plugins if plugin.name not in disabled]


class Detached(Exception):
    """The plugin was detached before, or by this call."""


class SlowCalls:
    """Counts the calls over the bound; `total` since the start."""

    __slots__ = ("_recent", "total")

    def __init__(self) -> None:
        self.total = 0
        self._recent: deque[float] = deque(maxlen=SLOW_CALLS_ALLOWED + 1)

    def another(self, now: float) -> bool:
        """Count one more; whether that is too many."""
        self.total += 1
        self._recent.append(now)
        return len(self._recent) > SLOW_CALLS_ALLOWED and now - self._recent[0] <= SLOW_WINDOW


@dataclass(eq=False)
class Running:
    """A started plugin, and the record of its faults."""

    plugin: IPlugin
    seconds: Callable[[], float]
    instance: Any = None
    state: str = "running"
    """`running`, or `failed`."""
    error: str = ""
    """Why it failed, for people."""
    faults: int = 0
    slow_calls: SlowCalls = field(default_factory=SlowCalls)
    on_failed: list[Callable[[], None]] = field(default_factory=list)
    """Called once when the plugin is detached."""

    log = Logger()

    @property
    def name(self) -> str:
        return self.plugin.name

    def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call into the plugin. Raises `Detached` instead of what the plugin raises."""
        if self.state != "running":
            raise Detached(self.name)
        began = self.seconds()
        try:
            return function(*args, **kwargs)
        except Exception as error:
            self.fault(error)
            raise Detached(self.name) from error
        finally:
            if self.seconds() - began > CALLBACK_BOUND:
                self.slow(self.seconds() - began)

    def fault(self, error: BaseException) -> None:
        """Log and count what the plugin raised."""
        self.faults += 1
        self.log.failure(
            "the plugin {plugin} raised {error!r}",
            failure=Failure(error),
            plugin=self.name,
            error=error,
        )

    def fail(self, sentence: str) -> None:
        """Detach the plugin from the whole server."""
        if self.state == "running":
            self.state, self.error = "failed", sentence
            self.log.error("the plugin {plugin} is detached: {sentence}", plugin=self.name, sentence=sentence)
            for callback in self.on_failed:
                callback()

    def slow(self, seconds: float) -> None:
        """Count a call that kept the reactor; detach the plugin that goes on so."""
        self.log.warn(
            "the plugin {plugin} kept the reactor for {ms:.0f} ms", plugin=self.name, ms=seconds * 1000
        )
        if self.slow_calls.another(self.seconds()):
            self.fail(
                f"it kept the reactor longer than {CALLBACK_BOUND} s more than {SLOW_CALLS_ALLOWED} times "
                f"in {SLOW_WINDOW:g} s"
            )


def start(plugin: IPlugin, settings: Any, services: IServices) -> Running:
    """Call the factory. The answer's state is `failed` when it raised or does not provide what it should."""
    running = Running(plugin, services.reactor.seconds)
    try:
        running.instance = running.call(plugin.start, settings, services)
        kind = plugin.kind
        verifyObject(kind, running.instance)
        for kind in KINDS.values():
            if kind.providedBy(running.instance):
                verifyObject(kind, running.instance)
    except Detached as error:
        running.fail(f"it did not start: {error.__cause__}")
    except Exception as error:
        running.fail(f"it does not provide {kind.__name__}: {error}")
    return running


@dataclass
class Registry:
    """The plugins of one server, started."""

    running: list[Running] = field(default_factory=list)

    def of(self, kind: Any) -> Iterator[Running]:
        """The started plugins of a kind that have not failed, with those of other kinds that provide its interface
        as well."""
        return (
            one
            for one in self.running
            if one.state == "running" and (one.plugin.kind is kind or kind.providedBy(one.instance))
        )

    def ingest_addresses(self, base: str) -> list[str]:
        """Where to publish, for people who reach this server's HTTP port as `base` (`http://HOST:PORT`)."""
        host = re.sub(r":[0-9]+$", "", base.partition("://")[2])
        found: list[str] = []
        for running in list(self.of(IIngest)):
            try:
                found += running.call(lambda: [str(address) for address in running.instance.addresses()])  # noqa: B023
            except Detached:
                continue
        return [base + one if one.startswith("/") else one.replace("HOST", host) for one in found]
