"""One check, step by step, as a client of the service, and its report.

The check deletes the case that it opened, even if a step fails.
"""

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal
from uuid import uuid4

from support_service import __version__
from support_service.client import Attachment, Case, ClientTimings, NoAnswer, NotFound, SupportClient, SupportError
from support_service.core.clock import utc_now
from support_service.core.problem_codes import PROBLEM_CODES_BY_NAME
from support_service.core.units import format_bytes
from support_service.platform.http_client import describe_client_error
from support_service.platform.telemetry.http import PROBE_USER_AGENT

PROBE_FILE_NAME = "probe.bin"
TIMELINE_POLL_INTERVAL = 0.1  # seconds between reads of the timeline
STEP_TIMEOUT_MARGIN = 5.0  # seconds after a step's threshold until it is cancelled
EVENT_MISSING = "event_missing"  # code of the step `timeline` if timelines are read, and none has the event
TIMEOUT_MESSAGES = {"timeline": "the event did not appear in the timeline within"}  # message for a cancelled step
ACCEPTED_SOURCE_STATUSES = ("fresh", "cached", "off", "none")  # acceptable statuses of a timeline source

PROBE_STEPS = ("open", "message", "upload", "download", "event", "timeline", "refresh", "close", "delete")

StepVerdict = Literal["good", "slow", "wrong", "skipped"]


@dataclass(slots=True)
class Step:
    """One step. Times are in seconds; `detail` says what is wrong.

    `status` and `code` are the HTTP status and the problem code of an answer that was not expected. The code is
    EVENT_MISSING if the answers were as expected, and none had the event.
    """

    step: str
    threshold: float
    seconds: float = 0.0
    verdict: StepVerdict = "skipped"
    detail: str | None = None
    status: int | None = None
    code: str | None = None


@dataclass(slots=True)
class CheckReport:
    """A whole check. `via` is one of PROBE_PATHS; `reason` says why it could not run, and is None if it ran."""

    base_url: str
    started_at: str
    upload_bytes: int
    via: str = "service"
    steps: list[Step] = field(default_factory=list)
    reason: str | None = None

    @property
    def verdict(self) -> Literal["good", "slow", "wrong", "not run"]:
        """Return the overall verdict: wrong before slow before good. A skipped step counts as wrong."""
        found = {step.verdict for step in self.steps}
        if self.reason is not None:
            return "not run"
        return "wrong" if found & {"wrong", "skipped"} else "slow" if "slow" in found else "good"

    @property
    def status(self) -> int:
        """Return the exit status: 0 good, 2 slow or wrong, 3 not run."""
        return {"good": 0, "slow": 2, "wrong": 2, "not run": 3}[self.verdict]

    def document(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict,
            "reason": self.reason,
            "via": self.via,
            "baseUrl": self.base_url,
            "startedAt": self.started_at,
            "uploadBytes": self.upload_bytes,
            "seconds": round(sum(step.seconds for step in self.steps), 3),
            "steps": [asdict(step) | {"seconds": round(step.seconds, 3)} for step in self.steps],
        }


class SyntheticCheck:
    """A check of one service. Thresholds are in seconds: for each step, and from an event to its timeline entry."""

    def __init__(
        self,
        base_url: str,
        headers: Mapping[str, str],
        threshold: float,
        event_threshold: float,
        channel: str,
        *,
        upload_bytes: int,
        via: str = "service",
    ) -> None:
        """`channel` is one of the service's channels of synthetic cases, `via` one of PROBE_PATHS."""
        self._base_url = base_url.rstrip("/")
        self._headers = {"User-Agent": f"{PROBE_USER_AGENT}{__version__}"} | dict(headers)
        self._channel = channel
        self._upload_bytes = upload_bytes
        self._via = via
        self._thresholds = {name: event_threshold if name == "timeline" else threshold for name in PROBE_STEPS}
        self._case_id = ""
        self._files: list[Attachment] = []
        self._has_read_timeline = False
        self._sent = {"id": "", "order": "", "shipment": ""}

    async def run(self) -> CheckReport:
        """Run every step and return the report. Errors of the service are reported, never raised."""
        report = CheckReport(self._base_url, utc_now().isoformat(timespec="seconds"), self._upload_bytes, self._via)
        self._case_id, self._files, self._has_read_timeline = "", [], False
        name = uuid4().hex[:16]
        self._sent = {"id": f"probe-{name}", "order": f"probe-{name}", "shipment": f"probe-{name}-1"}
        steps = [Step(step, self._thresholds[step]) for step in PROBE_STEPS]
        async with self.client() as client:
            for step in steps[:-1]:
                await self.run_step(client, step)
                if step.verdict == "wrong":
                    break
                if step.step == "open" and not self._case_id:
                    report.reason = step.detail
                    return report
            report.steps = steps
            if self._case_id:
                await self.run_step(client, steps[-1])
        return report

    def client(self) -> SupportClient:
        """Return a client of the service that repeats nothing, because a repeat would hide what a check must show."""
        longest = max(self._thresholds.values()) + STEP_TIMEOUT_MARGIN
        timings = ClientTimings(attempts=1, attempt=longest, connect=longest, deadline=longest)
        return SupportClient(self._base_url, headers=self._headers, timings=timings)

    async def run_step(self, client: SupportClient, step: Step) -> None:
        """Run one step, and note its verdict. Steps after `open` need its case."""
        started = time.perf_counter()
        try:
            async with asyncio.timeout(step.threshold + STEP_TIMEOUT_MARGIN):
                await getattr(self, f"_{step.step}")(client)
            step.verdict = "good"
        except TimeoutError:
            missing = TIMEOUT_MESSAGES.get(step.step, "no response within")
            step.verdict, step.detail = "wrong", f"{missing} {step.threshold + STEP_TIMEOUT_MARGIN:g} s"
            if step.step == "timeline" and self._has_read_timeline:
                step.code = EVENT_MISSING
        except Exception as failure:  # noqa: BLE001 - any error is a result, and the case must still be deleted
            unreachable = step.step == "open" and isinstance(failure, NoAnswer)
            step.verdict, step.detail = "skipped" if unreachable else "wrong", _describe_failure(failure)
            if isinstance(failure, SupportError) and failure.status:
                code = failure.problem.get("code")
                step.status, step.code = failure.status, code if code in PROBLEM_CODES_BY_NAME else None
        if step.detail and step.step == "upload":
            step.detail = f"a file of {format_bytes(self._upload_bytes)}: {step.detail}"
        step.seconds = time.perf_counter() - started
        if step.verdict == "good" and step.seconds > step.threshold:
            step.verdict, step.detail = "slow", "slower than the threshold"

    async def _open(self, client: SupportClient) -> None:
        context = [
            {"type": "order", "orderId": self._sent["order"]},
            {"type": "shipment", "shipmentId": self._sent["shipment"]},
        ]
        case = await client.open_case(subject="Synthetic check", channel=self._channel, priority="low", context=context)
        self._case_id = case.id

    async def _message(self, client: SupportClient) -> None:
        text = "Is anyone there?"
        message = await client.add_message(self._case_id, author_type="customer", message=text)
        if message.message != text:
            raise ValueError("the response has a different message")

    async def _upload(self, client: SupportClient) -> None:
        self._files = [await client.upload(self._case_id, os.urandom(self._upload_bytes), filename=PROBE_FILE_NAME)]

    async def _download(self, client: SupportClient) -> None:
        """Read the file again; the client compares its SHA-256."""
        for file in self._files:
            async for _ in client.download(file):
                pass

    async def _event(self, client: SupportClient) -> None:
        now = utc_now().isoformat()
        await client.send_event(
            {
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
        )

    async def _timeline(self, client: SupportClient) -> None:
        while True:
            case = await client.get_case(self._case_id, include_timeline=True)
            _check_sources(case)
            if any((entry.get("metadata") or {}).get("eventId") == self._sent["id"] for entry in case.timeline):
                break
            self._has_read_timeline = True
            await asyncio.sleep(TIMELINE_POLL_INTERVAL)
        kinds = {entry["type"] for entry in case.timeline}
        if not kinds >= {"conversation", "attachment"}:
            raise ValueError(f"the timeline lacks entries: it has only {', '.join(sorted(kinds))}")

    async def _refresh(self, client: SupportClient) -> None:
        _check_sources(await client.refresh_timeline(self._case_id))

    async def _close(self, client: SupportClient) -> None:
        if (await client.close_case(self._case_id)).status != "closed":
            raise ValueError("the case is not closed")

    async def _delete(self, client: SupportClient) -> None:
        await client.delete_case(self._case_id)
        try:
            await client.get_case(self._case_id)
        except NotFound:
            return
        raise ValueError("the deleted case can still be read")


def _check_sources(case: Case) -> None:
    """Raise ValueError if an upstream service of the timeline returned nothing or only stale data."""
    bad = {
        name: f"{source['status']} ({source['reason']})"
        for name, source in case.timeline_sources.items()
        if source["status"] not in ACCEPTED_SOURCE_STATUSES
    }
    if bad:
        raise ValueError("; ".join(f"the timeline source {name} is {status}" for name, status in bad.items()))


def _describe_failure(failure: Exception) -> str:
    if isinstance(failure, SupportError):
        return f"{failure.status} {failure.code}: {failure}" if failure.status else str(failure)
    return str(failure) if isinstance(failure, ValueError) else describe_client_error(failure)
