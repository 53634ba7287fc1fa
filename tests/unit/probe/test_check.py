"""One check against a service that answers wrongly in one place: no process and no Redis."""

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from support_service.probe.check import SyntheticCheck
from support_service.probe.report import Step


@pytest.fixture
async def answers():
    """Serve one JSON answer with one status to everything; a test changes both."""
    told = {"status": 200, "json": {}}

    async def answer(_):
        return web.json_response(told["json"], status=told["status"])

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    async with TestServer(app) as server:
        told["url"] = str(server.make_url("")).rstrip("/")
        yield told


@pytest.mark.parametrize(
    ("step", "answer", "detail"),
    [
        ("message", {"message": "another"}, "the response has a different message"),
        ("close", {"status": "open"}, "the case is not closed"),
        (
            "timeline",
            {"timelineSources": {}, "timeline": [{"type": "conversation", "metadata": {"eventId": "e"}}]},
            "the timeline lacks entries: it has only conversation",
        ),
    ],
)
async def test_an_answer_that_is_not_what_was_asked_for_is_wrong(answers, step, answer, detail):
    """A step whose answer has the right status and the wrong content is wrong, and says why."""
    answers["json"] = answer
    check, done = SyntheticCheck(answers["url"], {}, 60, 60), Step(step, 60)
    check._case, check._sent["id"] = "/support/cases/c-1", "e"
    async with ClientSession() as session:
        await check._run_step(session, done)
    assert (done.verdict, done.detail) == ("wrong", detail)


async def test_where_no_case_was_opened_none_is_deleted(answers):
    """A service that refuses to open a case is wrong, and every other step is skipped."""
    answers["status"] = 500
    report = await SyntheticCheck(answers["url"], {}, 60, 60).run()
    assert (report.verdict, report.reason) == ("wrong", None)
    assert [step.verdict for step in report.steps] == ["wrong"] + ["skipped"] * (len(report.steps) - 1)
    assert report.steps[0].detail.startswith("POST returned 500, expected 201")
