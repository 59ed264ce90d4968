from oxidecast.interfaces import IOutput
from oxidecast.registry import Plugin
from oxidecast.transcoding.thumbnails.output import ThumbnailsOutput
from oxidecast.transcoding.thumbnails.settings import ThumbnailsSettings

thumbnails = Plugin("thumbnails", IOutput, ThumbnailsOutput, ThumbnailsSettings)
