"""Support cases, one merged timeline and attachments, with their health visible from the first minute."""

__version__ = "0.1.0"  # the package's version too: pyproject.toml reads it here
