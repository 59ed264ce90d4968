"""All sections that ship with the server, and a shorthand to load them."""

import shutil
import tempfile
from pathlib import Path

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.foundation import SECTIONS
from oxidecast.outputs.hls.settings import HlsSettings
from oxidecast.outputs.multicast.settings import MulticastSettings
from oxidecast.outputs.recording.settings import RecordingSettings
from oxidecast.settings import Settings, load

ALL: dict[str, type[msgspec.Struct]] = {
    **SECTIONS,
    "hls": HlsSettings,
    "multicast": MulticastSettings,
    "recording": RecordingSettings,
}


def temporary_folder(case: SynchronousTestCase) -> Path:
    """A folder that goes when the test ends."""
    folder = tempfile.mkdtemp()
    case.addCleanup(shutil.rmtree, folder)
    return Path(folder)


def loaded(toml: str | bytes | None = None, **environ: str) -> Settings:
    """Load `toml` from a file called settings.toml."""
    if toml is None:
        return load(ALL, None, environ)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "settings.toml")
        file.write_bytes(toml if isinstance(toml, bytes) else toml.encode())
        return load(ALL, file, environ)
