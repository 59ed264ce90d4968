"""Families of encoders: what each is called, the options it is given, and whether it works on this machine."""

from oxidecast.transcoding.backends.base import Backend, Unavailable
from oxidecast.transcoding.backends.nvenc import Nvenc
from oxidecast.transcoding.backends.qsv import Qsv
from oxidecast.transcoding.backends.software import Software
from oxidecast.transcoding.backends.vaapi import Vaapi
from oxidecast.transcoding.backends.videotoolbox import VideoToolbox

BY_DEVICE: dict[str, type[Backend]] = {
    "cuda": Nvenc,
    "vaapi": Vaapi,
    "qsv": Qsv,
    "videotoolbox": VideoToolbox,
}
"""By what `hardware_acceleration.device` may be."""

__all__ = ["BY_DEVICE", "Backend", "Nvenc", "Qsv", "Software", "Unavailable", "Vaapi", "VideoToolbox"]
