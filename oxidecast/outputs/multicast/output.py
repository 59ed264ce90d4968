"""Multicast as an output plugin: which renditions have a group, and what the server says of them.

The one idea: what should be sent follows from the stream's privacy, its owner's choices and its renditions alone; when
one of them changes, `_settle` looks at all again, and opens and closes groups until it is so.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from oxidecast.database import DatabaseError
from oxidecast.delivery.pacing import Pacer
from oxidecast.formats.m3u import Channel
from oxidecast.formats.mpegts import TSWriter, carries
from oxidecast.interfaces import (
    IFollowsStream,
    IMeasured,
    IOutput,
    IOutputStream,
    IRendition,
    IServices,
    IStream,
    IStreamChoices,
    Refused,
)
from oxidecast.media import LocalProtocolError
from oxidecast.outputs.multicast.announcer import Announcer
from oxidecast.outputs.multicast.channels import ChannelsResource
from oxidecast.outputs.multicast.figures import Figures
from oxidecast.outputs.multicast.group import Group, carried
from oxidecast.outputs.multicast.numbers import Exhausted, GroupNumbers
from oxidecast.outputs.multicast.settings import (
    Addresses,
    MulticastChoices,
    MulticastSettings,
    is_source_specific,
)
from oxidecast.streams.info import StreamInfo

NAME = "multicast"

RETRY = 5.0
"""Seconds before the database is asked again for a group's number."""

MEASURE = 5.0
"""Seconds over which a group's bitrate is measured."""


def choices_of(info: StreamInfo) -> MulticastChoices:
    """What the owner of a stream chose."""
    try:
        return msgspec.convert(info.outputs.get(NAME, {}), MulticastChoices)
    except msgspec.ValidationError:
        # Written by another version: nothing is sent that the owner may not have wanted.
        return MulticastChoices(enabled=False)


@implementer(IOutputStream, IFollowsStream)
class MulticastStream:
    """One stream's groups."""

    log = Logger()

    def __init__(self, output: "MulticastOutput", stream: IStream) -> None:
        self.stream = stream
        self.groups: dict[str, Group] = {}
        """By the rendition's name."""
        self._output = output
        self._renditions: dict[str, IRendition] = {}
        self.asking: dict[str, Deferred[None]] = {}
        """Renditions whose number is being asked for."""
        self._over = False

    # -- IOutputStream

    def rendition_added(self, rendition: IRendition) -> None:
        self._renditions[rendition.name] = rendition
        self._settle()

    def rendition_removed(self, name: str) -> None:
        del self._renditions[name]
        self._settle()

    def info_changed(self) -> None:
        for group in self.groups.values():
            group.rename()
        self._settle()

    def closed(self, reason: str) -> None:
        self._over = True
        self._settle()
        self._output.forget(self)

    def urls(self, rendition: str | None) -> Mapping[str, str]:
        rendition = self._instead(rendition)
        group = next(
            (one for name, one in self.groups.items() if one.sends and rendition in (None, name)), None
        )
        if group is not None:
            return {NAME: group.channel().uri}
        url = self._will_be_at(rendition) if rendition in self._planned() else None
        return {NAME: url} if url is not None else {}

    def stats(self) -> Mapping[str, Any]:
        return {name: group.stats() for name, group in self.groups.items()}

    # -- inside

    def _wanted(self) -> Iterator[str]:
        """Renditions that run and are sent."""
        return self._chosen(self._renditions)

    def _planned(self) -> list[str]:
        """Those that will be as soon as somebody wants them: whoever does has to know where."""
        return [name for name in self._ladder() if name not in self._renditions]

    def _ladder(self) -> Iterator[str]:
        """What of the ladder is sent while it runs. Nobody is to want what cannot be carried then."""
        return self._chosen(name for name, one in self.stream.planned.items() if carries(one.codec))

    def _instead(self, rendition: str | None) -> str | None:
        """For a source that is not sent as it is, the first quality that can be: by this name it has to be wanted."""
        sent = "source" in self._wanted()
        if rendition not in ((None, "source") if sent else (None,)):
            return rendition
        as_it_is = sent and carried(self._renditions["source"].tracks, self._output.settings.opus)[0]
        return rendition if as_it_is else next(self._ladder(), rendition)

    def _chosen(self, names: Iterable[str]) -> Iterator[str]:
        if not self._over:
            choices = choices_of(self.stream.info)
            for name in names:
                if choices.wants(name, self.stream.info.is_private):
                    yield name

    def _will_be_at(self, name: str) -> str | None:
        """The address of one that does not run."""
        number = self._output.numbers.known(self.stream.id, name)
        senders = {group.channel().source for group in self.groups.values()}
        return self._output.address(number, next(iter(senders), "")) if number is not None else None

    def _settle(self) -> None:
        wanted, planned = set(self._wanted()), self._planned()
        for name in [name for name in self.asking if name not in wanted and name not in planned]:
            self.asking.pop(name).cancel()
            self.stream.notice(f"{NAME}:{name}:number", None)
        for name in [name for name in self.groups if name not in wanted]:
            self._close(name)
        for name in self._renditions:
            if name in wanted and name not in self.groups and name not in self.asking:
                self._open(name)
        if not self.asking:
            # One after another, so that their numbers are in order, and after those that run.
            unknown = (name for name in planned if self._output.numbers.known(self.stream.id, name) is None)
            self._ask_for(next(unknown, None))
        for name, group in self.groups.items():
            group.feed(self._source(name), self)
        self._say()

    def _source(self, name: str) -> IRendition | None:
        """The rendition itself; for the source, whose pictures cannot be carried, another whose can."""
        own = self._renditions[name]
        opus = self._output.settings.opus
        if name == "source" and not carried(own.tracks, opus)[0]:
            for other in self._renditions.values():
                tracks, _ = carried(other.tracks, opus)
                if any(track.is_video for track in tracks):
                    return other
        return own

    def _open(self, name: str) -> None:
        number = self._output.numbers.known(self.stream.id, name)
        if number is not None:
            try:
                self.groups[name] = self._output.open_group(self.stream, name, number, self._settle)
            except LocalProtocolError as error:
                self.stream.notice(f"{NAME}:{name}:number", f"multicast of {name} cannot be sent: {error}")
            return
        self._ask_for(name)

    def _ask_for(self, name: str | None) -> None:
        if name is None:
            return
        asking = Deferred.fromCoroutine(self._ask(name))
        asking.addErrback(self._not_asked)
        if not asking.called:
            self.asking[name] = asking

    async def _ask(self, name: str) -> None:
        """Get a number for a rendition, then send it if it runs."""
        numbers, in_use = self._output.numbers, self._output.in_use()
        try:
            await numbers.give(self.stream.id, name, in_use)
        except (Exhausted, DatabaseError) as error:
            sentence = (
                str(error) if isinstance(error, Exhausted) else "the database is away, and gives no group"
            )
            self.stream.notice(f"{NAME}:{name}:number", f"multicast of {name}: {sentence}")
            await self._output.pause(RETRY)
        else:
            self.stream.notice(f"{NAME}:{name}:number", None)
        self.asking.pop(name, None)
        self._settle()

    def _not_asked(self, failure: Any) -> None:
        if not failure.check(CancelledError):
            self.log.failure("{stream}: no group was opened", failure=failure, stream=self.stream.name)

    def _close(self, name: str) -> None:
        group = self.groups.pop(name)
        self._output.close_group(group, drain=self._over)
        for kind in ("overrun", "tracks", "number"):
            self.stream.notice(f"{NAME}:{name}:{kind}", None)

    def _say(self) -> None:
        """Tell people what is not carried, and list what is."""
        for name, group in self.groups.items():
            what = "leaves something out" if group.sends else "is not sent"
            self.stream.notice(
                f"{NAME}:{name}:tracks",
                f"multicast of {name} {what}: {'; '.join(group.missing)}" if group.missing else None,
            )
            self._output.announce(self.stream, group)


@implementer(IOutput, IStreamChoices, IMeasured)
class MulticastOutput(Service):
    """The plugin while it runs."""

    log = Logger()
    choices = MulticastChoices

    def __init__(self, settings: MulticastSettings, services: IServices) -> None:
        self.settings = settings
        self.services = services
        self.addresses = Addresses(settings)
        self.numbers = GroupNumbers(services.database, services.reactor, self.addresses)
        self.streams: dict[str, MulticastStream] = {}
        """By id, those that are live."""
        self._pacer = Pacer(services.reactor)
        self._figures = Figures()
        self._announcer = Announcer(settings, services.reactor)
        self._writers: dict[int, TSWriter] = {}
        """The last writer to each group, by number: who goes on there goes on with its counters."""
        self._draining: dict[int, Group] = {}
        """Groups by number whose last packets are leaving."""
        self._measure = LoopingCall(self._look)
        self._measure.clock = services.reactor

    def startService(self) -> None:
        super().startService()
        self._measure.start(MEASURE, now=False)
        Deferred.fromCoroutine(self._load())

    async def _load(self) -> None:
        try:
            await self.numbers.load()
        except DatabaseError as error:
            self.log.warn("the multicast groups could not be read: {error}", error=error)

    def stopService(self) -> None:
        super().stopService()
        if self._measure.running:
            self._measure.stop()
        for group in list(self._draining.values()):
            group.close()
        self._announcer.close()

    # -- IOutput

    def open(self, stream: IStream) -> MulticastStream:
        self.streams[stream.id] = MulticastStream(self, stream)
        return self.streams[stream.id]

    def urls(self, info: StreamInfo) -> Mapping[str, str]:
        # The address of a stream that was never sent is not known before it is.
        number = self.numbers.known(info.id, "source")
        if number is None or not choices_of(info).wants("source", info.is_private):
            return {}
        url = self.address(number)
        return {NAME: url} if url is not None else {}

    def routes(self) -> Mapping[str, Any]:
        return {NAME: ChannelsResource(self.public_groups, self.services.reactor.seconds)}

    # -- IStreamChoices

    def check_choices(self, info: StreamInfo, choices: MulticastChoices) -> None:
        if info.is_private and choices.enabled and not choices.open_to_everybody:
            raise Refused(
                "not_confirmed",
                "This stream is private, and multicast has no access control: everybody on the network can watch it. "
                "Say open_to_everybody if that is what you want.",
            )

    # -- IMeasured

    def metrics(self, streams: Collection[str]) -> Iterable[Any]:
        return self._figures.collect(self._groups(), streams)

    # -- what streams use

    def address(self, number: int, source: str = "") -> str | None:
        """Where a group will be; None where receivers must name the sender, and that is not known."""
        group, port = self.addresses.of(number)
        if is_source_specific(group) and not source:
            return None
        rtp = self.settings.encapsulation == "rtp"
        return Channel(id="", name="", group=group, port=port, rtp=rtp, source=source).uri

    def in_use(self) -> list[int]:
        """The numbers that are live."""
        return [group.number for _, group in self._groups()] + list(self._draining)

    def open_group(
        self, stream: IStream, rendition: str, number: int, on_restart: Callable[[], None]
    ) -> Group:
        """The way to a rendition's group."""
        before = self._draining.pop(number, None)
        if before is not None:
            before.close()
        group, port = self.addresses.of(number)
        return Group(
            stream,
            rendition,
            number,
            group,
            port,
            self.settings,
            self._pacer,
            self.services.reactor,
            on_restart,
            self._writers.get(number),
        )

    def close_group(self, group: Group, drain: bool) -> None:
        self._announcer.remove(group)
        self._figures.keep(group)
        if group.writer is not None:
            self._writers[group.number] = group.writer
        if drain and self.running:
            self._draining[group.number] = group
            group.close(drain=True, then=lambda: self._drained(group))
        else:
            group.close()

    def _drained(self, group: Group) -> None:
        if self._draining.get(group.number) is group:
            del self._draining[group.number]

    def announce(self, stream: IStream, group: Group) -> None:
        """Announce a group, as far as it may be: private streams are announced nowhere."""
        if group.sends and not stream.info.is_private:
            self._announcer.put(group, stream)
        else:
            self._announcer.remove(group)

    def forget(self, stream: MulticastStream) -> None:
        if self.streams.get(stream.stream.id) is stream:
            del self.streams[stream.stream.id]

    async def pause(self, seconds: float) -> None:
        waiting: Deferred[None] = Deferred()
        waiting.addTimeout(seconds, self.services.reactor, onTimeoutCancel=lambda result, after: None)
        await waiting

    def public_groups(self) -> Iterator[tuple[IStream, Group]]:
        """What everybody may know of, and can receive."""
        for output in self.streams.values():
            if not output.stream.info.is_private:
                yield from ((output.stream, group) for group in output.groups.values() if group.sends)

    def _groups(self) -> Iterator[tuple[IStream, Group]]:
        for output in self.streams.values():
            yield from ((output.stream, group) for group in output.groups.values())

    def _look(self) -> None:
        for _, group in self._groups():
            group.measure()
