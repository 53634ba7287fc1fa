"""The parts of a service under test."""

from aiohttp.test_utils import TestClient

from support_service.service import SERVICE, Service


def service_of(client: TestClient) -> Service:
    """Return the running service that a client talks to."""
    return client.app[SERVICE]
