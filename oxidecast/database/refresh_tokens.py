"""Refresh tokens at rest: each is used once and replaced, and a second use gives the thief away.

The tokens of one login are a family (OAuth 2.0 Security Best Current Practice, RFC 9700, 4.14.2): whoever
uses one a second time, thief or owner, ends the whole family.
"""

from datetime import datetime
from typing import Literal, NamedTuple

from oxidecast.database.interface import Body
from oxidecast.database.records import new_id


class Rotation(NamedTuple):
    """What became of a refresh token that was presented."""

    outcome: Literal["rotated", "unknown", "expired", "revoked", "reused", "disabled"]
    user_id: str | None = None
    generation: int = 0
    """Of the account's access tokens, when it was rotated."""


def insert_token(
    user_id: str, generation: int, digest: str, now: datetime, expires_at: datetime
) -> Body[bool]:
    """Begin a family. The user's expired tokens go, so that the table does not grow with every login. False when the
    account was disabled, or its password changed, since `generation` was read."""
    rows = yield (
        "SELECT 1 FROM users WHERE id = :user_id AND token_generation = :generation AND NOT disabled",
        {"user_id": user_id, "generation": generation},
    )
    if not rows:
        return False
    yield (
        "DELETE FROM refresh_tokens WHERE user_id = :user_id AND expires_at <= :now",
        {"user_id": user_id, "now": now},
    )
    yield _insertion(user_id, new_id(), digest, now, expires_at)
    return True


def rotate_token(digest: str, successor: str, now: datetime, expires_at: datetime) -> Body[Rotation]:
    """Use a token up and put `successor` (a digest) in its place, or say why not."""
    rows = yield (
        "SELECT t.id, t.user_id, t.family_id, t.used_at, t.revoked_at, u.disabled, u.token_generation,"
        " t.expires_at <= :now AS expired"
        " FROM refresh_tokens t JOIN users u ON u.id = t.user_id WHERE t.digest = :digest",
        {"digest": digest, "now": now},
    )
    if not rows:
        return Rotation("unknown")
    row = rows[0]
    user_id = str(row["user_id"])
    if row["revoked_at"] is not None:
        return Rotation("revoked", user_id)
    if row["used_at"] is not None:
        yield _revocation(row["family_id"], now)
        return Rotation("reused", user_id)
    if row["expired"]:
        return Rotation("expired", user_id)
    if row["disabled"]:
        yield _revocation(row["family_id"], now)
        return Rotation("disabled", user_id)
    yield "UPDATE refresh_tokens SET used_at = :now WHERE id = :id", {"id": row["id"], "now": now}
    yield _insertion(user_id, row["family_id"], successor, now, expires_at)
    return Rotation("rotated", user_id, row["token_generation"])


def revoke_family(digest: str, now: datetime) -> Body[str | None]:
    """End the login that a token belongs to. Answers whose it was, None when it is not known or has ended already."""
    rows = yield "SELECT family_id, user_id FROM refresh_tokens WHERE digest = :digest", {"digest": digest}
    for row in rows:
        statement, params = _revocation(row["family_id"], now)
        if (yield f"{statement} RETURNING id", params):
            return str(row["user_id"])
    return None


def revoke_all(user_id: str, now: datetime) -> Body[None]:
    """End all logins of a user."""
    yield (
        "UPDATE refresh_tokens SET revoked_at = :now WHERE user_id = :user_id AND revoked_at IS NULL",
        {"user_id": user_id, "now": now},
    )


def _insertion(
    user_id: str, family_id: str, digest: str, now: datetime, expires_at: datetime
) -> tuple[str, dict[str, str | datetime]]:
    return (
        "INSERT INTO refresh_tokens (id, user_id, family_id, digest, created_at, expires_at)"
        " VALUES (:id, :user_id, :family_id, :digest, :now, :expires_at)",
        {
            "id": new_id(),
            "user_id": user_id,
            "family_id": family_id,
            "digest": digest,
            "now": now,
            "expires_at": expires_at,
        },
    )


def _revocation(family_id: str, now: datetime) -> tuple[str, dict[str, str | datetime]]:
    return (
        "UPDATE refresh_tokens SET revoked_at = :now WHERE family_id = :family_id AND revoked_at IS NULL",
        {"family_id": family_id, "now": now},
    )
