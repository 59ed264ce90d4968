"""What can go wrong with the database, in sentences that hold no SQL and no path."""


class DatabaseError(Exception):
    """The database refused a statement: a mistake of ours. Base of those below."""


class DatabaseUnavailable(DatabaseError):
    """The database is away: disk full, locked too long, unreadable, overloaded or closed."""


class DatabaseRefuses(DatabaseUnavailable):
    """The database is there and lets us not in, and will not by itself: who set it up must change something."""


class Outdated(DatabaseError):
    """Something is no longer as who changes it has seen it."""

    def __init__(self) -> None:
        super().__init__("It was changed meanwhile: look at it again.")


class Conflict(DatabaseError):
    """What was to be written exists already, or refers to something that does not."""
