from oxidecast.interfaces import ITranscoderBackend
from oxidecast.registry import Plugin
from oxidecast.transcoding.backends import Qsv

qsv = Plugin(
    "qsv",
    ITranscoderBackend,
    lambda settings, services: Qsv(services.reactor, services.transcoding.ffmpeg_path),
)
