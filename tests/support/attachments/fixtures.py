"""A world of attachments for the tests of what moves, sweeps and deletes them."""

import pytest

from support_service.attachments.storage.local import LocalAttachmentStorage
from support_service.telemetry.component import METRICS
from support_service.telemetry.instruments import Instruments
from support_service.telemetry.provider import Metrics, build_resource
from tests.support.attachments.gateway import Gateway
from tests.support.attachments.world import World
from tests.support.scrape import Scrape
from tests.support.servers import free_port


@pytest.fixture
async def storage(tmp_path):
    """An open storage on a disk."""
    storage = LocalAttachmentStorage(tmp_path)
    await storage.open()
    yield storage
    await storage.close()


@pytest.fixture
def counted():
    """A provider of metrics, and what it exposes."""
    metrics = Metrics(("prometheus",), build_resource())
    yield metrics, Scrape({METRICS: metrics})
    metrics.close()


@pytest.fixture
async def gateway(s3):
    """The way to S3, which a test can break."""
    gateway = Gateway(s3.url, free_port())
    await gateway.start()
    yield gateway
    await gateway.kill()


@pytest.fixture
async def world(database, tmp_path, s3, gateway, counted):
    """An empty world."""
    world = World(database, tmp_path / "files", gateway.url, s3.create_bucket(), Instruments(counted[0].meter))
    await world.open()
    yield world
    await world.local.close()


@pytest.fixture
def scrape(counted):
    """What that world counts."""
    return counted[1]
