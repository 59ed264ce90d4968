"""`/audit`: who did what, to what, from where, for administrators.

The one idea: here it is only read. Entries are written where things are done, in the same transaction.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from oxidecast.accounts.roles import Permission
from oxidecast.database.audit import AuditLog, Entry
from oxidecast.web.api import PAGING, Call, Page, Query, Route
from oxidecast.web.fields import Time
from oxidecast.web.moments import moment


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was done. `actor` is a username, `cli:` and the name of the system's user, `server`, or
    `anonymous`; `address` is null where there was none. What is counted together was done `times` times, from `at` to
    `last_at`."""

    id: str
    at: Time
    actor: str
    actor_id: str | None
    action: str
    target: str
    address: str | None
    details: Mapping[str, Any]
    times: int
    last_at: Time | None


class AuditRoutes:
    """The handlers."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit

    def routes(self) -> Sequence[Route]:
        filters = (
            Query("actor", str, "Only what this one did, such as a username, or cli:root."),
            Query("action", str, "Only this action, such as key.read or login.failed."),
            Query("target", str, "Only what was done to this, such as user:ada or stream:show."),
            Query("from", Time, "Only from this time on."),
            Query("to", Time, "Only before this time."),
        )
        return (
            Route(
                "GET",
                "/audit",
                self.list,
                needs=Permission.READ_AUDIT_LOG,
                answer=Page[AuditEntry],
                query=(*PAGING, *filters),
            ),
        )

    async def list(self, call: Call) -> Page[AuditEntry]:
        """The audit log, newest first: logins, changes, and who saw which key. Nothing secret is in it."""
        page, limit = call.paging()
        found = await self._audit.page(
            page,
            limit,
            actor=call.query("actor") or None,
            action=call.query("action") or None,
            target=call.query("target") or None,
            begin=moment(call, "from"),
            end=moment(call, "to"),
        )
        return Page([_view(entry) for entry in found.items], found.total, page, limit, found.total_pages)


def _view(entry: Entry) -> AuditEntry:
    return AuditEntry(**msgspec.structs.asdict(entry))
