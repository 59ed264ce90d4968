"""One RTMP connection served over a blocking socket: what real programs are let loose on in tests.

`python -m tests.rtmp.peer` makes the captures in `tests/data` anew from the ffmpeg programs of the machine.
"""

import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg

from oxidecast.rtmp.events import ConnectRequested, PlayRequested, PublishRequested, ServerEvent
from oxidecast.rtmp.session import ServerSession

DATA = Path(__file__).parent.parent / "data"
OLD_FFMPEG = "ffmpeg"
NEW_FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()

PICTURE = ["-f", "lavfi", "-i", "testsrc2=size=320x180:rate=10"]
SOUND = ["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100"]
H264 = ["-c:v", "libx264", "-preset", "ultrafast", "-g", "10", "-bf", "2", "-b:v", "150k"]
HEVC = ["-c:v", "libx265", "-preset", "ultrafast", "-b:v", "100k", "-x265-params", "log-level=0:keyint=10"]
TWO_OF_EACH = ["-map", "0:v", "-map", "0:v", "-map", "1:a", "-map", "1:a"]
AAC = ["-c:a", "aac", "-b:a", "32k"]

CAPTURES = {
    "ffmpeg5-h264-aac": (OLD_FFMPEG, [*PICTURE, *SOUND, *H264, *AAC]),
    "ffmpeg9-h264-aac": (NEW_FFMPEG, [*PICTURE, *SOUND, *H264, *AAC]),
    "ffmpeg9-hevc-opus": (
        NEW_FFMPEG,
        [*PICTURE, *SOUND, *HEVC, "-c:a", "libopus", "-b:a", "32k", "-rtmp_enhanced_codecs", "hvc1,Opus"],
    ),
    "ffmpeg9-av1": (
        NEW_FFMPEG,
        [*PICTURE, "-c:v", "libsvtav1", "-preset", "12", "-g", "10", "-rtmp_enhanced_codecs", "av01"],
    ),
    "ffmpeg9-multitrack": (
        NEW_FFMPEG,
        [*PICTURE, *SOUND, *TWO_OF_EACH, *H264, "-s:v:1", "160x90", *AAC],
    ),
}


def publish(
    command: list[str], *, seconds: float = 1.5, key: str = "a-stream-key"
) -> tuple[bytes, list[ServerEvent]]:
    """What ffmpeg sends to a server that accepts it, and the events that makes."""

    def arguments(url: str) -> list[str]:
        program, *options = command
        return [program, "-v", "error", *options, "-t", str(seconds), "-f", "flv", f"{url}/live/{key}"]

    return serve(arguments)


def serve(
    arguments: Callable[[str], list[str]],
    on_event: Callable[[ServerSession, ServerEvent], None] | None = None,
    limit: float = 20,
) -> tuple[bytes, list[ServerEvent]]:
    """Run a program against a session until it hangs up; what it sent, and the events that made."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(limit)
        url = f"rtmp://127.0.0.1:{listener.getsockname()[1]}"
        program = subprocess.Popen(["timeout", str(limit), *arguments(url)], stdin=subprocess.DEVNULL)
        try:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(limit)
                return _converse(connection, on_event or accept, time.monotonic() + limit)
        finally:
            program.terminate()
            program.wait()


def accept(session: ServerSession, event: ServerEvent) -> None:
    """Say yes to everything."""
    if isinstance(event, ConnectRequested):
        session.accept_connect()
    elif isinstance(event, PublishRequested):
        session.accept_publish(event.stream_id)
    elif isinstance(event, PlayRequested):
        session.accept_play(event.stream_id)


def _converse(
    connection: socket.socket, on_event: Callable[[ServerSession, ServerEvent], None], deadline: float
) -> tuple[bytes, list[ServerEvent]]:
    session = ServerSession()
    sent, events = bytearray(), []
    while time.monotonic() < deadline:
        try:
            data = connection.recv(65536)
        except ConnectionResetError:
            break
        if not data:
            break
        sent += data
        for event in session.receive(data):
            events.append(event)
            on_event(session, event)
        try:
            connection.sendall(session.take_output())
        except (BrokenPipeError, ConnectionResetError):
            break
    return bytes(sent), events


if __name__ == "__main__":
    DATA.mkdir(exist_ok=True)
    for name, (program, options) in CAPTURES.items():
        sent, events = publish([program, *options])
        (DATA / f"{name}.bin").write_bytes(sent)
        kinds = {kind.__name__: sum(type(e) is kind for e in events) for kind in {type(e) for e in events}}
        print(name, len(sent), kinds)
