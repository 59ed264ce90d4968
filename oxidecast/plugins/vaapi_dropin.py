from oxidecast.interfaces import ITranscoderBackend
from oxidecast.registry import Plugin
from oxidecast.transcoding.backends import Vaapi

vaapi = Plugin(
    "vaapi",
    ITranscoderBackend,
    lambda settings, services: Vaapi(services.reactor, services.transcoding.ffmpeg_path),
)
