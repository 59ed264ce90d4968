"""The server session against our own client, by bytes only."""

from twisted.trial.unittest import SynchronousTestCase

from oxidecast.rtmp.client import ClientSession
from oxidecast.rtmp.events import AudioReceived, ConnectRequested, PublishRequested, Started, VideoReceived
from oxidecast.rtmp.session import ServerSession


class Publishing(SynchronousTestCase):
    def test_from_handshake_to_media(self) -> None:
        server = ServerSession()
        client = ClientSession("publish", app="live", tc_url="rtmp://h/live", name="secret?a=b")
        seen, heard = [], []
        for _ in range(10):
            for event in server.receive(client.take_output()):
                seen.append(event)
                if isinstance(event, ConnectRequested):
                    server.accept_connect()
                if isinstance(event, PublishRequested):
                    server.accept_publish(event.stream_id)
            for heard_event in client.receive(server.take_output()):
                heard.append(heard_event)
                if isinstance(heard_event, Started):
                    client.send_video(40, b"\x17video")
                    client.send_audio(41, b"\xafaudio")
        print(seen, heard)
        assert [type(e) for e in seen] == [ConnectRequested, PublishRequested, VideoReceived, AudioReceived]
