"""What is wrong with the settings, said once and in one sentence."""


class SettingsError(Exception):
    """The server cannot start with these settings.

    The message is one sentence for the operator: where (file or variable), which key, what was expected. It
    never holds the text of a value, because a value may be a secret.
    """
