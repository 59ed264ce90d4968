"""What an account can be called."""

import re

_USERNAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{2,49}", re.ASCII)
_EMAIL = re.compile(r"[^@\s\0]{1,64}@[^@\s\0]{1,190}")


def is_username(text: str) -> bool:
    return _USERNAME.fullmatch(text) is not None


def is_email(text: str) -> bool:
    """Whether it looks like an address; only a message that arrives proves one."""
    return _EMAIL.fullmatch(text) is not None
