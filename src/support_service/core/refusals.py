"""The base of every exception that the command line shows as one line."""


class Refusal(Exception):
    """A refusal whose text tells its reader what is wrong and what to do."""
