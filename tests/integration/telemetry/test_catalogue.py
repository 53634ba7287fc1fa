"""The table of instruments and a live scrape agree in both directions."""

import re

from observability.catalogue import INSTRUMENTS

from support_service.api.routes import ROUTES
from support_service.attachments.storage.base import S3_CALLS, S3_REPEATS
from support_service.events.webhook_sender import WEBHOOK_OVERDUE_AGE
from support_service.platform.access.callers import ACCESS_CALLERS
from support_service.platform.certificates import CERTIFICATE_EXPIRES
from support_service.platform.database.shared import DATABASE_NUMBER
from support_service.platform.telemetry.http import HTTP_CLIENT_DURATION
from support_service.timings import ApiTimings
from tests.support.calls import GENEROUS_TIMEOUT, eventually
from tests.support.scrape import Scrape, parse
from tests.support.service import service_of
from tests.support.timings import patient_timings

ROWS = {row.prometheus_name: row for row in INSTRUMENTS}
HISTOGRAM = re.compile(r"_(bucket|count|sum)$")
UNLISTED_VALUES = {
    "http_route": {route.path for route in ROUTES} | {"other"},
    "http_response_status_code": {str(status) for status in range(200, 600)},
    "version": None,
    "python": None,
}


def allowed_labels(row):
    """Return the labels of a row as a scrape names them, with the allowed values; None allows any value."""
    return {
        label.replace(".", "_"): set(values) if values is not None else UNLISTED_VALUES.get(label.replace(".", "_"))
        for label, values in row.labels.items()
    }


async def test_live_scrape_matches_the_table_of_instruments(upstream_services, redis, make_client, workload, constants):
    """After a workload the scrape has exactly the table's families, types, labels and label values."""
    constants("attachments.maintenance.jobs", FIRST_RECONCILE_DELAY=(0.0, 0.0))
    timings = patient_timings(api=ApiTimings(dependency_interval=0.1))
    client = await make_client(SUPPORT_REDIS_URL=redis.url, timings=timings)
    await workload(client)
    for late in ("support_attachment_unrepaired", "support_redis_evicted_keys_total", "support_dependency_status"):
        await eventually(lambda late=late: Scrape(service_of(client).metrics).label_sets(late), 6 * GENEROUS_TIMEOUT)
    async with client.get("/metrics") as response:
        text = await response.text()
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    # There are neither webhooks, https URLs, PostgreSQL, S3 nor tokens.
    of_s3 = (S3_CALLS, S3_REPEATS)
    of_others = (
        CERTIFICATE_EXPIRES,
        HTTP_CLIENT_DURATION,
        WEBHOOK_OVERDUE_AGE,
        ACCESS_CALLERS,
        DATABASE_NUMBER,
        *of_s3,
    )
    rows = {name: row for name, row in ROWS.items() if row not in of_others}
    assert kinds.pop("target_info") == "gauge"  # of the exporter
    assert kinds.keys() == rows.keys()
    for name, row in rows.items():
        wanted = {"observed counter": "counter", "observed sum": "gauge"}.get(row.kind, row.kind)
        assert kinds[name] == wanted, name
    seen = set()
    for sample, given, _ in parse(text):
        name = sample if sample in ROWS else HISTOGRAM.sub("", sample)
        seen.add(name)
        allowed = allowed_labels(ROWS[name])
        labels = {label: value for label, value in given.items() if label != "le"}
        assert labels.keys() <= allowed.keys(), sample
        for label, value in labels.items():
            if label == "error_type" and name.startswith("http"):
                assert value == "client_left" or value == given["http_response_status_code"]
            elif allowed[label] is not None:
                assert value in allowed[label], (sample, given)
    assert seen == rows.keys()
