"""The database: one interface over every engine, the schema's migrations, and small repositories."""

from oxidecast.database.errors import Conflict, DatabaseError, DatabaseUnavailable
from oxidecast.database.interface import IDatabase
from oxidecast.database.migrations import SchemaTooNew, migrate, pending
from oxidecast.database.opening import open_database, require_database
from oxidecast.database.records import Page

__all__ = [
    "Conflict",
    "DatabaseError",
    "DatabaseUnavailable",
    "IDatabase",
    "Page",
    "SchemaTooNew",
    "migrate",
    "open_database",
    "pending",
    "require_database",
]
