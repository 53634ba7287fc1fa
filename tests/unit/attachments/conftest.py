"""Storages and databases with attachments."""

from tests.support.attachments.fixtures import counted, gateway, scrape, storage, world  # noqa: F401 - fixtures
