"""Storages, databases with attachments, and cases that are stored past the service."""

from tests.support.attachments.fixtures import gateway, harness, metrics_and_scrape, scrape, storage  # noqa: F401 - fixtures
from tests.support.cases import add_cases  # noqa: F401 - fixtures
