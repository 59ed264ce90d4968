"""Finds the files that come with the package: in `oxidecast/_data` of an installed wheel, beside the package
in a checkout."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


def data_path(name: str) -> Path:
    """The file or folder `name`, such as `migrations` or `oxidecast.toml`. Raises FileNotFoundError."""
    checkout = _PACKAGE.parent
    for candidate in (_PACKAGE / "_data" / name, checkout / name, checkout / "config" / name):
        if candidate.exists():
            return candidate
    raise FileNotFoundError(f"{name} is missing from this installation of OxideCast")
