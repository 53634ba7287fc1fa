"""The table of instruments and a live scrape say the same, both ways."""

import re

from support_service.api.routes import ROUTES
from support_service.attachments.component import AttachmentTimings
from support_service.attachments.maintenance.jobs import MaintenanceTimings
from support_service.telemetry.instruments import INSTRUMENTS
from tests.support.calls import PATIENCE, eventually
from tests.support.scrape import Scrape, parse
from tests.support.timings import patient_timings

ROWS = {row.prometheus: row for row in INSTRUMENTS}
HISTOGRAM = re.compile(r"_(bucket|count|sum)$")
OPEN = {
    "http_route": {route.path for route in ROUTES} | {"other"},
    "http_response_status_code": {str(status) for status in range(200, 600)},
    "version": None,
    "python": None,
}


def closed(row):
    """Each label of a row as a scrape has it, with its values; None where any is right."""
    return {
        label.replace(".", "_"): set(values) if values is not None else OPEN.get(label.replace(".", "_"))
        for label, values in row.labels.items()
    }


async def test_a_live_scrape_is_the_table(upstream_services, redis, make_client, work):
    """After work of every kind the families are those of the table, of its kinds, with its labels and their values."""
    at_once = MaintenanceTimings(first_reconcile_delay=(0.0, 0.0))
    timings = patient_timings(attachments=AttachmentTimings(maintenance=at_once))
    client = await make_client(SUPPORT_REDIS_URL=redis.url, timings=timings)
    await work(client)
    await eventually(lambda: Scrape(client.app).series("support_attachment_unrepaired"), 6 * PATIENCE)
    async with client.get("/metrics") as response:
        text = await response.text()
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    assert kinds.keys() == ROWS.keys()
    for name, row in ROWS.items():
        wanted = {"observed counter": "counter", "observed sum": "gauge"}.get(row.kind, row.kind)
        assert kinds[name] == wanted, name
    seen = set()
    for sample, given, _ in parse(text):
        name = sample if sample in ROWS else HISTOGRAM.sub("", sample)
        seen.add(name)
        allowed = closed(ROWS[name])
        labels = {label: value for label, value in given.items() if label != "le"}
        assert labels.keys() <= allowed.keys(), sample
        for label, value in labels.items():
            if label == "error_type" and name.startswith("http"):
                assert value == "client_left" or value == given["http_response_status_code"]
            elif allowed[label] is not None:
                assert value in allowed[label], (sample, given)
    assert seen == ROWS.keys()
