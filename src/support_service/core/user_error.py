"""The base class of the exceptions that the command line shows as one line."""


class UserError(Exception):
    """An expected error whose text says what is wrong and what to do."""
