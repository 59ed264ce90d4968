"""A server for the player's tests: the real pages, real media by ffmpeg, and an API that knows its answers.

Run as a program with a directory for the media; prints its port. The media is made once, faster than real
time; each channel then releases one segment a second, from the first time that somebody asks for it. So a
test sees a live stream that pauses, changes its size, ends and returns exactly when it should.
"""

import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from oxidecast.web.pages import pages

AVC, HEVC, AAC = "avc1.42c01e", "hvc1.1.6.L93.B0", "mp4a.40.2"
WINDOW = 5
TOKEN = "open-sesame"
LENGTH = 12
"""Seconds of each recording."""

VIDEO = "-c:v libx264 -preset ultrafast -profile:v baseline -level 3.0 -pix_fmt yuv420p -g 30"
SIZES = {"large": ("640x360", 600), "small": ("426x240", 250), "tiny": ("256x144", 80)}
"""Picture size, and kbit/s of it."""
SOUND = "-c:a aac -b:a 96k -ar 48000 -ac 2"
HLS = "-f hls -hls_time 1 -hls_list_size 0 -hls_playlist_type vod -hls_segment_type fmp4"


def make_media(directory: Path) -> None:
    """Recordings in one-second fMP4 segments: pictures of three sizes, and sound alone."""

    def record(name: str, inputs: list[str], coding: str) -> None:
        target = directory / name
        target.mkdir()
        command = [
            "ffmpeg",
            "-v",
            "error",
            "-nostdin",
            *inputs,
            *coding.split(),
            *HLS.split(),
            "playlist.m3u8",
        ]
        subprocess.run(command, cwd=target, check=True, timeout=60)

    tone = ["-f", "lavfi", "-i", "sine=440:r=48000"]
    for name, (size, rate) in SIZES.items():
        picture = ["-f", "lavfi", "-i", f"testsrc2=s={size}:r=30"]
        bound = f"-b:v {rate}k -maxrate {rate}k -bufsize {rate}k"
        record(name, [*picture, *tone, "-t", str(LENGTH)], f"{VIDEO} {bound} {SOUND}")
    still = "ffmpeg -v error -nostdin -f lavfi -i testsrc2=s=640x360 -frames:v 1 still.jpg"
    subprocess.run(still.split(), cwd=directory, check=True, timeout=60)
    record("sound", [*tone, "-t", str(LENGTH)], SOUND)


def endless(recording: str) -> list[tuple[str, int, float]]:
    """Longer than any test: the recording over and over, as if its encoder were restarted each time."""
    return [(recording, LENGTH - 1, 0.0)] * 30


@dataclass(frozen=True)
class Segment:
    media: str
    number: int
    released: float
    """Seconds after the channel's start."""
    discontinuity: bool = False

    @property
    def uri(self) -> str:
        return f"{self.media}-{self.number}.m4s"


@dataclass
class Channel:
    name: str
    title: str
    script: list[tuple[str, int, float]]
    """(recording, how many segments, silence before them)"""
    tracks: list[dict[str, object]]
    codecs: dict[str, str]
    """Rendition -> CODECS; a rendition plays the script unless it has the name of a recording."""
    ends: bool = False
    live: bool = True
    returns_after: float = 0.0
    private: bool = False
    carried: bool = True
    """Whether HLS can carry any of the tracks."""
    notices: list[str] = field(default_factory=list)
    details: dict[str, object] = field(default_factory=dict)
    started: float | None = None

    def timeline(self, rendition: str) -> list[Segment]:
        script = self.script if rendition == "source" else endless(rendition)
        segments: list[Segment] = []
        now = 0.0 - WINDOW
        for media, count, silence in script:
            now += silence
            for number in range(count):
                now += 1.0
                segments.append(Segment(media, number, now, bool(segments) and number == 0))
        return segments

    def elapsed(self) -> float:
        now = time.time()
        if self.started is None:
            self.started = now
        over = self.timeline("source")[-1].released
        if self.ends and self.returns_after and now - self.started > over + self.returns_after:
            self.started = now
        return now - self.started

    def is_live(self) -> bool:
        if not self.live or not self.ends or self.started is None:
            return self.live
        return self.elapsed() < self.timeline("source")[-1].released

    def playlist(self, rendition: str) -> str:
        elapsed = self.elapsed()
        assert self.started is not None
        every = self.timeline(rendition)
        released = [segment for segment in every if segment.released <= elapsed]
        first = max(0, len(released) - WINDOW)
        before = sum(segment.discontinuity for segment in released[:first])
        lines = ["#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-TARGETDURATION:1", "#EXT-X-INDEPENDENT-SEGMENTS"]
        lines += [f"#EXT-X-MEDIA-SEQUENCE:{first}", f"#EXT-X-DISCONTINUITY-SEQUENCE:{before}"]
        media = ""
        for segment in released[first:]:
            if segment.discontinuity:
                lines.append("#EXT-X-DISCONTINUITY")
            if segment.media != media:
                media = segment.media
                lines.append(f'#EXT-X-MAP:URI="{media}-init.mp4"')
            began = datetime.fromtimestamp(self.started + segment.released - 1.0, UTC)
            lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{began.isoformat(timespec='milliseconds')}")
            lines += ["#EXTINF:1.000,", segment.uri]
        if self.ends and len(released) == len(every):
            lines.append("#EXT-X-ENDLIST")
        return "\n".join([*lines, ""])

    def multivariant(self) -> str:
        lines = ["#EXTM3U"]
        for rendition, codecs in self.codecs.items():
            size, rate = SIZES.get("large" if rendition == "source" else rendition, ("", 0))
            bandwidth = (rate + 110) * 1000
            resolution = f",RESOLUTION={size},FRAME-RATE=30.000" if size else ""
            lines.append(f'#EXT-X-STREAM-INF:BANDWIDTH={bandwidth},CODECS="{codecs}"{resolution}')
            lines.append(f"~1/{rendition}/playlist.m3u8")
        return "\n".join([*lines, ""])

    def describe(self) -> dict[str, object]:
        live = self.is_live()
        return {
            "id": f"id-{self.name}",
            "name": self.name,
            "title": self.title,
            "description": None,
            "category": None,
            "is_live": live,
            "viewer_count": 0,
            "started_at": datetime.fromtimestamp(self.started or time.time(), UTC).isoformat()
            if live
            else None,
            "thumbnail_url": None,
            "tracks": self.tracks if live else [],
            "renditions": list(self.codecs),
            "qualities": [{"name": name, "state": "running"} for name in self.codecs],
            "notices": self.notices if live else [],
            "stream_urls": {"hls": f"/api/v1/hls/{self.name}/playlist.m3u8"},
            **self.details,
        }


def video(codec: str, codec_string: str, width: int = 640, height: int = 360) -> dict[str, object]:
    picture = {
        "kind": "video",
        "codec": codec,
        "codec_string": codec_string,
        "width": width,
        "height": height,
    }
    return {**picture, "sample_rate": 0, "channels": 0}


SPEECH: dict[str, object] = {"kind": "audio", "codec": "aac", "codec_string": AAC, "width": 0, "height": 0}
SPEECH = {**SPEECH, "sample_rate": 48000, "channels": 2}
HITS: dict[str, object] = {**SPEECH, "codec": "mp3", "codec_string": "mp4a.6B"}
PICTURE = video("h264", AVC)
BOTH = f"{AVC},{AAC}"


LEFT_OUT = "HLS (fmp4) cannot carry mp3; it is left out"
LONG_GROUPS = (
    "the encoder sends a keyframe only every 10.0 s: set its keyframe interval to 2 s, or viewers lag"
)
CONSTANT_RATE = "multicast of source: the constant rate of 300000 bits a second is too low for <this> stream"


def channels() -> dict[str, Channel]:
    every = [
        Channel(
            "show",
            "The evening show <b>live</b> & in colour",
            endless("large"),
            [PICTURE, SPEECH],
            {"source": BOTH},
            details={
                "category": "Music",
                "viewer_count": 1284,
                "thumbnail_url": "/api/v1/thumbnails/show.jpg?v=1",
                "description": "Two hours of records, guests and a kettle.\nRequests by post only.",
            },
        ),
        Channel(
            "ladder",
            "City marathon, finish line",
            [],
            [PICTURE, SPEECH],
            {"large": BOTH, "small": BOTH, "tiny": BOTH},
        ),
        Channel(
            "switch",
            "Two cameras",
            [("large", 6, 0.0), ("small", 12, 3.5)],
            [PICTURE, SPEECH],
            {"source": BOTH},
        ),
        Channel(
            "ending",
            "A short talk",
            [("small", 6, 0.0)],
            [PICTURE, SPEECH],
            {"source": BOTH},
            ends=True,
            returns_after=3.0,
        ),
        Channel(
            "hevc",
            "Drone over the fjord",
            endless("large"),
            [video("hevc", HEVC, 3840, 2160), SPEECH],
            {"source": f"{HEVC},{AAC}"},
            details={"category": "Nature", "viewer_count": 37},
        ),
        Channel(
            "hevc-sound",
            "Concert in 4K",
            endless("large"),
            [video("hevc", HEVC, 3840, 2160), SPEECH],
            {"source": f"{HEVC},{AAC}", "sound": AAC},
        ),
        Channel(
            "radio",
            "Night radio",
            endless("sound"),
            [SPEECH],
            {"source": AAC},
            details={"viewer_count": 1},
        ),
        Channel(
            "noted",
            "Choir practice",
            endless("large"),
            [PICTURE, SPEECH],
            {"source": BOTH},
            notices=[LONG_GROUPS, CONSTANT_RATE],
            details={"category": "Music", "viewer_count": 12},
        ),
        Channel(
            "mp3",
            "Old hits",
            endless("sound"),
            [HITS],
            {},
            carried=False,
            notices=[LEFT_OUT],
            details={"viewer_count": 3},
        ),
        Channel("quiet", "Sunday service", [("large", 1, 0.0)], [], {"source": BOTH}, live=False),
        Channel(
            "secret", "Board meeting", endless("large"), [PICTURE, SPEECH], {"source": BOTH}, private=True
        ),
    ]
    for channel in every:
        if not channel.script:
            channel.script = endless("large")
    return {channel.name: channel for channel in every}


class Api(Resource):
    """Everything below /api/v1."""

    isLeaf = True

    def __init__(self, media: Path) -> None:
        super().__init__()
        self.media = media
        self.channels = channels()

    def render_GET(self, request: Request) -> bytes:
        kind, *rest = [part.decode() for part in request.postpath or []]
        if kind == "streams" and not rest:
            live = [channel.describe() for channel in self.channels.values() if not channel.private]
            live = [stream for stream in live if stream["is_live"]]
            page = {"items": live, "total": len(live), "page": 1, "limit": 20, "total_pages": 1}
            return self.envelope(request, 200, page)
        if kind == "thumbnails":
            request.setHeader("Content-Type", "image/jpeg")
            return (self.media / "still.jpg").read_bytes()
        channel = self.channels.get(rest[0]) if rest else None
        if channel is None:
            return self.envelope(request, 404, None, "There is no such stream.")
        starts = kind == "streams" or len(rest) == 2
        if channel.private and starts and request.args.get(b"token") != [TOKEN.encode()]:
            return self.envelope(request, 401, None, "This stream is private.")
        if kind == "streams":
            return self.envelope(request, 200, channel.describe())
        return self.hls(request, channel, rest[1:])

    def envelope(
        self, request: Request, status: int, data: object, error: str | None = None, code: str | None = None
    ) -> bytes:
        request.setResponseCode(status)
        request.setHeader("Content-Type", "application/json")
        now = datetime.now(UTC).isoformat()
        answer = {"success": error is None, "data": data, "error": error, "code": code, "timestamp": now}
        return json.dumps(answer).encode()

    def hls(self, request: Request, channel: Channel, path: list[str]) -> bytes:
        if path == ["playlist.m3u8"]:
            if not channel.carried:
                sentence = "HLS cannot carry the codecs of this stream."
                return self.envelope(request, 404, None, sentence, "not_carried")
            request.setHeader("Content-Type", "application/vnd.apple.mpegurl")
            return channel.multivariant().encode()
        _session, rendition, name = path
        if name == "playlist.m3u8":
            request.setHeader("Content-Type", "application/vnd.apple.mpegurl")
            return channel.playlist(rendition).encode()
        request.setHeader("Content-Type", "video/mp4")
        recording, _, what = name.partition("-")
        file = "init.mp4" if what == "init.mp4" else f"playlist{what.removesuffix('.m4s')}.m4s"
        return (self.media / recording / file).read_bytes()


class Framing(Resource):
    """Another site's page that embeds the player."""

    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        return b'<!doctype html><iframe src="/embed/show" width="640" height="360" allow="autoplay"></iframe>'


def main(media: Path) -> None:
    make_media(media)
    root = Resource()
    for segment, resource in pages().items():
        root.putChild(segment, resource)
    api = Resource()
    api.putChild(b"v1", Api(media))
    root.putChild(b"api", api)
    root.putChild(b"framing", Framing())
    port = reactor.listenTCP(0, Site(root), interface="127.0.0.1")  # type: ignore[attr-defined]
    print(port.getHost().port, flush=True)
    reactor.run()  # type: ignore[attr-defined]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
