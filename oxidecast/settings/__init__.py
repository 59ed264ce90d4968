"""Settings: one TOML file, environment variables over it, and errors that say what to change.

This room knows no other. `loader` reads any mapping of section name to msgspec Struct; each room keeps the
type of its own section, and `sections` keeps those that belong to the server as a whole.
"""

from oxidecast.settings.changes import difference, is_reloadable
from oxidecast.settings.errors import SettingsError
from oxidecast.settings.loader import RawSettings, Settings, load
from oxidecast.settings.section import Invalid, Section

__all__ = [
    "Invalid",
    "RawSettings",
    "Section",
    "Settings",
    "SettingsError",
    "difference",
    "is_reloadable",
    "load",
]
