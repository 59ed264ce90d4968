from oxidecast.interfaces import IOutput
from oxidecast.outputs.recording.output import RecordingOutput
from oxidecast.outputs.recording.settings import RecordingSettings
from oxidecast.registry import Plugin

recording = Plugin("recording", IOutput, RecordingOutput, RecordingSettings)
