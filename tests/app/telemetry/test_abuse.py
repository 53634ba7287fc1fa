"""Clients that try to make series, and scrapers that come all at once."""

import asyncio
import random
import re
import string
import threading

import pytest

from support_service.api.routes import ROUTES
from support_service.telemetry.component import METRICS
from tests.support.calls import PATIENCE, open_case
from tests.support.scrape import Scrape, parse

REQUESTS = 10_000
CONNECTIONS = 16
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE", "LOCK", "PROPFIND", "MKCOL", "REPORT")
PATHS = (*(re.sub(r"{\w+}", "{}", route.path) for route in ROUTES), "/{}/{}", "/metrics/{}", "//{}")


def series(scrape):
    """Every label set of every instrument; a histogram's buckets are one with it."""
    return {
        (
            name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum"),
            frozenset(given.items() - {("le", given.get("le"))}),
        )
        for name, given, _ in scrape.samples()
    }


@pytest.fixture
def chance():
    """The same chance in every run."""
    return random.Random(20_260_101)


def word(chance, letters=string.ascii_letters + string.digits):
    """Something made up."""
    return "".join(chance.choices(letters, k=chance.randint(1, 24)))


def request(chance, case):
    """The bytes of a request that nobody foresaw, or nearly somebody did."""
    method = chance.choice(METHODS)
    path = (
        chance.choice(PATHS)
        .replace("{}", chance.choice((case, word(chance), word(chance))), 1)
        .replace("{}", word(chance))
    )
    body = b""
    if method in ("POST", "PUT", "PATCH"):
        author, channel = word(chance), word(chance)
        text = f'{{"subject":"{author}","channel":"{channel}","authorType":"{author}","message":"x"}}'
        body = text.encode() if chance.random() < 0.8 else word(chance).encode()
    headers = {
        "Host": f"{word(chance)}.localhost",
        "User-Agent": word(chance),
        "Content-Type": chance.choice(("application/json", f"{word(chance)}/{word(chance)}")),
        "X-Request-Id": word(chance, string.ascii_letters + string.punctuation),
        "traceparent": chance.choice(
            (word(chance), f"00-{chance.getrandbits(128):032x}-{chance.getrandbits(64):016x}-01")
        ),
        "Content-Length": str(len(body)),
    }
    head = f"{method} {path}?q={word(chance)} HTTP/1.1\r\n" + "".join(
        f"{name}: {value}\r\n" for name, value in headers.items()
    )
    return method, f"{head}\r\n".encode() + body


async def answer(reader, method):
    """Read an answer to its end; gives its status."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        (line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), b"0"
    )
    if method != "HEAD":
        await reader.readexactly(int(length))
    return int(head.split()[1]), b"connection: close" in head.lower()


async def attack(client, chance, case, number):
    """Send requests one after another on a connection; gives the statuses."""
    statuses, writer = set(), None
    for _ in range(number):
        if writer is None:
            reader, writer = await asyncio.open_connection(client.host, client.port)
        method, raw = request(chance, case)
        writer.write(raw)
        status, closes = await answer(reader, method)
        statuses.add(status)
        if closes:
            writer.close()
            writer = None
    if writer is not None:
        writer.close()
    return statuses


async def test_no_client_makes_series(client, metrics, chance):
    """10,000 random requests add at most 20 label sets; a histogram's buckets, sum and count are one."""
    case = (await open_case(client))["id"]
    before = series(metrics)
    share = REQUESTS // CONNECTIONS
    answers = await asyncio.gather(*(attack(client, chance, case, share) for _ in range(CONNECTIONS)))
    assert {status for statuses in answers for status in statuses} >= {200, 201, 404, 405, 415, 422}
    assert metrics.total("http_server_request_duration_seconds_count") > REQUESTS * 0.9
    added = series(metrics) - before
    assert {name for name, _ in added} == {"http_server_request_duration_seconds"}
    made = [dict(given) for _, given in added]
    assert len(made) <= 20, sorted(map(str, made))
    assert {given["http_route"] for given in made} <= {route.path for route in ROUTES} | {"other"}


async def test_a_hundred_scrapes_at_once(client, metrics):
    """Each of 100 scrapes at once is complete and right, while cases are opened."""
    await asyncio.gather(*(open_case(client) for _ in range(10)))
    names = {(name, str(given)) for name, given, _ in metrics.samples()}

    async def scrape():
        async with client.get("/metrics") as response:
            assert response.status == 200
            return await response.text()

    *scrapes, _ = await asyncio.gather(*(scrape() for _ in range(100)), open_case(client, channel="chat"))
    assert len(scrapes) == 100
    for samples in map(parse, {*scrapes}):  # those that share a rendering have the same text
        assert {(name, str(given)) for name, given, _ in samples} == names
        values = {(name, str(given)): value for name, given, value in samples}
        assert values["support_ticket_created_total", "{'channel': 'email'}"] == 10
        assert values["support_ticket_created_total", "{'channel': 'chat'}"] in (0, 1)
        post = [
            given
            for name, given, value in samples
            if name.endswith("duration_seconds_bucket") and given["le"] == "+Inf"
        ]
        for given in post:
            family = (
                "http_server_request_duration_seconds"
                if "http_route" in given
                else "db_client_operation_duration_seconds"
            )
            rest = {name: value for name, value in given.items() if name != "le"}
            assert values[f"{family}_count", str(rest)] == values[f"{family}_bucket", str(given)]


async def test_scrapes_that_wait_share_a_turn(client):
    """However many scrapes come while one is rendered, or left meanwhile, the next waits for one more alone."""
    metrics = client.app[METRICS]
    began, release, rendered = threading.Event(), threading.Event(), []

    def observe(_options):
        rendered.append(1)
        began.set()
        release.wait(PATIENCE)
        return []

    metrics.meter.create_observable_gauge("held", [observe])  # which each rendering observes once
    first = asyncio.create_task(metrics.answer("", ""))
    await asyncio.to_thread(began.wait, PATIENCE)
    left, *others = [asyncio.create_task(metrics.answer("", "")) for _ in range(100)]
    packed = asyncio.create_task(metrics.answer("", "gzip"))
    await asyncio.sleep(0)  # each has asked
    left.cancel()
    await open_case(client)
    release.set()
    count = 'support_ticket_created_total{channel="email"} 1.0'
    assert {count in (await each).body.decode() for each in others} == {True}
    assert ((await first).content_encoding, (await packed).content_encoding) == (None, "gzip")
    assert len(rendered) == 3


async def test_two_apps_under_load_stay_apart(make_client):
    """Two apps in one process count their own requests, cases and refusals, whatever the other does."""
    one, two = await make_client(), await make_client()
    await asyncio.gather(*(open_case(one) for _ in range(20)), *(open_case(two, channel="chat") for _ in range(30)))
    await asyncio.gather(*(two.get("/nowhere") for _ in range(5)))
    first, second = Scrape(one.app), Scrape(two.app)
    assert first.moved("support_ticket_created_total") == {"email": 20}
    assert second.moved("support_ticket_created_total") == {"chat": 30}
    assert first.total("http_server_request_duration_seconds_count") == 20
    assert second.total("http_server_request_duration_seconds_count") == 35
