"""Label cardinality under random requests, and concurrent scrapes."""

import asyncio
import random
import re
import string
import threading

import pytest

from support_service.api.routes import ROUTES
from tests.support.calls import GENEROUS_TIMEOUT, open_case
from tests.support.scrape import Scrape, parse
from tests.support.service import service_of

REQUESTS = 1_000
CONNECTIONS = 16
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE", "LOCK", "PROPFIND", "MKCOL", "REPORT")
ENDLESS = "/support/stream"  # its answer does not end
PATHS = (
    *(re.sub(r"{\w+}", "{}", route.path) for route in ROUTES if route.path != ENDLESS),
    *("/{}/{}", "/metrics/{}", "//{}"),
)


def label_sets(scrape):
    """Return every label set of every instrument; the samples of a histogram count as one."""
    return {
        (
            name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum"),
            frozenset(given.items() - {("le", given.get("le"))}),
        )
        for name, given, _ in scrape.samples()
    }


@pytest.fixture
def rng():
    """A random generator with the same seed in every run."""
    return random.Random(20_260_101)


def random_word(rng, letters=string.ascii_letters + string.digits):
    return "".join(rng.choices(letters, k=rng.randint(1, 24)))


def random_request(rng, case):
    """Return the method and the bytes of a random request, which may be almost valid."""
    method = rng.choice(METHODS)
    path = (
        rng.choice(PATHS)
        .replace("{}", rng.choice((case, random_word(rng), random_word(rng))), 1)
        .replace("{}", random_word(rng))
    )
    body = b""
    if method in ("POST", "PUT", "PATCH"):
        author, channel = random_word(rng), random_word(rng)
        text = f'{{"subject":"{author}","channel":"{channel}","authorType":"{author}","message":"x"}}'
        body = text.encode() if rng.random() < 0.8 else random_word(rng).encode()
    headers = {
        "Host": f"{random_word(rng)}.localhost",
        "User-Agent": random_word(rng),
        "Content-Type": rng.choice(("application/json", f"{random_word(rng)}/{random_word(rng)}")),
        "X-Request-Id": random_word(rng, string.ascii_letters + string.punctuation),
        "traceparent": rng.choice((random_word(rng), f"00-{rng.getrandbits(128):032x}-{rng.getrandbits(64):016x}-01")),
        "Content-Length": str(len(body)),
    }
    head = f"{method} {path}?q={random_word(rng)} HTTP/1.1\r\n" + "".join(
        f"{name}: {value}\r\n" for name, value in headers.items()
    )
    return method, f"{head}\r\n".encode() + body


async def read_response(reader, method):
    """Read a whole response; return its status, and whether the server closes the connection."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        (line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), b"0"
    )
    if method != "HEAD":
        await reader.readexactly(int(length))
        while b"transfer-encoding: chunked" in head.lower():
            size = int(await reader.readuntil(b"\r\n"), 16)
            await reader.readexactly(size + len(b"\r\n"))
            if size == 0:
                break
    return int(head.split()[1]), b"connection: close" in head.lower()


async def send_random_requests(client, rng, case, number):
    """Send random requests one after another on a connection; return the statuses."""
    statuses, writer = set(), None
    for _ in range(number):
        if writer is None:
            reader, writer = await asyncio.open_connection(client.host, client.port)
        method, raw = random_request(rng, case)
        writer.write(raw)
        status, closes = await read_response(reader, method)
        statuses.add(status)
        if closes:
            writer.close()
            writer = None
    if writer is not None:
        writer.close()
    return statuses


async def test_random_requests_do_not_create_label_sets(client, metrics, rng):
    """1,000 random requests add at most 40 label sets, all of the request histogram."""
    case = (await open_case(client))["id"]
    async with client.get("/readyz"):  # the gauges of readiness have values from the first check on
        pass
    before = label_sets(metrics)
    requests_each = REQUESTS // CONNECTIONS
    results = await asyncio.gather(
        *(send_random_requests(client, rng, case, requests_each) for _ in range(CONNECTIONS))
    )
    assert {status for statuses in results for status in statuses} >= {200, 201, 404, 405, 415, 422}
    assert metrics.total("http_server_request_duration_seconds_count") > REQUESTS * 0.9
    added = label_sets(metrics) - before
    assert {name for name, _ in added} == {"http_server_request_duration_seconds"}
    new_labels = [dict(given) for _, given in added]
    assert len(new_labels) <= 40, sorted(map(str, new_labels))
    assert {given["http_route"] for given in new_labels} <= {route.path for route in ROUTES} | {"other"}


async def test_concurrent_scrapes_are_complete_and_consistent(client, metrics):
    """Each of 40 concurrent scrapes is complete and consistent while cases are opened."""
    await asyncio.gather(*(open_case(client) for _ in range(10)))
    names = {(name, str(given)) for name, given, _ in metrics.samples()}

    async def scrape():
        async with client.get("/metrics") as response:
            assert response.status == 200
            return await response.text()

    *scrapes, _ = await asyncio.gather(*(scrape() for _ in range(40)), open_case(client, channel="chat"))
    assert len(scrapes) == 40
    for samples in map(parse, {*scrapes}):  # scrapes that share a rendering have the same text
        assert {(name, str(given)) for name, given, _ in samples} == names
        values = {(name, str(given)): value for name, given, value in samples}
        assert values["support_ticket_created_total", "{'channel': 'email'}"] == 10
        assert values["support_ticket_created_total", "{'channel': 'chat'}"] in (0, 1)
        counts = [
            given
            for name, given, value in samples
            if name.endswith("duration_seconds_bucket") and given["le"] == "+Inf"
        ]
        for given in counts:
            family = (
                "http_server_request_duration_seconds"
                if "http_route" in given
                else "db_client_operation_duration_seconds"
            )
            rest = {name: value for name, value in given.items() if name != "le"}
            assert values[f"{family}_count", str(rest)] == values[f"{family}_bucket", str(given)]


async def test_waiting_scrapes_share_one_rendering(client):
    """Scrapes that arrive during a rendering share the next one, even if one of them is cancelled."""
    metrics = service_of(client).metrics
    started, release, renderings = threading.Event(), threading.Event(), []

    def observe(_options):
        renderings.append(1)
        started.set()
        release.wait(GENEROUS_TIMEOUT)
        return []

    metrics.meter.create_observable_gauge("held", [observe])  # each rendering observes it once
    first = asyncio.create_task(metrics.render_async("", ""))
    await asyncio.to_thread(started.wait, GENEROUS_TIMEOUT)
    cancelled, *others = [asyncio.create_task(metrics.render_async("", "")) for _ in range(100)]
    compressed = asyncio.create_task(metrics.render_async("", "gzip"))
    await asyncio.sleep(0)  # lets each scrape start
    cancelled.cancel()
    await open_case(client)
    release.set()
    count = 'support_ticket_created_total{channel="email"} 1.0'
    assert {count in (await each).body.decode() for each in others} == {True}
    assert ((await first).content_encoding, (await compressed).content_encoding) == (None, "gzip")
    assert len(renderings) == 3


async def test_two_apps_in_one_process_count_separately_under_load(make_client):
    """Two apps in one process count only their own requests and cases."""
    one, two = await make_client(), await make_client()
    await asyncio.gather(*(open_case(one) for _ in range(20)), *(open_case(two, channel="chat") for _ in range(30)))
    await asyncio.gather(*(two.get("/nowhere") for _ in range(5)))
    first, second = Scrape(service_of(one).metrics), Scrape(service_of(two).metrics)
    assert first.nonzero("support_ticket_created_total") == {"email": 20}
    assert second.nonzero("support_ticket_created_total") == {"chat": 30}
    assert first.total("http_server_request_duration_seconds_count") == 20
    assert second.total("http_server_request_duration_seconds_count") == 35
