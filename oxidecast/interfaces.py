"""The contracts between the server and its plugins; each docstring is the plugin author's manual.

A *drop-in* (a module in the package `oxidecast.plugins`, the server's own or a third party's) holds `IPlugin` objects:
a name, the kind, the settings type of its section, and a factory. At start-up the factory is called once with the
validated settings and the `IServices` of the server, and gives the running plugin, which provides the kind's interface.
Nothing built in is special: RTMP, the test pattern and HLS come through this same door.

What a running plugin may rely on: every call is made in the reactor's thread; what it raises is logged with its name
and contained; a call that keeps the reactor longer than `registry.CALLBACK_BOUND` is counted, and a plugin that goes on
so is detached. A plugin has one kind, and may provide the interfaces of other kinds as well: the webhooks are listeners
that can also be an `IAuthenticator`. A running plugin that also provides `twisted.application.service.IService` is
started and stopped with the server. One that provides `IReloadable` is asked at SIGHUP.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import twisted.plugin
from zope.interface import Attribute, Interface

from oxidecast.media import Packet, Track

if TYPE_CHECKING:
    from pathlib import Path

API_VERSION = 1
"""What `IPlugin.api_version` must be. It rises when a change here could break a plugin."""


class Refused(Exception):
    """The server, or an `IAuthenticator`, says no to who wants to publish or play.

    `code` is a machine's word (`bad_key`, `stream_busy`, `database_away`, ...); `sentence` is shown to the person and
    never holds a key.
    """

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


class Unconvinced(Refused):
    """Raised by `may_play` of an authenticator that has no yes, but knows why: another one may still say yes. When none
    does, the person is told this sentence (that a token has expired, say)."""


HERE = "here"
"""What `may_play` answers for: yes, from this address alone."""


class PublishRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Who wants to publish, as its ingest heard it."""

    protocol: str
    """The ingest plugin's name."""
    address: str
    """The peer's IP address."""
    key: str
    """The stream key. A secret: never log it, never put it in an error."""
    encoder: str = ""
    """What the encoder calls itself, for people."""
    stream: Any = None
    """The `StreamInfo` that the key belongs to, where an authenticator that was asked before knows it."""

    def __repr__(self) -> str:
        return f"<PublishRequest {self.protocol} from {self.address}>"


class PublishRefusal(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody wanted to publish and may not. There is no key in it."""

    protocol: str
    address: str
    encoder: str
    code: str
    """As in `Refused`."""
    sentence: str
    """What the person at the encoder was told."""
    stream: Any = None
    """The `StreamInfo` that the key belongs to, if it belongs to any."""


class PlayRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Who wants to play, as an output heard it."""

    protocol: str
    """The output plugin's name."""
    address: str
    token: str = ""
    """A playback token or access token, where one was given. A secret."""

    def __repr__(self) -> str:
        return f"<PlayRequest {self.protocol} from {self.address}>"


class IPlugin(twisted.plugin.IPlugin):
    """What a drop-in module offers, at module level. It holds no state; `start` makes what does.

    `oxidecast.registry.Plugin` provides it, so that a drop-in is a few lines:

        from oxidecast.interfaces import IOutput
        from oxidecast.registry import Plugin
        from my_output import MyOutput, MySettings

        mine = Plugin("mine", IOutput, MyOutput, MySettings)
    """

    name: str = Attribute("Unique in its kind, `[a-z][a-z0-9_]*`; also the name of its settings section.")
    kind: Any = Attribute("IOutput, IIngest, ITranscoderBackend, IEventListener or IAuthenticator.")
    api_version: int = Attribute("The API_VERSION that it was written for. Another one stops the start.")
    settings: type[msgspec.Struct] = Attribute(
        "The type of its section: a frozen msgspec Struct with forbid_unknown_fields, a default for every key."
    )

    def check(settings: Any) -> Iterable[tuple[str, str]]:
        """Lines for `oxidecast check`, each a verdict (`ok`, `warn`, `fail`) and a sentence which says what to do about
        it. Called in another process than the server's, which may run at the same time."""

    def start(settings: Any, services: "IServices") -> Any:
        """Make the running plugin, which provides `kind`. What is raised marks the plugin failed; the server goes
        on."""


class IServices(Interface):
    """What the server lends to a plugin."""

    reactor: Any = Attribute("The reactor, also the only clock (`seconds`, `callLater`).")
    hub: "IHub" = Attribute("The live streams, and the way in for publishers.")
    database: Any = Attribute("An `oxidecast.database.IDatabase`. Live media must not wait for it.")
    data_directory: "Path" = Attribute("The folder for what a plugin keeps.")
    storage: Any = Attribute(
        "The section [storage], an `oxidecast.settings.sections.StorageSettings`: where large files go, and how much."
    )
    transcoding: Any = Attribute(
        "The section [transcoding], an `oxidecast.settings.sections.TranscodingSettings`."
    )
    ports: Mapping[str, Any] = Attribute(
        "Ports that several plugins share, by name: `rtmp` is an `oxidecast.rtmp.server.RTMPPort`, `webrtc` an "
        "`oxidecast.webrtc.port.WebRTCPort`."
    )

    def secret(purpose: str) -> bytes:
        """32 bytes that are the same at every start of this server, and of no use for another purpose."""


class IReloadable(Interface):
    """A running plugin that can take new settings while it runs.

    The type of its section names the keys that can change so, in the class attribute `reloadable`; a change of any
    other key is logged as waiting for a restart, and not handed over.
    """

    def reload(settings: Any) -> None:
        """The section as it is now; only keys in `reloadable` differ from before."""


class IMeasured(Interface):
    """A running plugin that has figures for Prometheus."""

    def metrics(streams: Collection[str]) -> Iterable[Any]:
        """Metric families of `prometheus_client`, with names that begin with `oxidecast_`.

        Labels are bounded: `streams` are the names of the streams that may be labels, no other may.
        """


class ITotals(Interface):
    """A running plugin that has figures for the server's statistics."""

    def totals() -> Mapping[str, float]:
        """By words: counts since the start, and what there is now, over all streams."""


# -- Streams, as plugins see them ------------------------------------------------------------------------------------


class ISubscriber(Interface):
    """What reads a rendition. The calls come in the order of the stream, each while a packet is being handed on: be
    quick, and never wait."""

    def packet(packet: Packet) -> None:
        """The next packet. The first one, and the first after `restarted`, is a keyframe when there is a video
        track."""

    def restarted(reason: str) -> None:
        """What follows does not continue what came before: the publisher came back, was taken over, or changed its
        tracks. `rendition.tracks` are the new ones already. Time stamps go on rising over the gap."""

    def ended(reason: str) -> None:
        """No packet will follow."""


class ISubscription(Interface):
    """The tie between a subscriber and a rendition."""

    def cancel() -> None:
        """No further call is made. May be called at any time, more than once."""


class IRendition(Interface):
    """One quality of a stream: a feed of packets."""

    name: str = Attribute("`source`, a ladder profile's name, or `layer.N` of a publisher who sends several.")
    listed: bool = Attribute("Whether it is for everybody; others are for who wanted them.")
    tracks: tuple[Track, ...] = Attribute("The tracks as they are now; video first.")
    bitrate: int = Attribute("Bits a second over the last seconds; 0 in the first ones.")

    def subscribe(subscriber: ISubscriber, owner: Any = None) -> ISubscription:
        """Read from the last keyframe on: the GOP cache comes at once, inside this call.

        `owner` is the `IOutputStream` on whose behalf: a subscriber that raises is dropped, and its owner is then
        marked failed for this stream.
        """

    def want_keyframe() -> bool:
        """Ask whoever makes it for a keyframe soon, which is for all who read it. Many may ask: one is made in a second
        at most. False where it is not the server that makes it, and nobody can be asked."""


class IStream(Interface):
    """A named live stream."""

    id: str = Attribute("UUID text; never changes.")
    name: str = Attribute("The public name (a slug). Safe in addresses and file names.")
    info: Any = Attribute("`oxidecast.streams.info.StreamInfo`: title, owner, is_private and so on.")
    state: str = Attribute("`starting`, `live`, `waiting` (publisher gone, may come back) or `ended`.")
    started_at: float = Attribute("UTC seconds of the first keyframe.")
    renditions: Mapping[str, IRendition] = Attribute("By name, `source` first.")
    viewer_count: int = Attribute("How many watch now, over all outputs.")
    viewers: "Mapping[str, IViewer]" = Attribute(
        "Who watches now, by the viewer's id. Who joined by the API was given an address with `viewer=ID` in its "
        "query: an output that counts its viewers itself does not count that one again as long as it is here."
    )

    planned: Mapping[str, Any] = Attribute(
        "The ladder as it will be, by name: `oxidecast.streams.wanting.Planned`. Not all of it needs to be in "
        "`renditions` now: what is not is made while it is wanted."
    )
    withheld: str = Attribute(
        "A sentence: why `planned` is empty for now, when the ladder cannot be made. Empty otherwise."
    )

    def why_not(name: str) -> str:
        """Why a quality of the ladder that somebody asks for by this name is not to be had now; empty where it is
        `planned`."""

    def want(spec: Any) -> "IWant":
        """Ask for a rendition (`oxidecast.streams.wanting.RenditionSpec`) to be made until the `release`."""

    def utc(ticks: int) -> float:
        """Seconds since 1970 at which the media time `ticks` (90 kHz) was live: for PROGRAM-DATE-TIME, RTCP and
        recordings."""

    def viewer(output: str, address: str) -> "IViewer":
        """Count one more viewer, until its `leave`."""

    def notice(key: str, sentence: str | None) -> None:
        """Say something about the stream that people should know (`not_carried:hls:audio`, ...), or take it back with
        None. It is logged once, and shown by the API and the page."""


class IWant(Interface):
    """A rendition that somebody wants, until `release`."""

    def rendition(within: float) -> Any:
        """A Deferred of the `IRendition`, as soon as it is there; of None when it is not there within so many seconds,
        or never will be."""

    def release() -> None:
        """It is not wanted any more. May be called more than once."""


class IViewer(Interface):
    """One watching session."""

    id: str = Attribute("Random, unguessable.")
    output: str = Attribute("The plugin's name by which it watches.")
    address: str = Attribute("Its IP address.")
    joined: float = Attribute("UTC seconds.")
    rendition: str = Attribute("Which it watches, as far as its output says so. May be set.")
    bytes_sent: int = Attribute("Media that was sent to it, as far as its output counts. May be added to.")
    startup_time: float | None = Attribute(
        "Seconds from asking to the first picture, as far as its output says so. May be set."
    )
    figures: Mapping[str, float] = Attribute("How it is served, by words. May be set, every second or so.")

    def leave(at: float | None = None) -> None:
        """The session is over; `at` (UTC seconds) is when the viewer was last heard of, where that is a while ago. May
        be called more than once."""


class IPublisher(Interface):
    """The ingest session that feeds a stream, as the hub sees it."""

    def stop(code: str, sentence: str) -> None:
        """Tell the encoder why (taken over, stopped by its owner, shutting down), then close. The publication is
        already closed when this is called."""


class IMakesKeyframes(Interface):
    """A publisher that can be asked for a keyframe provides it beside `IPublisher`."""

    def keyframe() -> bool:
        """Ask for one, of all that it sends. False where that is in vain: whoever needs one has to wait, or do
        without."""


class IPublication(Interface):
    """The way of one publisher into its stream. Calls after the end do nothing."""

    stream: IStream = Attribute("The stream that the key belongs to.")
    figures: Mapping[str, float] = Attribute("How its media comes, by words. May be set, every second or so.")

    def expect(video: bool, audio: bool) -> None:
        """Which kinds of track the publisher announced, so that the stream starts without waiting for others."""

    def named(encoder: str) -> None:
        """What the encoder calls itself, where the ingest hears it only now."""

    def track(track: Track) -> None:
        """A track's configuration, before its first packet and whenever it changes."""

    def packet(track_id: int, dts: int, pts: int, keyframe: bool, payload: bytes, samples: int = 0) -> None:
        """One access unit, in the publisher's own time (ticks, unwrapped; jumps allowed).

        `samples` is how many samples per channel an audio frame holds: its time is then counted from them, and the
        stamp is only what the count is held to.
        """

    def layer(name: str) -> "ILayer":
        """A further quality of the same pictures, which the publisher sends beside them: a rendition of this name for
        all outputs, with the stream's sound. Ask once for each, and only for a few."""

    def close(reason: str) -> None:
        """The publisher left. The stream waits for it for `streams.publisher_grace` seconds."""


class ILayer(Interface):
    """One more size of what a publisher sends. Times are those of its publication."""

    def track(track: Track) -> None:
        """Its configuration, before its first keyframe and whenever it changes."""

    def packet(dts: int, pts: int, keyframe: bool, payload: bytes) -> None:
        """One access unit. It becomes a rendition with its first keyframe, once the stream is live; what is silent for
        a few seconds is none any more, until the next keyframe."""

    def close(reason: str) -> None:
        """It is not sent any more."""


class IHub(Interface):
    """All live streams of this process."""

    streams: Mapping[str, IStream] = Attribute("By id.")

    def find(name_or_id: str) -> IStream | None:
        """The live or waiting stream of that public name or id."""

    async def publish(request: PublishRequest, publisher: IPublisher) -> IPublication:
        """Open the way for a publisher whose key is good; raise `Refused` otherwise. Nothing exists before that."""

    async def authorise(stream: Any, request: PlayRequest) -> bool:
        """Raise `Refused` unless this stream (its `StreamInfo`) may be played so. True when only this address may: what
        is made for it (a session's address) must be of no use elsewhere."""

    def tell(event: str, *args: Any) -> None:
        """Call that method of every `IEventListener`: for what an output alone knows, such as a closed recording."""


# -- The kinds of plugin ---------------------------------------------------------------------------------------------


class IOutput(Interface):
    """Turns the renditions of streams into something that can be watched (or kept)."""

    def open(stream: IStream) -> "IOutputStream | None":
        """A stream has started. None when this output has nothing to do with it."""

    def urls(info: Any) -> Mapping[str, str]:
        """Where a stream (its `StreamInfo`) that is not live now will be watched, by connection type: addresses are
        shared before the stream begins. While it is live, its `IOutputStream.urls` says so instead."""

    def routes() -> Mapping[str, Any]:
        """HTTP resources (`twisted.web.resource.IResource`) by their path below `/api/v1/`, without slashes.

        A resource that also provides `oxidecast.delivery.hot.IHotResource` is asked first for every GET and HEAD below
        its path, before any twisted.web request is made.

        Of the other resources, HEAD is answered by their GET, and an error that is not JSON is replaced by the
        envelope of its status (`oxidecast.delivery.envelope`); give your own to say more.
        """


class IOutputStream(Interface):
    """One stream of one output, from its start to its end."""

    def rendition_added(rendition: IRendition) -> None:
        """A rendition is there: subscribe to it, or leave it."""

    def rendition_removed(name: str) -> None:
        """A rendition has gone; its subscribers were told `ended`."""

    def closed(reason: str) -> None:
        """The stream has ended. The object may go on answering late viewers by itself."""

    def urls(rendition: str | None) -> Mapping[str, str]:
        """Addresses by connection type (`{"hls": "/api/v1/hls/NAME/playlist.m3u8"}`); a path is completed with the
        server's address. `rendition` None means the best way to watch the whole stream."""

    def stats() -> Mapping[str, Any]:
        """Figures for the API: JSON values."""


class IStreamChoices(Interface):
    """An `IOutput` that lets owners choose something for each of their streams.

    The choices are read and written by the API (`/streams/{stream}/outputs/{output}`), kept with the stream, and found
    in `info.outputs[name]` as JSON values; a stream whose owner chose nothing has no entry there.
    """

    choices: type[msgspec.Struct] = Attribute(
        "The type of the choices: a msgspec Struct with forbid_unknown_fields, a default for every key."
    )

    def check_choices(info: Any, choices: Any) -> None:
        """Raise `Refused` when these choices are not for this stream (its `StreamInfo`)."""


class IFollowsStream(Interface):
    """An `IOutputStream` that wants to hear when the stream's `info` has changed while it is live."""

    def info_changed() -> None:
        """`stream.info` is another now (its title, its privacy, what its owner chose), or `stream.planned` is."""


class IRecorder(Interface):
    """An `IOutput` that writes recordings, which the API lists, plays and deletes."""

    async def stop_recording(recording_id: str) -> bool:
        """Stop writing this recording, and wait until its file is closed. The stream is not recorded again until it
        begins anew, or its owner switches recording off and on. False when it is not written here."""


class IThumbnails(Interface):
    """An `IOutput` that keeps a picture of each live stream, for lists."""

    interval: float = Attribute("Seconds between two pictures of a stream, as set.")
    width: int = Attribute("Pixels that a picture is wide at most (high, where it is upright).")

    def add(stream: IStream, jpeg: bytes, at: float, tile: Any = None) -> None:
        """Whoever decodes the stream anyway made this picture, of the UTC second `at`. As long as they go on coming, no
        others are made. `tile` is a small one of the same, for a storyboard (`formats.framed_messages.Tile`)."""

    def thumbnail_url(stream: IStream) -> str | None:
        """The path of the latest picture, another one for each; None while there is none. A private stream's takes a
        token."""


class IIngest(Interface):
    """A way for publishers in. Usually also an `IService`: it listens, and calls `IHub.publish`."""

    def addresses() -> Iterable[str]:
        """Where to publish, for people: `rtmp://HOST:1935/live`, or a path on the server's own HTTP port. `HOST`, or
        what is before the path, is put in by who shows it."""


class ITranscoderBackend(Interface):
    """A family of encoders: software, nvenc, vaapi, qsv, videotoolbox. It is data: the transcoder's child process,
    which decodes and scales, is told the encoder and its options."""

    name: str = Attribute("As the plugin's.")
    device: str | None = Attribute(
        "What `transcoding.hardware_acceleration.device` says to have it; None for software."
    )
    encoders: Any = Attribute("FFmpeg's names of the encoders, by `oxidecast.media.Codec`: H264, HEVC, AV1.")
    lacks: Any = Attribute(
        "Codecs that it does not make on this machine, with the exact reason of each: known when it was probed. They "
        "are made in software. Never H264, without which a backend does not work."
    )
    pixel_format: str = Attribute("FFmpeg's name of the format that it takes.")
    devices: bool = Attribute(
        "Whether it writes to device files, so that its child cannot be kept from writing files."
    )
    program: Any = Attribute(
        "An `oxidecast.formats.framed_messages.Device` where the FFmpeg program decodes, scales and encodes on the "
        "device, known when it was probed; None where the child's media library does it."
    )

    def options(target: Any) -> dict[str, str]:
        """The encoder's options for an `oxidecast.transcoding.targets.Target`. It makes keyframes only when asked to,
        and closed groups of pictures."""

    async def probe() -> str:
        """Encode a frame for real in each codec, off the reactor, and return what was found, for people; raise an
        exception whose text is the exact reason when it does not work on this machine."""


class IEventListener(Interface):
    """Hears what happens. Calls are made when the thing is done; nothing can be refused here."""

    def stream_started(stream: IStream) -> None:
        """Its tracks are known and its first keyframe is there."""

    def stream_stopped(stream: IStream, reason: str) -> None:
        """The grace time is over, or the stream was ended."""

    def viewer_joined(stream: IStream, viewer: IViewer) -> None: ...

    def viewer_left(stream: IStream, viewer: IViewer) -> None: ...

    def recording_closed(stream: IStream, path: str) -> None:
        """A file is complete, or as complete as it will be. `path` is absolute, for programs on this machine alone: it
        is shown to nobody. Its last 36 characters before the suffix are the recording's id in the API."""


class IHearsRefusals(Interface):
    """An `IEventListener` that wants to hear of publishers who were refused, too. Anybody can make this happen as often
    as the server lets connections in."""

    def publish_refused(refusal: PublishRefusal) -> None:
        """The publisher was told already."""


class IHearsNotices(Interface):
    """An `IEventListener` that wants to hear what owners are told about their live streams, too."""

    def stream_noticed(stream: IStream, key: str, sentence: str) -> None:
        """`key` is the notice's, such as `transcoding:fallback`. A notice that is said again is not told again."""


class IFollowsStreams(Interface):
    """An `IEventListener` that wants to hear what changes about live streams."""

    def stream_changed(stream: IStream) -> None:
        """Its `info` is another now, or something else is wanted of it."""


class IAuthenticator(Interface):
    """Decides who may publish and play. All are asked, one after another, the server's own first; each can refuse."""

    async def may_publish(request: PublishRequest) -> Any:
        """The `StreamInfo` that this key publishes to, or an `oxidecast.streams.info.Grant` that names the key as well,
        so that `Stream.cut` finds who uses it; None for "I do not know this key", or "I do not object"; raise `Refused`
        for "no". The first who knows the key says which stream it is: those after it find that in `request.stream`, and
        it is asked once more when they have answered. When nobody knows the key the publisher is refused."""

    async def may_play(stream: Any, request: PlayRequest) -> Any:
        """True: yes. `HERE`: yes, and what begins so is for this address alone. None: no opinion, ask the next one.
        Raise `Refused`: no; `Unconvinced`: no opinion, and why. Public streams play when nobody objects, private ones
        when somebody says yes."""
