from oxidecast.ingest.rtmp import RTMPIngest
from oxidecast.interfaces import IIngest
from oxidecast.registry import Plugin
from oxidecast.rtmp.settings import RtmpSettings

rtmp = Plugin("rtmp", IIngest, RTMPIngest, RtmpSettings)
