from oxidecast.interfaces import ITranscoderBackend
from oxidecast.registry import Plugin
from oxidecast.transcoding.backends import Software

software = Plugin(
    "software",
    ITranscoderBackend,
    lambda settings, services: Software(
        services.reactor, services.transcoding.ffmpeg_path, services.transcoding.preset
    ),
)
