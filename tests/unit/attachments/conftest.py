"""Storages and databases with attachments."""

from tests.support.attachments.fixtures import gateway, harness, metrics_and_scrape, scrape, storage  # noqa: F401 - fixtures
