"""Every route, in one table: the app is made of it, and so is the OpenAPI document."""

from dataclasses import dataclass, field

from aiohttp.typedefs import Handler
from pydantic import BaseModel

from support_service.cases.model import (
    Attachment,
    Case,
    CaseChange,
    CasePage,
    CaseQuery,
    Closing,
    Message,
    NewCase,
    NewMessage,
    StatusChange,
    Ticket,
    Workload,
)
from support_service.web import agents, attachments, cases, events, health


@dataclass(frozen=True, slots=True)
class Route:
    """One call: what is sent, what is answered, and which refusals are possible. A binary answer has no model."""

    method: str
    path: str
    handler: Handler
    answer: type[BaseModel] | None = None
    many: bool = False  # the answer is a list of the model
    status: int = 200
    body: type[BaseModel] | None = None
    body_required: bool = True
    query: type[BaseModel] | None = None
    content_type: str = "application/json"
    refusals: tuple[int, ...] = field(default=())

    @property
    def name(self) -> str:
        """The operation's name."""
        return self.handler.__name__

    @property
    def summary(self) -> str:
        """The first line of the handler's docstring."""
        return (self.handler.__doc__ or "").strip().partition("\n")[0]


CASE = "/support/cases/{case_id}"
FILE = CASE + "/attachments/{attachment_id}"
BODY = (400, 408, 413, 415, 422)  # refusals of a JSON body

ROUTES = (
    Route("POST", "/support/cases", cases.open_case, Case, status=201, body=NewCase, refusals=BODY),
    Route("GET", "/support/cases", cases.list_cases, CasePage, query=CaseQuery, refusals=(422,)),
    Route("GET", CASE, cases.get_case, Case, query=cases.DetailQuery, refusals=(404, 422)),
    Route("PATCH", CASE, cases.change_case, Ticket, body=CaseChange, refusals=(404, *BODY)),
    Route("DELETE", CASE, cases.delete_case, status=204, refusals=(404, 409)),
    Route("POST", CASE + "/messages", cases.add_message, Message, body=NewMessage, refusals=(404, *BODY)),
    Route(
        "POST",
        CASE + "/status",
        cases.set_status,
        Ticket,
        body=StatusChange,
        body_required=False,
        query=StatusChange,
        refusals=(404, *BODY),
    ),
    Route("POST", CASE + "/close", cases.close_case, Case, body=Closing, body_required=False, refusals=(404, *BODY)),
    Route("POST", CASE + "/timeline/refresh", cases.refresh_timeline, Case, refusals=(404,)),
    Route(
        "POST",
        CASE + "/attachments",
        attachments.upload,
        Attachment,
        status=201,
        content_type="multipart/form-data",
        refusals=(400, 404, 408, 413, 415, 422, 503, 507),
    ),
    Route("GET", CASE + "/attachments", attachments.list_attachments, Attachment, many=True, refusals=(404,)),
    Route(
        "GET",
        FILE + "/{filename}",
        attachments.download,
        content_type="application/octet-stream",
        refusals=(404, 416, 503),
    ),
    Route("DELETE", FILE, attachments.remove, status=204, refusals=(404,)),
    Route("GET", "/support/agents/{agent_id}/workload", agents.workload, Workload),
    Route(
        "POST",
        "/support/events",
        events.receive_event,
        events.Accepted,
        status=202,
        body=events.SentEvent,
        refusals=BODY,
    ),
    Route("GET", "/metrics", health.metrics, content_type="text/plain"),
    Route("GET", "/health", health.health, health.Health),
    Route("GET", "/livez", health.livez, health.Health),
    Route("GET", "/readyz", health.readyz, health.Ready, refusals=(503,)),
)
