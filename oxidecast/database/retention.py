"""Old rows of tables that have no partitions, deleted a few at a time, so that no other writer waits for long."""

from datetime import datetime

from oxidecast.database.interface import IDatabase
from oxidecast.database.partitions import BATCH


async def delete_before(database: IDatabase, table: str, column: str, moment: datetime) -> None:
    """Delete the rows of a table with an `id` whose `column`, which has an index, is before `moment`. Table and column
    are names from the code. Raises DatabaseError."""
    sql = (
        f"DELETE FROM {table} WHERE id IN"
        f" (SELECT id FROM {table} WHERE {column} < :moment ORDER BY {column} LIMIT :batch)"
    )
    while await database.execute(sql, {"moment": moment, "batch": BATCH}) == BATCH:
        pass
