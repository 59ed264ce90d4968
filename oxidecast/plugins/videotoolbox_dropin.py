from oxidecast.interfaces import ITranscoderBackend
from oxidecast.registry import Plugin
from oxidecast.transcoding.backends import VideoToolbox

videotoolbox = Plugin(
    "videotoolbox",
    ITranscoderBackend,
    lambda settings, services: VideoToolbox(services.reactor, services.transcoding.ffmpeg_path),
)
