"""Who people are and what they may do: accounts, roles, passwords, tokens, stream keys, login limits."""

from oxidecast.accounts.accounts import Accounts, Login
from oxidecast.accounts.authenticator import KeyAuthenticator, OpenAuthenticator
from oxidecast.accounts.bootstrap import FirstSteps, bootstrap
from oxidecast.accounts.errors import (
    AccountError,
    BadCredentials,
    InvalidAccount,
    InvalidToken,
    KeyUnreadable,
    Overloaded,
    PublishRefused,
    TooManyAttempts,
)
from oxidecast.accounts.keys import KeySafe, PublishKeys, StreamKey
from oxidecast.accounts.limits import TokenBuckets
from oxidecast.accounts.passwords import Passwords
from oxidecast.accounts.roles import Permission, may, may_manage
from oxidecast.accounts.signing import Keyring, open_keyring, secret_key
from oxidecast.accounts.throttle import LoginThrottle
from oxidecast.accounts.tokens import Tokens

__all__ = [
    "AccountError",
    "Accounts",
    "BadCredentials",
    "FirstSteps",
    "InvalidAccount",
    "InvalidToken",
    "KeyAuthenticator",
    "KeySafe",
    "KeyUnreadable",
    "Keyring",
    "Login",
    "LoginThrottle",
    "OpenAuthenticator",
    "Overloaded",
    "Passwords",
    "Permission",
    "PublishKeys",
    "PublishRefused",
    "StreamKey",
    "TokenBuckets",
    "Tokens",
    "TooManyAttempts",
    "bootstrap",
    "may",
    "may_manage",
    "open_keyring",
    "secret_key",
]
