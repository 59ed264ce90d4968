from oxidecast.interfaces import IOutput
from oxidecast.outputs.webrtc.check import check
from oxidecast.outputs.webrtc.output import WebRTCOutput
from oxidecast.registry import Plugin
from oxidecast.webrtc.settings import WebrtcSettings

webrtc = Plugin("webrtc", IOutput, WebRTCOutput, WebrtcSettings, check=check)
