"""A hub on a clock with the multicast plugin in it, on a host of its own, whose loopback is the wire."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import TestCase

from oxidecast.database.migrations import migrate
from oxidecast.database.records import utc
from oxidecast.database.sqlite import SqliteDatabase
from oxidecast.delivery.pacing import TICK
from oxidecast.interfaces import IOutput
from oxidecast.media import Codec, Track
from oxidecast.outputs.multicast.output import MulticastOutput, MulticastStream
from oxidecast.outputs.multicast.settings import MulticastSettings
from tests.delivery.receiving import Receiver
from tests.e2e.netns import Host
from tests.formats.material import stream as material
from tests.settings.support import temporary_folder
from tests.streams.stage import Encoder, HubCase, info

VIDEO, AUDIO = material(Codec.H264, frames=2)[0], material(Codec.AAC, frames=2)[0]
GROUP, PORT = "239.255.0.1", 30_000


class MulticastCase(HubCase, TestCase):
    """`await self.begin()`, then encoders as in `HubCase`."""

    timeout = 20

    def setUp(self) -> None:
        super().setUp()
        # Time passes a tick at a time, whoever lets it pass.
        self.patch(self.clock, "advance", partial(advance, self.clock))
        self.host = Host("a")
        self.addCleanup(lambda: self.host.remove())
        self.host.ip("route", "add", "232.0.0.0/8", "dev", "lo")
        self.folder = temporary_folder(self)

    async def begin(self, **settings: Any) -> MulticastOutput:
        self.database = SqliteDatabase(self.folder / "test.db", reactor)
        self.addCleanup(self.database.close)
        await migrate(self.database, utc(self.clock))
        return self.restart(**settings)

    def restart(self, **settings: Any) -> MulticastOutput:
        """The plugin anew, as after a restart of the server."""
        services: Any = SimpleNamespace(
            reactor=self.clock, hub=self.hub, database=self.database, data_directory=Path(self.folder)
        )
        self.registry.running = [one for one in self.registry.running if one.plugin.kind is not IOutput]
        self.multicast = MulticastOutput(
            MulticastSettings(**{"interface": "127.0.0.1", **settings}), services
        )
        self.running = self.add("multicast", IOutput, self.multicast)
        self.multicast.startService()
        self.addCleanup(self.stop, self.multicast)
        return self.multicast

    def stop(self, multicast: MulticastOutput) -> None:
        self.hub.close()
        if multicast.running:
            multicast.stopService()

    async def live(self, *tracks: Track, key: str = "key-of-show", seconds: float = 1) -> Encoder:  # type: ignore[override]
        """A stream that is sent: an encoder that goes on at a keyframe."""
        with self.host.entered():
            encoder = Encoder(self, key=key).connect(*(tracks or (VIDEO, AUDIO)))
            encoder.send(30)
            await self.settled(key.removeprefix("key-of-"))
            self.send(encoder, seconds)
        return encoder

    async def settled(self, name: str = "show") -> None:
        """Wait for the database's answers."""
        id = info(name).id
        while (output := self.multicast.streams.get(id)) is not None and output.asking:
            await deferLater(reactor, 0.005)

    def send(self, encoder: Encoder, seconds: float) -> None:
        """The encoder's pictures in their time, and the ticks between them."""
        with self.host.entered():
            for _ in range(round(seconds * 30)):
                encoder.send(1)
                self.turn(0)

    def turn(self, seconds: float) -> None:
        """Let time go by."""
        with self.host.entered():
            self.clock.advance(seconds)

    def receiver(self, group: str = GROUP, port: int = PORT) -> Receiver:
        with self.host.entered():
            receiver = Receiver(group, port, "lo")
        self.addCleanup(receiver.close)
        return receiver

    def sent(self, name: str = "show") -> MulticastStream:
        return self.multicast.streams[info(name).id]


def advance(clock: Clock, seconds: float) -> None:
    """`Clock.advance` in steps that a pacer's tick does not miss."""
    until = clock.seconds() + seconds
    Clock.advance(clock, 0)
    while clock.seconds() < until - TICK / 1000:
        Clock.advance(clock, min(TICK, until - clock.seconds()))
