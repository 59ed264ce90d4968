"""ffmpeg, old and new, publishing to the session and playing from it, over a real socket."""

import subprocess
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from oxidecast.rtmp.events import (
    AudioReceived,
    ConnectRequested,
    MetadataReceived,
    PlayRequested,
    PublishRequested,
    ServerEvent,
    VideoReceived,
)
from oxidecast.rtmp.session import ServerSession
from tests.rtmp.peer import AAC, H264, NEW_FFMPEG, OLD_FFMPEG, PICTURE, SOUND, accept, publish, serve
from tests.rtmp.test_captures import capture, replay


class Publishers(SynchronousTestCase):
    def test_are_taken(self) -> None:
        for program in (OLD_FFMPEG, NEW_FFMPEG):
            with self.subTest(program):
                _, events = publish([program, *PICTURE, *SOUND, *H264, *AAC], seconds=0.5)
                assert sum(isinstance(event, VideoReceived) for event in events) >= 5
                assert sum(isinstance(event, AudioReceived) for event in events) >= 15

    def test_are_told_why_they_are_refused(self) -> None:
        def refuse(session: ServerSession, event: ServerEvent) -> None:
            if isinstance(event, PublishRequested):
                session.reject_publish(event.stream_id, "The stream key is not known.")
            else:
                accept(session, event)

        for program in (OLD_FFMPEG, NEW_FFMPEG):
            with self.subTest(program), tempfile.TemporaryDirectory() as folder:
                log = Path(folder) / "log"
                command = f"{program} -v error -f lavfi -i testsrc2 -c:v libx264 -f flv $0/live/key 2> {log}"
                _, events = serve(lambda url, command=command: ["sh", "-c", command, url], refuse)
                assert not any(isinstance(event, VideoReceived) for event in events)
                assert "The stream key is not known." in log.read_text()

    def test_are_told_why_the_connection_is_refused(self) -> None:
        def refuse(session: ServerSession, event: ServerEvent) -> None:
            assert isinstance(event, ConnectRequested)
            session.reject_connect("There is no such application.")

        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "log"
            command = f"{OLD_FFMPEG} -v error -f lavfi -i testsrc2 -c:v libx264 -f flv $0/nope/key 2> {log}"
            serve(lambda url: ["sh", "-c", command, url], refuse)
            assert "There is no such application." in log.read_text()


class Players(SynchronousTestCase):
    """ffmpeg checks the digests of the handshake when it plays."""

    def test_get_every_frame(self) -> None:
        for name, codecs in [
            ("ffmpeg9-h264-aac", ["h264", "aac"]),
            ("ffmpeg9-hevc-opus", ["hevc", "opus"]),
            ("ffmpeg9-av1", ["av1"]),
        ]:
            with self.subTest(name), tempfile.TemporaryDirectory() as folder:
                published, _, _ = replay(capture(name))

                def play(
                    session: ServerSession, event: ServerEvent, published: list[ServerEvent] = published
                ) -> None:
                    accept(session, event)
                    if not isinstance(event, PlayRequested):
                        return
                    for media in published:
                        if isinstance(media, MetadataReceived):
                            session.send_metadata(event.stream_id, media.timestamp, media.values)
                        elif isinstance(media, VideoReceived):
                            session.send_video(event.stream_id, media.timestamp, media.payload)
                        elif isinstance(media, AudioReceived):
                            session.send_audio(event.stream_id, media.timestamp, media.payload)
                    session.end_play(event.stream_id)

                file = Path(folder) / "played.mkv"
                serve(
                    lambda url, file=file: [
                        NEW_FFMPEG,
                        "-v",
                        "error",
                        "-i",
                        f"{url}/live/x",
                        "-c",
                        "copy",
                        str(file),
                    ],
                    play,
                )
                probe = ["ffprobe", "-v", "error", "-count_packets", "-of", "csv=p=0"]
                probe += ["-show_entries", "stream=codec_name,nb_read_packets", str(file)]
                rows = subprocess.run(probe, capture_output=True, text=True, check=True).stdout.split()
                found = dict(row.split(",") for row in rows)
                assert list(found) == codecs
                assert found[codecs[0]] == "15"
