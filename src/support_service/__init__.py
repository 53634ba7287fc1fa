"""Support cases with one merged timeline and attachments, and with built-in health signals."""

__version__ = "0.2.0"  # pyproject.toml reads the package's version from here
