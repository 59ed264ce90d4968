"""Who may do what: one table."""

from enum import StrEnum

from oxidecast.database.users import Role, User
from oxidecast.streams.info import StreamInfo


class Permission(StrEnum):
    CREATE_STREAMS = "create_streams"
    PUBLISH = "publish"
    """Let the keys of one's streams publish."""
    MANAGE_ANY_STREAM = "manage_any_stream"
    MANAGE_USERS = "manage_users"
    READ_STATISTICS = "read_statistics"
    READ_AUDIT_LOG = "read_audit_log"


PERMISSIONS: dict[Role, frozenset[Permission]] = {
    "admin": frozenset(Permission),
    "streamer": frozenset({Permission.CREATE_STREAMS, Permission.PUBLISH}),
    "viewer": frozenset(),
}
"""What a role adds to what everybody may: watch public streams, and manage what one owns."""


def role_may(role: Role, permission: Permission) -> bool:
    return permission in PERMISSIONS[role]


def may(user: User, permission: Permission) -> bool:
    return not user.disabled and role_may(user.role, permission)


def may_manage(user: User, stream: StreamInfo) -> bool:
    """Whether `user` may change a stream and see its keys."""
    owns = user.id == stream.owner_id and not user.disabled
    return owns or may(user, Permission.MANAGE_ANY_STREAM)
