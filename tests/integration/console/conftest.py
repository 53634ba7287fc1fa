"""Fixtures of the console's tests."""

import pytest

from tests.support.calls import open_case
from tests.support.console.browser import (  # noqa: F401 - fixtures
    _function_scoped_runner,
    _module_scoped_runner,
    browser,
    chromium,
    console,
    emptied_client,
    warm_profile,
)
from tests.support.console.people import headers, owned_case, token_file, tokens  # noqa: F401 - fixtures
from tests.support.console.samples import MEGABYTE
from tests.support.events.webhooks import endpoint  # noqa: F401 - a fixture

client = emptied_client


@pytest.fixture
async def case(client):
    """A case with an order that waits for an answer."""
    return await open_case(
        client,
        subject="Parcel has not arrived",
        customerId="customer-17",
        tags=["delivery"],
        description="The tracking page has not changed.",
        context=[{"type": "order", "orderId": "ORD-1001"}],
        initialMessage={"authorType": "customer", "message": "Where is my parcel?", "sentiment": "negative"},
    )


@pytest.fixture
def video(tmp_path):
    """A file of 20 MB."""
    file = tmp_path / "video.mp4"
    file.write_bytes(b"x" * 20 * MEGABYTE)
    return file
