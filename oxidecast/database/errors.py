"""What can go wrong with the database, in sentences that hold no SQL and no path."""


class DatabaseError(Exception):
    """The database refused a statement: a mistake of ours. Base of the two below."""


class DatabaseUnavailable(DatabaseError):
    """The database is away: disk full, locked too long, unreadable, overloaded or closed."""


class Conflict(DatabaseError):
    """What was to be written exists already, or refers to something that does not."""
