"""What a reload would change."""

import msgspec

from oxidecast.settings.loader import Settings


def difference(old: Settings, new: Settings) -> list[str]:
    """The dotted keys whose values differ, `server.port` or `transcoding.profiles`, in the sections' order.

    Nested tables are compared key by key, lists as wholes.
    """
    return [key for name in new for key in _differences(name, old.get(name), new[name])]


def is_reloadable(settings: Settings, key: str) -> bool:
    """Whether the running server takes a change of this dotted key over. A section's type says so in its
    `reloadable`; a type without that attribute has no reloadable key, nor has a section that is new."""
    name, _, inner = key.partition(".")
    return inner in getattr(type(settings.get(name)), "reloadable", frozenset())


def _differences(path: str, old: object, new: object) -> list[str]:
    if isinstance(new, msgspec.Struct) and type(old) is type(new):
        keys = [field.encode_name for field in msgspec.structs.fields(new)]
        names = [field.name for field in msgspec.structs.fields(new)]
        return [
            change
            for key, name in zip(keys, names, strict=True)
            for change in _differences(f"{path}.{key}", getattr(old, name), getattr(new, name))
        ]
    return [] if old == new else [path]
