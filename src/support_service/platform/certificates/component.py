"""The certificates component: a gauge of the time until the certificates of the configured servers expire."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

from aiohttp import web

from support_service.core.domain.upstream_services import UpstreamService
from support_service.platform.background import run_every, run_in_background
from support_service.platform.settings.resources import EventSettings, ObjectStoreSettings
from support_service.platform.telemetry.component import INSTRUMENTS
from support_service.platform.telemetry.instruments.process import CERTIFICATE_EXPIRES


@dataclass(frozen=True, slots=True)
class CertificateTimings:
    """Times in seconds."""

    first_read_delay: float = 5.0  # so that a start does not wait for other servers
    read_interval: float = 3600.0
    read_timeout: float = 5.0


def setup(
    app: web.Application,
    upstream_urls: Mapping[UpstreamService, str],
    events: EventSettings,
    s3: ObjectStoreSettings,
    *,
    jwt_keys: str | None,
    timings: CertificateTimings,
) -> None:
    """Add the gauge. Its targets are the upstream services, `keys`, `s3` and `webhook:NAME` with an https URL."""
    urls = {str(service): url for service, url in upstream_urls.items()}
    if jwt_keys:
        urls["keys"] = jwt_keys
    if s3.bucket is not None:
        urls["s3"] = s3.endpoint or f"https://s3.{s3.region}.amazonaws.com"
    urls |= {f"webhook:{each.name}": each.url for each in events.webhooks}

    async def run(app: web.Application) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            if any(url.startswith("https:") for url in urls.values()):
                from support_service.platform.certificates.expiry import CertificateExpiry

                certificates = CertificateExpiry(urls, timings.read_timeout)
                app[INSTRUMENTS].observe(
                    CERTIFICATE_EXPIRES,
                    lambda: [(left, {"target": target}) for target, left in certificates.seconds_left().items()],
                )
                reading = run_every(
                    timings.read_interval,
                    certificates.refresh,
                    "Reading the certificates of other servers",
                    first=timings.first_read_delay,
                )
                await stack.enter_async_context(run_in_background(reading))
            yield

    app.cleanup_ctx.append(run)
