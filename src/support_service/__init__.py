"""Support cases, one merged timeline and attachments, with their health visible from the first minute."""

from importlib.metadata import version

__version__ = version("support-service")
