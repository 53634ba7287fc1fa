"""The measured requests and the budgets of each."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.load_generator import Request

CASES = "/support/cases"
BOUNDARY = "d41f8b52c7a94e06"
BLOCK = os.urandom(256 * 1024)
FILE_BYTES = 64 * 1024
MESSAGE = json.dumps({"authorType": "agent", "message": "We are looking into it. " * 5}).encode()


def plain(method: str, path: str, body: bytes = b"", content_type: str = "application/json") -> Request:
    """Return a request with a small body."""
    return Request(_head(method, path, len(body), content_type) + body)


def create(number: int) -> Request:
    """Return a request that opens a case with an order, a payment, a shipment and a first message."""
    case = {
        "subject": f"Parcel has not arrived ({number})",
        "description": "The tracking page has not changed for three days. " * 4,
        "customerId": f"customer-{number % 1000}",
        "channel": "email",
        "priority": "high",
        "context": [
            {"type": "order", "orderId": 101},
            {"type": "payment", "paymentId": 501},
            {"type": "shipment", "shipmentId": 301},
        ],
        "initialMessage": {"authorType": "customer", "message": "Where is my parcel? " * 5},
    }
    return plain("POST", CASES, json.dumps(case).encode())


def timeline(case: str) -> Request:
    """Return a request for a case with its timeline."""
    return plain("GET", f"{CASES}/{case}?includeTimeline=true")


def upload(case: str, size: int = FILE_BYTES) -> Request:
    """Return a multipart request with one file. A large body is generated while it is sent."""
    before = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="photo.bin"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()
    after = f"\r\n--{BOUNDARY}--\r\n".encode()
    content_type = f"multipart/form-data; boundary={BOUNDARY}"
    head = _head("POST", f"{CASES}/{case}/attachments", len(before) + size + len(after), content_type) + before
    return Request(head + BLOCK[:size] + after) if size <= len(BLOCK) else Request(head, _blocks(size, after))


def _blocks(size: int, after: bytes) -> Iterator[bytes]:
    for start in range(0, size, len(BLOCK)):
        yield BLOCK[: size - start]
    yield after


def _head(method: str, path: str, length: int, content_type: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    if method == "POST":
        lines += [f"Content-Type: {content_type}", f"Content-Length: {length}"] if length else ["Content-Length: 0"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of request, repeated over many cases."""

    name: str
    budget: float | None  # CPU of a request as a multiple of the baseline's
    request: Callable[[str, int], Request]  # from a case id and a sequence number
    warm: Callable[[str], Iterable[Request]] = lambda _: ()
    limit: int | None = None  # requests per run, if each one fills the disk
    postgres_budget: float | None = None  # instead of `budget`
    ahead: Mapping[str, float] | None = None  # the peer's CPU as a multiple of the service's, by database
    budget_ms: float | None = None  # CPU of a request

    def budgets(self, database: str) -> dict[str, float]:
        """Return the budgets on a database: against `bare`, `floor` and `peer`, and in `ms`."""
        bare = self.postgres_budget if database == "postgresql" and self.postgres_budget else self.budget
        found = {
            "bare": bare,
            "floor": FLOOR_BUDGET if bare else None,
            "peer": self.ahead[database] if self.ahead else None,
            "ms": self.budget_ms,
        }
        return {name: budget for name, budget in found.items() if budget is not None}


FLOOR_BUDGET = 2.0  # CPU of a request as a multiple of the floor's
AHEAD = {"sqlite": 12.0, "postgresql": 4.0}
ALL = {
    scenario.name: scenario
    for scenario in (
        Scenario("get", 2.8, lambda case, _: plain("GET", f"{CASES}/{case}"), ahead=AHEAD),
        Scenario(
            "timeline_cached",
            5,
            lambda case, _: timeline(case),
            warm=lambda case: [timeline(case)],
            postgres_budget=7,
            ahead=AHEAD,
        ),
        Scenario("timeline_cold", 2.8, lambda case, _: plain("POST", f"{CASES}/{case}/timeline/refresh"), ahead=AHEAD),
        Scenario("message", 5, lambda case, _: plain("POST", f"{CASES}/{case}/messages", MESSAGE), ahead=AHEAD),
        Scenario("create", 5, lambda _, number: create(number), ahead=AHEAD),
        Scenario("upload", 4, lambda case, _: upload(case), limit=4000, ahead={"sqlite": 1.5, "postgresql": 1.5}),
        Scenario("metrics", None, lambda _, __: plain("GET", "/metrics"), budget_ms=1.5),
    )
}


def _case(answer: Any) -> Any:
    return (
        answer["subject"],
        answer["status"],
        len(answer["context"]),
        [each["authorType"] for each in answer["messages"]],
    )


def _timeline(answer: Any) -> Any:
    # The comparison service has no history of changes.
    return sorted(entry["type"] for entry in answer["timeline"] if entry["type"] != "case-event")


CHECKS: dict[str, Callable[[Any], Any]] = {  # what is compared of an answer, by the name of the scenario
    "get": _case,
    "timeline_cached": _timeline,
    "timeline_cold": _timeline,
    "message": lambda answer: (answer["authorType"], answer["message"]),
    "create": _case,
    "upload": lambda answer: (answer["sizeBytes"], answer["sha256"]),
}
_OPENED = ("Parcel has not arrived (0)", "open", 3, ["customer"])
_ENTRIES = ["conversation", *["order"] * 2, *["order-event"] * 3, *["payment"] * 2, *["shipment"] * 2]
EXPECTED: dict[str, Any] = {
    "get": _OPENED,
    "timeline_cached": _ENTRIES,
    "timeline_cold": _ENTRIES,
    "message": tuple(json.loads(MESSAGE).values()),
    "create": _OPENED,
    "upload": (FILE_BYTES, hashlib.sha256(BLOCK[:FILE_BYTES]).hexdigest()),
}
