"""One check, step by step, as a client of the service. It deletes the case that it opened, even if a step fails."""

import asyncio
import hashlib
import json
import os
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import aiohttp

from support_service import __version__
from support_service.core.clock import utc_now
from support_service.http.client_errors import describe_client_error
from support_service.probe.report import CheckReport, Step
from support_service.telemetry.http import PROBE_USER_AGENT
from support_service.telemetry.instruments.probe import PROBE_STEPS

FILE_BYTES = 64 * 1024
TIMELINE_POLL_INTERVAL = 0.1  # seconds between reads of the timeline
STEP_TIMEOUT_MARGIN = 5.0  # seconds after a step's threshold until it is cancelled
UNREACHABLE = (aiohttp.ClientConnectionError, aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError, OSError, UnicodeError)
TIMEOUT_MESSAGES = {"timeline": "the event did not appear in the timeline within"}  # message for a cancelled step
ACCEPTED_SOURCE_STATUSES = ("fresh", "cached", "off", "none")  # acceptable statuses of a timeline source


class UnexpectedAnswer(Exception):
    """An answer to a step is not as expected; `code` is its problem code, if it has one."""

    def __init__(self, message: str, status: int | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class SyntheticCheck:
    """A check of one service. Thresholds are in seconds: for each step, and from an event to its timeline entry."""

    def __init__(
        self, base_url: str, headers: Mapping[str, str], threshold: float, event_threshold: float, channel: str
    ) -> None:
        """`channel` is one of the service's channels of synthetic cases."""
        self._base_url = base_url.rstrip("/")
        self._headers = {"User-Agent": f"{PROBE_USER_AGENT}{__version__}"} | dict(headers)
        self._channel = channel
        self._thresholds = {name: event_threshold if name == "timeline" else threshold for name in PROBE_STEPS}
        self._case = ""
        self._uri = ""
        self._file = b""
        self._sent = {"id": "", "order": "", "shipment": ""}

    async def run(self) -> CheckReport:
        """Run every step and return the report. Errors of the service are reported, never raised."""
        report = CheckReport(self._base_url, utc_now().isoformat(timespec="seconds"))
        self._case, self._uri, self._file = "", "", os.urandom(FILE_BYTES)
        name = uuid4().hex[:16]
        self._sent = {"id": f"probe-{name}", "order": f"probe-{name}", "shipment": f"probe-{name}-1"}
        steps = [Step(step, self._thresholds[step]) for step in PROBE_STEPS]
        async with aiohttp.ClientSession(headers=self._headers) as session:
            for step in steps[:-1]:
                await self._run_step(session, step)
                if step.verdict == "wrong":
                    break
                if step.step == "open" and not self._case:
                    report.reason = step.detail
                    return report
            report.steps = steps
            if self._case:
                await self._run_step(session, steps[-1])
        return report

    async def _run_step(self, session: aiohttp.ClientSession, step: Step) -> None:
        started = time.perf_counter()
        try:
            async with asyncio.timeout(step.threshold + STEP_TIMEOUT_MARGIN):
                await getattr(self, f"_{step.step}")(session)
            step.verdict = "good"
        except UnexpectedAnswer as wrong:
            step.verdict, step.detail, step.status, step.code = "wrong", str(wrong), wrong.status, wrong.code
        except TimeoutError:
            missing = TIMEOUT_MESSAGES.get(step.step, "no response within")
            step.verdict, step.detail = "wrong", f"{missing} {step.threshold + STEP_TIMEOUT_MARGIN:g} s"
        except Exception as failure:  # noqa: BLE001 - any error is a result, and the case must still be deleted
            unreachable = step.step == "open" and isinstance(failure, UNREACHABLE)
            step.verdict, step.detail = "skipped" if unreachable else "wrong", describe_client_error(failure)
        step.seconds = time.perf_counter() - started
        if step.verdict == "good" and step.seconds > step.threshold:
            step.verdict, step.detail = "slow", "slower than the threshold"

    async def _open(self, session: aiohttp.ClientSession) -> None:
        context = [
            {"type": "order", "orderId": self._sent["order"]},
            {"type": "shipment", "shipmentId": self._sent["shipment"]},
        ]
        case = {"subject": "Synthetic check", "channel": self._channel, "priority": "low", "context": context}
        async with self._request(session, "POST", "/support/cases", 201, json=case) as response:
            self._case = f"/support/cases/{(await response.json())['id']}"

    async def _message(self, session: aiohttp.ClientSession) -> None:
        message = {"authorType": "customer", "message": "Is anyone there?"}
        async with self._request(session, "POST", f"{self._case}/messages", 200, json=message) as response:
            if (await response.json())["message"] != message["message"]:
                raise UnexpectedAnswer("the response has a different message")

    async def _upload(self, session: aiohttp.ClientSession) -> None:
        form = aiohttp.FormData()
        form.add_field("file", self._file, filename="probe.bin", content_type="application/octet-stream")
        async with self._request(session, "POST", f"{self._case}/attachments", 201, data=form) as response:
            attachment = await response.json()
        self._uri = "/support/" + attachment["uri"].partition("/support/")[2]
        self._compare(attachment["sha256"], "the stored file")

    async def _download(self, session: aiohttp.ClientSession) -> None:
        async with self._request(session, "GET", self._uri, 200) as response:
            self._compare(hashlib.sha256(await response.read()).hexdigest(), "the downloaded file")

    async def _event(self, session: aiohttp.ClientSession) -> None:
        now = utc_now().isoformat()
        event = {
            "specversion": "1.0",
            "id": self._sent["id"],
            "source": "/support-service/probe",
            "time": now,
            "type": "fulfillment.shipment.updated.v1",
            "data": {
                "orderId": self._sent["order"],
                "shipmentId": self._sent["shipment"],
                "trackingNumber": self._sent["id"],
                "status": "in_transit",
                "carrier": "probe",
                "occurredAt": now,
            },
        }
        headers = {"Content-Type": "application/cloudevents+json"}
        body = json.dumps(event)
        async with self._request(session, "POST", "/support/events", 202, data=body, headers=headers):
            pass

    async def _timeline(self, session: aiohttp.ClientSession) -> None:
        while True:
            async with self._request(session, "GET", f"{self._case}?includeTimeline=true", 200) as response:
                case = await response.json()
            _expect_sources(case)
            if any((entry.get("metadata") or {}).get("eventId") == self._sent["id"] for entry in case["timeline"]):
                break
            await asyncio.sleep(TIMELINE_POLL_INTERVAL)
        kinds = {entry["type"] for entry in case["timeline"]}
        if not kinds >= {"conversation", "attachment"}:
            raise UnexpectedAnswer(f"the timeline lacks entries: it has only {', '.join(sorted(kinds))}")

    async def _refresh(self, session: aiohttp.ClientSession) -> None:
        async with self._request(session, "POST", f"{self._case}/timeline/refresh", 200) as response:
            _expect_sources(await response.json())

    async def _close(self, session: aiohttp.ClientSession) -> None:
        async with self._request(session, "POST", f"{self._case}/close", 200) as response:
            if (await response.json())["status"] != "closed":
                raise UnexpectedAnswer("the case is not closed")

    async def _delete(self, session: aiohttp.ClientSession) -> None:
        async with self._request(session, "DELETE", self._case, 204):
            pass
        async with self._request(session, "GET", self._case, 404):
            pass

    @asynccontextmanager
    async def _request(
        self, session: aiohttp.ClientSession, method: str, path: str, status: int, **body: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        async with session.request(method, self._base_url + path, **body) as response:
            if response.status != status:
                text = await response.text(errors="replace")
                shown = " ".join(text.split())[:200]
                message = f"{method} returned {response.status}, expected {status}: {shown}"
                raise UnexpectedAnswer(message, response.status, _problem_code(text))
            yield response

    def _compare(self, digest: str, what: str) -> None:
        if digest != hashlib.sha256(self._file).hexdigest():
            raise UnexpectedAnswer(f"{what} differs from the uploaded one")


def _problem_code(text: str) -> str | None:
    """Return the code of a problem; None for another answer, such as that of a proxy."""
    try:
        code = json.loads(text)["code"]
    except (ValueError, LookupError, TypeError):
        return None
    return code if isinstance(code, str) and re.fullmatch(r"[a-z_]{1,64}", code) else None


def _expect_sources(case: dict[str, Any]) -> None:
    """Raise UnexpectedAnswer if an upstream service of the timeline returned nothing or only stale data."""
    bad = {
        name: f"{source['status']} ({source['reason']})"
        for name, source in case["timelineSources"].items()
        if source["status"] not in ACCEPTED_SOURCE_STATUSES
    }
    if bad:
        raise UnexpectedAnswer("; ".join(f"the timeline source {name} is {status}" for name, status in bad.items()))
