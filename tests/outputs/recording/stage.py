"""A hub on a clock with the recording plugin in it: real files in a temporary directory, a real database."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import msgspec
from twisted.internet import reactor
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import TestCase

from oxidecast.database.migrations import migrate
from oxidecast.database.recordings import Recording, Recordings
from oxidecast.database.records import utc
from oxidecast.database.sqlite import SqliteDatabase
from oxidecast.database.streams import Streams
from oxidecast.database.users import Users
from oxidecast.interfaces import IEventListener, IOutput
from oxidecast.media import Codec, Track
from oxidecast.outputs.recording.output import RecordingOutput
from oxidecast.outputs.recording.settings import RecordingSettings
from oxidecast.settings.sections import StorageSettings
from tests.formats.material import stream as material
from tests.settings.support import temporary_folder
from tests.streams.stage import Encoder, HubCase, Listener

VIDEO, PICTURES = material(Codec.H264, frames=48)
AUDIO = material(Codec.AAC, frames=2)[0]
SOUND = material(Codec.AAC, frames=2)[1][0].payload


class Time:
    """The clock, with the real reactor's threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._clock if hasattr(self._clock, name) else reactor, name)


class RealEncoder(Encoder):
    """Sends pictures that decode, a keyframe every 12 of them."""

    def connect(self, *tracks: Track, expect: tuple[bool, bool] | None = None) -> "RealEncoder":
        super().connect(*(tracks or (VIDEO, AUDIO)), expect=expect)
        return self

    def send(self, pictures: int, video: bool = True, audio: bool = True, keyframes: bool = True) -> None:
        for _ in range(pictures):
            one = PICTURES[self._count % len(PICTURES)]
            if video:
                ahead = one.pts - one.dts
                at = self._picture
                self.publication.packet(1, at, at + ahead, one.keyframe and keyframes, one.payload)
            self._count += 1
            self._picture += 3000
            while self._sound < self._picture:
                if audio:
                    self.publication.packet(2, self._sound, self._sound, True, SOUND, 1024)
                self._sound += 1920
            self.case.clock.advance(1 / 30)


class Closed(Listener):
    """Notes the files of recordings that were closed."""

    def __init__(self) -> None:
        super().__init__()
        self.paths: list[Path] = []

    def recording_closed(self, stream: Any, path: str) -> None:
        self.paths.append(Path(path))


class RecordingCase(HubCase, TestCase):
    """`await self.begin()`, then encoders that publish to `show`, which is recorded."""

    timeout = 20

    async def begin(self, storage: StorageSettings | None = None, **settings: Any) -> RecordingOutput:
        self.folder = temporary_folder(self)
        self.database = SqliteDatabase(self.folder / "test.db", reactor)
        self.addCleanup(self.database.close)
        await migrate(self.database, utc(self.clock))
        owner = await Users(self.database, self.clock).create("ada", "no hash", "streamer")
        self.info = await Streams(self.database, self.clock).create(
            owner.id, "Show", name="show", recording_enabled=True
        )
        self.keys.infos["key-of-show"] = self.info
        self.recordings = Recordings(self.database, self.clock)
        self.events = Closed()
        self.add("closed", IEventListener, self.events)
        return self.plugin(storage, **settings)

    def plugin(self, storage: StorageSettings | None = None, **settings: Any) -> RecordingOutput:
        """The plugin anew, as after a restart of the server."""
        services: Any = SimpleNamespace(
            reactor=Time(self.clock),
            hub=self.hub,
            database=self.database,
            data_directory=self.folder,
            storage=storage or StorageSettings(),
        )
        self.registry.running = [one for one in self.registry.running if one.plugin.kind is not IOutput]
        output = self.output_plugin = RecordingOutput(RecordingSettings(**settings), services)
        self.add("recording", IOutput, output)
        output.startService()
        self.addCleanup(self.stop, output)
        return output

    async def stop(self, output: RecordingOutput) -> None:
        self.hub.close()
        if output.running:
            await output.stopService()

    def encoder(self, *tracks: Track, at: int = 0) -> RealEncoder:
        return RealEncoder(self, at=at).connect(*tracks)

    def change(self, **changes: Any) -> None:
        """As when the owner changes the stream."""
        self.stream.change_info(msgspec.structs.replace(self.stream.info, **changes))

    def near(self, found: float, expected: float, delta: float) -> None:
        assert abs(found - expected) <= delta, f"{found} is not {expected} within {delta}"

    async def until(self, look: Callable[[], Any]) -> None:
        while not look():
            await deferLater(reactor, 0.002)

    async def rows(self, state: str = "complete", count: int = 1) -> list[Recording]:
        """The recordings in this state, oldest first, as soon as there are so many."""
        while True:
            found: list[Recording] = (await self.recordings.page(sort="started", state=state)).items  # type: ignore[arg-type]
            if len(found) >= count:
                return found
            await deferLater(reactor, 0.005)

    def path(self, one: Recording) -> Path:
        return self.folder / "recordings" / one.path

    @property
    def notices(self) -> str:
        return " ".join(self.stream.notices.values())


class Played:
    """A file as PyAV reads it: every frame decoded."""

    def __init__(self, path: Path) -> None:
        with av.open(str(path)) as container:
            self.duration = (container.duration or 0) / 1_000_000
            self.codecs = [one.codec_context.name for one in container.streams]
            self.times: list[float] = []
            self.sounds = 0
            for frame in container.decode():
                if isinstance(frame, av.VideoFrame):
                    assert frame.time is not None
                    self.times.append(frame.time)
                else:
                    self.sounds += 1
