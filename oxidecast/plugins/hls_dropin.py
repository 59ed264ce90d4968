from oxidecast.interfaces import IOutput
from oxidecast.outputs.hls.output import HLSOutput
from oxidecast.outputs.hls.settings import HlsSettings
from oxidecast.registry import Plugin

hls = Plugin("hls", IOutput, HLSOutput, HlsSettings)
