from oxidecast.interfaces import ITranscoderBackend
from oxidecast.registry import Plugin
from oxidecast.transcoding.backends import Nvenc

nvenc = Plugin(
    "nvenc",
    ITranscoderBackend,
    lambda settings, services: Nvenc(services.reactor, services.transcoding.ffmpeg_path),
)
