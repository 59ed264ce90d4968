"""What keeps the server from starting, said once and in one sentence."""


class StartError(Exception):
    """The server cannot start; the message is one sentence for the operator."""


class SettingsError(StartError):
    """The server cannot start with these settings.

    The sentence says where (file or variable), which key, what was expected. It never holds the text of a value,
    because a value may be a secret.
    """
