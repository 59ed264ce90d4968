"""Why an account, a token or a key was not accepted. The sentences may be shown to whoever asked."""

import math


class AccountError(Exception):
    """Base of this room's refusals. `code` is the machine's word for the sentence."""

    code = "refused"


class BadCredentials(AccountError):
    """Unknown user, wrong password or disabled account: one answer for all three."""

    code = "bad_credentials"

    def __init__(self) -> None:
        super().__init__("The username or the password is wrong.")


class InvalidToken(AccountError):
    """An access, playback or refresh token that is not valid. `code` is `token_expired` or
    `token_invalid`."""

    def __init__(self, *, expired: bool = False) -> None:
        super().__init__("The token has expired." if expired else "The token is not valid.")
        self.code = "token_expired" if expired else "token_invalid"


class TooManyAttempts(AccountError):
    """Try again after `retry_after` seconds."""

    code = "too_many_attempts"

    def __init__(self, retry_after: float) -> None:
        self.retry_after = math.ceil(retry_after)
        super().__init__(f"Too many attempts: try again in {self.retry_after} seconds.")


class Overloaded(AccountError):
    """More logins at once than the machine can check."""

    code = "overloaded"

    def __init__(self) -> None:
        super().__init__("Too many logins at once: try again in a moment.")


class InvalidAccount(AccountError):
    """A field of a new account breaks its rule."""

    code = "invalid_account"

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"The {field} {rule}.")
        self.field = field
        self.rule = rule


class KeyUnreadable(AccountError):
    """A stored key was sealed with another server secret."""

    code = "key_unreadable"

    def __init__(self) -> None:
        super().__init__("The server secret has changed since this key was made: rotate the key.")


class PublishRefused(AccountError):
    """A publisher may not publish. `code` is `unknown_key`, `address_not_allowed`, `stream_stopped`,
    `account_disabled` or `unavailable`."""

    def __init__(self, code: str) -> None:
        super().__init__(_REFUSALS[code])
        self.code = code


_REFUSALS = {
    "unknown_key": "This stream key is not known.",
    "address_not_allowed": "This stream key may not be used from here.",
    "stream_stopped": "This stream was stopped by its owner: start it again before publishing.",
    "account_disabled": "The account that this stream belongs to is disabled.",
    "role_may_not": "The account that this stream belongs to may not publish: its role does not permit it.",
    "unavailable": "The server cannot check stream keys at the moment: try again later.",
}

KNOWN_KEY = frozenset(_REFUSALS) - {"unknown_key", "unavailable"}
"""The refusals of keys that are keys."""
