"""A clock that tests move."""


class Clock:
    """A clock that stands until it is turned."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now
