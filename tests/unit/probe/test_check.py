"""The synthetic check against a stub that answers each request alike, without a process and without Redis."""

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from support_service.cases.model.examples import CASE, MESSAGE
from support_service.probe.check import Step, SyntheticCheck
from tests.support.each import each_row


@pytest.fixture
async def stub_response():
    response = {"status": 200, "json": {}}

    async def answer(_):
        return web.json_response(response["json"], status=response["status"])

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    async with TestServer(app) as server:
        response["url"] = str(server.make_url("")).rstrip("/")
        yield response


ANOTHER_FORM = "the answer has another form than expected"
OTHER_TIMELINE = {"timelineSources": {}, "timeline": [{"type": "conversation", "metadata": {"eventId": ""}}]}


@each_row(
    ("step", "answer", "detail"),
    [
        ("message", {"json": MESSAGE}, "the response has a different message"),
        ("close", {"json": CASE}, "the case is not closed"),
        ("close", {"json": {"status": "closed"}}, f"200 unexpected_answer: {ANOTHER_FORM}: id: Field required"),
        ("delete", {"json": CASE}, "the deleted case can still be read"),
        ("timeline", {"json": CASE | OTHER_TIMELINE}, "the timeline lacks entries: it has only conversation"),
        ("upload", {"status": 413}, "a file of 4.0 MB: 413 "),  # an ingress may refuse large files alone
    ],
)
async def test_step_with_wrong_content_is_wrong(stub_response, step, answer, detail):
    """A response with the right status and the wrong content makes its step wrong, with a reason."""
    check = SyntheticCheck(stub_response["url"], {}, 60, 60, "synthetic", upload_bytes=4_000_000)
    done = Step(step, 60)
    async with check.client() as client:
        stub_response |= {"status": 200, "json": CASE}
        await check.run_step(client, Step("open", 60))
        stub_response |= answer
        await check.run_step(client, done)
    assert done.verdict == "wrong"
    assert done.detail == detail or (done.status, done.detail.startswith(detail)) == (413, True)


async def test_other_steps_are_skipped_if_no_case_can_be_opened(stub_response):
    """If opening the case fails, the check is wrong, and every other step is skipped."""
    stub_response["status"] = 500
    report = await SyntheticCheck(stub_response["url"], {}, 60, 60, "synthetic", upload_bytes=1000).run()
    assert (report.verdict, report.reason) == ("wrong", None)
    assert [step.verdict for step in report.steps] == ["wrong"] + ["skipped"] * (len(report.steps) - 1)
    assert report.steps[0].detail == "500 http_error: the service answered 500"
