"""Starts and watches the one child process of a stream, and survives whatever happens to it.

    stopped -> starting -> running -> (died, hung, too large) -> waiting -> starting ...
                                   -> ending -> stopped          |
                                                                 `-> given up

The one idea: a child owes a word every second (its figures) and packets for what it takes. One that is silent, that
holds pictures without coding any, or that does not read what it is sent, is killed as if it had crashed; a new one is
started after a while that grows. It is sent once more what the one before it was at work on (`backlog.py`), so that
nothing is missing in between. The stream never waits for any of it.
"""

import os
import sys
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from oxidecast.formats import framed
from oxidecast.formats.framed import FramedPacket, FrameReader
from oxidecast.formats.framed_messages import (
    Discontinuity,
    End,
    FeedEnded,
    Figures,
    Job,
    KeyframeWanted,
    Message,
    Ready,
    Resumed,
    Thumbnail,
    Trouble,
)
from oxidecast.media import Packet, RemoteProtocolError, Track
from oxidecast.transcoding.backlog import Backlog
from oxidecast.transcoding.process import asleep, environment, resident
from oxidecast.transcoding.receiver import Receiver
from oxidecast.transcoding.watch import LOOK_EVERY, MAX_MEMORY, Watch

MAX_WAITING = 16 * 1024 * 1024
"""Bytes that wait for the child to read: some 20 s of 6 Mbit/s, while it starts or its decoder is behind. When they
are full all of them are dropped, and it goes on at the next keyframe. The backlog for a new child may have half."""

FIRST_WAIT, LONGEST_WAIT = 0.25, 2.0
"""Seconds before a new child: doubled with each death in short order. Whatever killed them, the ladder is to be back
within five seconds: `watch.SILENT`, this, and a start."""

HEALTHY = 10.0
"""Seconds that a child has to live for the waits to begin anew."""

MOST_DEATHS, DEATHS_WITHIN = 40, 600.0
"""So many deaths in so many seconds: it is given up, for the input or the machine is at fault. A minute in which every
child dies at once has some 30."""

END_WITHIN = 5.0
"""Seconds that a child may take to code what it still has when the stream ends; then it is killed."""

MOST_LOGGED = 500
"""Characters of what a child writes to its standard error, each time."""

WORKER = (sys.executable, "-m", "oxidecast.transcoding.worker")


class _Child(ProcessProtocol):
    """One process. It belongs to its supervisor until `processEnded`."""

    def __init__(self, owner: "Supervisor") -> None:
        self._owner = owner
        self._reader = FrameReader()
        self.killed_for = ""
        self.killed = False
        self.pid = 0

    def connectionMade(self) -> None:
        self.pid = self.transport.pid  # type: ignore[union-attr]
        self._owner._started(self)

    def outReceived(self, data: bytes) -> None:
        if self._owner._child is not self:
            return
        try:
            for item in self._reader.receive(data):
                self._owner._said(item)
        except RemoteProtocolError as error:
            self.kill(f"it sent nonsense: {error}")

    def errReceived(self, data: bytes) -> None:
        text = data.decode("utf-8", "replace").strip()[-MOST_LOGGED:]
        self._owner.log.warn("{name}: the transcoder's child says: {text}", name=self._owner.name, text=text)

    def processEnded(self, reason: Failure) -> None:
        self._owner._ended(self, reason)

    def write(self, data: bytes) -> None:
        self.transport.write(data)  # type: ignore[union-attr]

    def kill(self, reason: str) -> None:
        if self.killed:
            return
        self.killed = True
        self.killed_for = self.killed_for or reason
        try:
            self.transport.signalProcess("KILL")  # type: ignore[union-attr]
        except ProcessExitedAlready:
            pass


@implementer(IPushProducer)
class Supervisor:
    """Give it the tracks and packets of one stream, one track of each kind; `receiver` hears what is made of them.

    It drops packets until it has seen a keyframe, after a loss, and while no child runs.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        name: str,
        receiver: Receiver,
        *,
        command: Sequence[str] = WORKER,
        nice: int = 5,
        devices: bool = False,
        max_memory: int = MAX_MEMORY,
        max_waiting: int = MAX_WAITING,
        memory_of: Callable[[int], int | None] | None = None,
        asleep_of: Callable[[int], int | None] | None = None,
    ) -> None:
        """`name` is the stream's, for logs. `devices` for hardware encoders, which write to device files."""
        self.name = name
        self.dropped = 0
        """Packets that the child was too slow to read."""
        self.restarts = 0
        self.latest: Figures | None = None
        self.confined: tuple[str, ...] = ()
        self.state = "stopped"
        """`stopped`, `running` (or starting), `waiting` for the next try, `ending`, `given up`."""
        self._reactor = reactor
        self._receiver = receiver
        self._command = [*command, str(os.getpid()), str(nice), *(["devices"] if devices else [])]
        self._max_waiting = max_waiting
        self._watch = Watch(max_memory, memory_of or resident, asleep_of or asleep)
        self._child: _Child | None = None
        self._job: Job | None = None
        self._tracks: dict[bool, Track] = {}
        self._deaths: deque[float] = deque()
        self._wait = FIRST_WAIT
        self._born = 0.0
        self._again: Any = None
        self._look: Any = None
        self._stopped: Deferred[None] | None = None
        self._made: dict[int, int] = {}
        """By video feed, the last `pts` that was made since the source's last new beginning."""
        self._made_any = False
        """By this child."""
        self._backlog = Backlog(max_waiting // 2)
        self._in_vain = False
        """Whether the last child died before it made anything."""
        # The way in: what waits for the child, and what it has to begin with.
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._paused = True
        self._at_keyframe = self._lost = False
        self._discontinuities = self._answered = 0

    # -- For the owner of the stream ---------------------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        """The child's process id, while there is one."""
        return self._child.pid if self._child is not None else None

    @property
    def waiting(self) -> int:
        """Bytes that the child has not read."""
        return self._waiting_bytes

    def start(self, job: Job) -> None:
        """Begin. Tracks may be given before or after."""
        self._job = job
        self._spawn()

    def job(self, job: Job) -> None:
        """Make something else from now on."""
        self._job = job
        videos = {feed.feed for feed in job.videos}
        self._made = {feed: pts for feed, pts in self._made.items() if feed in videos}
        self._watch.asked_for_else()
        self._send(framed.message(job))

    def restart(self) -> None:
        """Try again what was given up."""
        if self.state == "given up":
            self._deaths.clear()
            self._wait = FIRST_WAIT
            self._spawn()

    def track(self, track: Track) -> None:
        self._tracks[track.is_video] = track
        self._send(framed.track(track))

    def packet(self, packet: Packet, samples: int = 0) -> None:
        """One of the source. `samples` as in `IPublication.packet`."""
        if True in self._tracks and self._stopped is None and self.state != "given up":
            self._backlog.push(packet, samples, min(self._made.values(), default=None))
        if self._child is None or self.state != "running":
            return
        if not self._at_keyframe:
            if not (packet.keyframe and (packet.track.is_video or True not in self._tracks)):
                self.dropped += self._lost
                return
            self._at_keyframe, self._lost = True, False
        if self._waiting_bytes + len(packet.payload) > self._max_waiting:
            self._drop()
            return
        self._send_packet(packet, samples)

    def discontinuity(self) -> None:
        """The source begins anew: its tracks follow where they have changed."""
        self._discontinuities += 1
        self._backlog.clear()
        if self._child is None:
            self._began_anew()
        else:
            self._send(framed.message(Discontinuity(self._discontinuities)))
        self._at_keyframe = False

    def keyframe(self, feed: int) -> None:
        """Ask for one feed's keyframe."""
        self._send(framed.message(KeyframeWanted(feed=feed)))

    def stop(self, within: float = END_WITHIN) -> Deferred[None]:
        """End it, within so many seconds. Fires when no process is left; what the child still had has been received by
        then."""
        if self._stopped is not None:
            return self._stopped
        self._stopped = Deferred()
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self._child is None:
            self.state = "stopped"
            self._stopped.callback(None)
            return self._stopped
        self._send(framed.message(End()))
        self.state = "ending"
        self._again = self._reactor.callLater(within, self._end_is_late)
        return self._stopped

    # -- Births and deaths -------------------------------------------------------------------------------------------

    def _spawn(self) -> None:
        self._again = None
        self.state = "running"
        self._born = self._reactor.seconds()
        self._waiting.clear()
        self._waiting_bytes = 0
        self._paused, self._at_keyframe, self._lost = True, False, False
        self._watch.begin()
        child = self._child = _Child(self)
        try:
            self._reactor.spawnProcess(child, self._command[0], self._command, env=environment())
        except OSError as error:
            self._child = None
            # Not now: whoever is told may stop us, and is in the middle of starting us.
            self._again = self._reactor.callLater(0, self._not_started, f"it could not be started: {error}")

    def _not_started(self, why: str) -> None:
        self._again = None
        self._died(why)

    def _started(self, child: _Child) -> None:
        assert self._job is not None
        child.transport.pipes[0].registerProducer(self, True)  # type: ignore[union-attr]
        self._paused = False
        self._send(framed.message(self._job))
        for track in self._tracks.values():
            self._send(framed.track(track))
        self._resume()
        self._look = self._reactor.callLater(LOOK_EVERY, self._look_at_it)

    def _resume(self) -> None:
        """Send once more what is not made yet."""
        if self._in_vain:
            self._backlog.shorten()
        packets = self._backlog.packets
        if not packets:
            return
        self._at_keyframe = True
        self._send(framed.message(Resumed(until=self._backlog.until, made=self._made)))
        for packet, samples in packets:
            self._send_packet(packet, samples)

    def _ended(self, child: _Child, reason: Failure) -> None:
        if self._look is not None and self._look.active():
            self._look.cancel()
        self._child = self._look = None
        self._waiting.clear()
        self._waiting_bytes = 0
        if self._stopped is not None:
            if self._again is not None:
                self._again.cancel()
                self._again = None
            self.state = "stopped"
            self._stopped.callback(None)
        else:
            self._died(child.killed_for or _said_by(reason.value))

    def _died(self, why: str) -> None:
        now = self._reactor.seconds()
        self._deaths.append(now)
        while self._deaths and now - self._deaths[0] > DEATHS_WITHIN:
            self._deaths.popleft()
        if self._answered < self._discontinuities:
            self._began_anew()
        self._in_vain = not self._made_any
        if self._in_vain:
            # What it could not begin with may have been its death.
            self._backlog.clear()
        self._made_any = False
        if len(self._deaths) >= MOST_DEATHS:
            self.state = "given up"
            self._backlog.clear()
            self.log.error("{name}: the transcoder is given up: {why}", name=self.name, why=why)
            self._receiver.gave_up(why)
            return
        if now - self._born >= HEALTHY:
            self._wait = FIRST_WAIT
        self.log.warn("{name}: the transcoder's child died: {why}", name=self.name, why=why)
        self.state = "waiting"
        self.restarts += 1
        self._again = self._reactor.callLater(self._wait, self._spawn)
        self._wait = min(2 * self._wait, LONGEST_WAIT)
        # Last, for it may stop us.
        self._receiver.trouble(Trouble(sentence=f"the transcoder's child died: {why}"))

    def _look_at_it(self) -> None:
        self._look = self._reactor.callLater(LOOK_EVERY, self._look_at_it)
        if self._child is not None:
            reason = self._watch.look(self._child.pid, self._waiting_bytes)
            if reason is not None:
                self._child.kill(reason)

    def _end_is_late(self) -> None:
        self._again = None
        if self._child is not None:
            self._child.kill("it did not end in time")

    # -- What the child says -----------------------------------------------------------------------------------------

    def _said(self, item: Track | FramedPacket | Message) -> None:
        self._watch.spoke()
        receiver = self._receiver
        if isinstance(item, FramedPacket):
            self._watch.gave(item.track_id)
            if self._job is not None and any(feed.feed == item.track_id for feed in self._job.videos):
                self._made_any = True
                if self._answered == self._discontinuities:
                    self._made[item.track_id] = max(item.pts, self._made.get(item.track_id, item.pts))
            receiver.packet(item)
        elif isinstance(item, Track):
            receiver.track(item)
        elif isinstance(item, Figures):
            self.latest = item
            self._watch.figures(item)
            receiver.figures(item)
        elif isinstance(item, Discontinuity):
            self._began_anew(item.number)
        elif isinstance(item, FeedEnded):
            self._made.pop(item.feed, None)
            receiver.feed_ended(item.feed)
        elif isinstance(item, Thumbnail):
            receiver.thumbnail(item)
        elif isinstance(item, Trouble):
            if item.fatal and self._child is not None:
                self._child.killed_for = item.sentence
            receiver.trouble(item)
        elif isinstance(item, Ready):
            self.confined = item.confined

    def _began_anew(self, number: int | None = None) -> None:
        """What comes from now on is of after the source's discontinuity of this number, or the last one."""
        self._answered = self._discontinuities if number is None else number
        self._made.clear()
        self._receiver.discontinuity(self._answered)

    # -- The way in --------------------------------------------------------------------------------------------------

    def _send_packet(self, packet: Packet, samples: int) -> None:
        self._send(
            framed.packet(packet.track.id, packet.dts, packet.pts, packet.keyframe, packet.payload, samples)
        )

    def _send(self, frame: bytes) -> None:
        child = self._child
        if child is None or self.state != "running":
            return
        if self._paused:
            self._waiting.append(frame)
            self._waiting_bytes += len(frame)
        else:
            child.write(frame)

    def _drop(self) -> None:
        """Lose the packets that wait, but nothing that has to be said."""
        kept: deque[bytes] = deque()
        for frame in self._waiting:
            if frame[:1] == b"P":
                self.dropped += 1
            else:
                kept.append(frame)
        self.dropped += 1
        self._waiting = kept
        self._waiting_bytes = sum(map(len, kept))
        self._at_keyframe, self._lost = False, True

    def resumeProducing(self) -> None:
        """The pipe has room again."""
        self._paused = False
        while self._waiting and not self._paused and self._child is not None:
            frame = self._waiting.popleft()
            self._waiting_bytes -= len(frame)
            self._child.write(frame)

    def pauseProducing(self) -> None:
        """The pipe is full."""
        self._paused = True

    def stopProducing(self) -> None:
        """The pipe is gone: the child's death will be told."""
        self._paused = True


def _said_by(reason: Any) -> str:
    if isinstance(reason, ProcessDone):
        return "it ended by itself"
    if reason.signal is not None:
        return f"signal {reason.signal}"
    return f"exit code {reason.exitCode}"
