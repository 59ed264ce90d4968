from oxidecast.ingest.whip.ingest import WHIPIngest
from oxidecast.interfaces import IIngest
from oxidecast.registry import Plugin
from oxidecast.webrtc.settings import WebrtcSettings

webrtc = Plugin("webrtc", IIngest, WHIPIngest, WebrtcSettings)
