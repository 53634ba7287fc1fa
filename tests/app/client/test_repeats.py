"""Calls that fail on the way: what is repeated, with which key, and for how long."""

import asyncio
import dataclasses

import pytest
from aiohttp import web
from opentelemetry import context, propagate, trace

from support_service.client import NoAnswer, ServiceFailed, SupportClient, SupportError, Unavailable, VersionConflict
from support_service.core.clock import Backoff
from tests.support.calls import GENEROUS_TIMEOUT
from tests.support.client.fixtures import QUICK
from tests.support.client.random_faults import FAULTS, RandomFaults

ONCE = dataclasses.replace(QUICK, attempts=1)
ME = {"name": "lan", "role": "agent", "subject": "agent-1", "teams": [], "permissions": {}}
MACRO = {"name": "late", "text": "Hi", "status": None, "tags": [], "createdAt": "2026-05-12T08:30:00Z"}
MACRO |= {"updatedAt": MACRO["createdAt"]}


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_write_is_repeated_with_its_key(answering, status):
    keys = []

    async def answer(request):
        keys.append((request.headers["Idempotency-Key"], await request.read()))
        return web.json_response(MACRO) if len(keys) > 2 else web.Response(status=status, headers={"Retry-After": "0"})

    api = await answering(answer)
    await api.create_macro("late", text="Hi")
    assert (len(keys), len(set(keys))) == (3, 1)
    await api.create_macro("late", text="Hi")
    assert len(set(keys)) == 2  # another call has another key
    await api.create_macro("late", text="Hi", idempotency_key="a-key")
    assert keys[-1][0] == "a-key"


async def test_read_is_repeated_after_a_broken_connection(answering):
    requests = []

    async def answer(request):
        requests.append(request)
        if len(requests) < 3:
            request.transport.abort()
        return web.json_response(ME)

    assert (await (await answering(answer)).get_me()).name == "lan"


async def test_write_whose_first_attempt_still_runs_waits_for_its_answer(answering):
    answers = [409, 409, 200]

    async def answer(_request):
        status = answers.pop(0)
        return web.json_response(MACRO if status == 200 else {"code": "idempotency_key_in_use"}, status=status)

    assert (await (await answering(answer)).create_macro("late", text="Hi")).name == "late"


async def test_last_failure_is_raised(answering):
    async def answer(request):
        if request.path == "/readyz":
            request.transport.abort()
        return web.Response(status=502)

    api = await answering(answer, timings=dataclasses.replace(QUICK, attempts=3))
    with pytest.raises(ServiceFailed) as failed:
        await api.get_me()
    assert (failed.value.status, failed.value.code) == (502, "http_error")
    with pytest.raises(NoAnswer) as broken:
        await api.readyz()
    assert (broken.value.code, broken.value.status) == ("no_answer", None)


async def test_attempt_without_an_answer_ends(answering):
    answered = asyncio.Event()

    async def answer(_request):
        await answered.wait()
        return web.json_response(ME)

    api = await answering(answer, timings=dataclasses.replace(ONCE, attempt=0.01))
    with pytest.raises(NoAnswer, match="no answer in time"):
        await api.get_me()
    answered.set()


async def test_redirects_are_not_followed(answering):
    """A redirect would turn a write into a read, or hand it to another server."""

    async def answer(_request):
        return web.Response(status=307, headers={"Location": "/elsewhere"})

    with pytest.raises(SupportError, match="the service answered 307"):
        await (await answering(answer)).create_macro("late", text="Hi")


async def test_trace_context_of_the_caller_is_passed_on(answering):
    seen = []

    async def answer(request):
        seen.append(request.headers.get("traceparent"))
        return web.json_response(ME)

    api = await answering(answer)
    await api.get_me()
    sent = f"00-{'0af7651916cd43dd8448eb211c80319c'}-b7ad6b7169203331-01"
    token = context.attach(propagate.extract({"traceparent": sent}))
    try:
        assert trace.get_current_span().get_span_context().is_valid
        await api.get_me()
    finally:
        context.detach(token)
    assert seen == [None, sent]


async def test_update_gives_up_at_the_last_attempt(answering):
    async def answer(request):
        if request.method == "GET":
            fields = {"id": "c", "subject": "s", "description": None, "customerId": None, "status": "open"}
            fields |= {"priority": "low", "channel": "email", "assignedAgentId": None, "team": None, "context": []}
            fields |= {"tags": [], "createdAt": MACRO["createdAt"], "updatedAt": MACRO["createdAt"]}
            fields |= {"messages": [], "attachments": []}
            return web.json_response(fields, headers={"ETag": '"3+customer"'})
        assert request.headers["If-Match"] == '"3"'
        return web.json_response({"code": "case_changed", "currentVersion": 9}, status=412)

    api = await answering(answer, timings=dataclasses.replace(QUICK, attempts=3))
    with pytest.raises(VersionConflict) as conflict:
        await api.update_case("c", lambda _: {"priority": "high"})
    assert conflict.value.current_version == 9


async def test_session_of_the_caller_stays_open(client):
    url = str(client.make_url("/"))
    async with SupportClient(url, session=client.session) as api:
        assert (await api.livez()).status == "ok"
    assert not client.session.closed


async def test_each_fault_of_the_proxy_happens_and_passes(client):
    """Every write takes effect once, though half of the requests fail."""
    timings = dataclasses.replace(QUICK, attempt=1.0, deadline=10 * GENEROUS_TIMEOUT, attempts=1000)
    async with (
        RandomFaults(str(client.make_url("/")).rstrip("/"), share=0.5, delay=1.1, seed=39) as proxy,
        SupportClient(proxy.url, timings=timings) as api,
    ):
        case = await api.open_case(subject="Parcel late", channel="email")
        sent = [f"message {number}" for number in range(30)]

        async def send(texts):
            for text in texts:
                await api.add_message(case.id, author_type="agent", message=text)

        await asyncio.gather(*(send(sent[start::6]) for start in range(6)))
        file = await api.upload(case.id, b"x" * 5000)
        read = await api.get_case(case.id)
        assert b"".join([block async for block in api.download(file)]) == b"x" * 5000
    assert sorted(message.message for message in read.messages) == sorted(sent)
    assert [each.id for each in read.attachments] == [file.id]
    assert proxy.counts.keys() >= set(FAULTS)


async def test_service_that_stays_away_is_unavailable_at_the_deadline(answering):
    async def answer(_request):
        return web.Response(status=503)

    timings = dataclasses.replace(QUICK, deadline=0.05, backoff=Backoff(0.02, 0.02), attempts=1000)
    with pytest.raises(Unavailable):
        await (await answering(answer, timings=timings)).get_me()
