"""A change of a case as it was published, and what each view shows of it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pydantic_core

from support_service.cases.listing.snippets import one_line_excerpt
from support_service.cases.masking import Masker
from support_service.cases.model.published import DATABASE_RESTORED
from support_service.core.domain.case_vocabulary import STAFF_AUTHOR_TYPES, NotificationKind
from support_service.core.domain.principals import CaseOwnership, CaseView, Principal
from support_service.events.broker.log import Position
from support_service.stream.frames import event_frame

Json = dict[str, Any]

OPENED_CHANGE_TYPE, CLOSED_CHANGE_TYPE = "case.opened", "case.closed"
LEFT_CHANGE_TYPE = "case.left"  # change type of a case that the caller may no longer see
# Change types of events that name none.
IMPLIED_CHANGE_TYPES = {
    "support.case.opened.v1": OPENED_CHANGE_TYPE,
    "support.case.closed.v1": CLOSED_CHANGE_TYPE,
    "support.case.sla-breached.v1": "sla.breached",
}
MEMBERS_BESIDE_CASE = frozenset({"version", "publicVersion"})  # members of a published case that stand beside the case
NOTIFICATION_EVENT = "notification"
KINDS_OF_MESSAGES: tuple[NotificationKind, ...] = ("mention", "note", "message")  # notifications that name a message
UNKNOWN_VERSION = 0  # of a change that an older release has published
# Change types that customers learn of, unless the part that the event carries is internal. Any other change has a
# visibility of its own.
CHANGE_TYPES_FOR_CUSTOMERS = frozenset(
    {"conversation.added", "status.changed", "attachment.added", "attachment.removed", "case.changed"}
)
PARTS_WITH_VISIBILITY = ("conversation", "attachment")


@dataclass(slots=True)
class Change:
    """A change of a case, its place in the stream, and who may see it.

    `published` is the time of the change in seconds since the Unix epoch.
    """

    position: Position
    event_id: str
    type: str
    at: str
    published: float
    data: Json
    owner: CaseOwnership
    previous_owner: CaseOwnership
    is_internal: bool
    _frames: dict[str, bytes] = field(default_factory=dict)

    @property
    def notified(self) -> Sequence[Mapping[str, str]]:
        return self.data.get("notified") or ()

    @property
    def case_id(self) -> str:
        return str(self.data["ticket"]["id"])

    @property
    def message(self) -> Json | None:
        added: Json | None = self.data.get("conversation") or self.data.get("initialMessage")
        return added

    def frame_for(
        self, principal: Principal, view: CaseView, masker: Masker, owner: CaseOwnership, *, with_message: bool = True
    ) -> bytes | None:
        """Return what the stream of a principal gets, or None. It is encoded once for all principals with a view.

        A principal who may no longer see the case learns only that. `owner` decides who may: that after the change, or
        that of now.
        """
        if self.is_internal and view == "public":
            return None
        kind: str = view if with_message else f"{view} without its message"
        if not principal.may_see(owner):
            if not (principal.may_see(self.owner) or principal.may_see(self.previous_owner)):
                return None
            kind = LEFT_CHANGE_TYPE
        frame = self._frames.get(kind)
        if frame is None:
            document = (
                self._common_members(LEFT_CHANGE_TYPE, public=view == "public")
                if kind == LEFT_CHANGE_TYPE
                else self._document(view, masker, self.message if with_message else None)
            )
            frame = self._frames[kind] = event_frame(self.type, document, str(self.position))
        return frame

    def notification_frame_for(self, principal: Principal, view: CaseView, owner: CaseOwnership) -> bytes | None:
        """Return what tells a principal of a notification of its own, or None. It has no position of its own."""
        if view != "full" or not self.notified or not principal.may_see(owner):
            return None
        entry = next((each for each in self.notified if each["agentId"] == principal.id), None)
        if entry is None:
            return None
        message = self.message or {}
        document = {
            "id": entry["id"],
            "kind": entry["kind"],
            "caseId": self.case_id,
            "subject": self.data["ticket"]["subject"],
            "messageId": message.get("id") if entry["kind"] in KINDS_OF_MESSAGES else None,
            "actorId": entry["actorId"],
            "at": self.at,
            "read": False,
        }
        return event_frame(NOTIFICATION_EVENT, document)

    def is_erased(self, owner: CaseOwnership) -> bool:
        """Return whether the customer was erased since. Nothing else changes the customer of a case."""
        return self.owner.customer_id not in (None, owner.customer_id)

    def _common_members(self, change_type: str, *, public: bool) -> Json:
        version = self.data["ticket"].get("publicVersion" if public else "version")
        return {
            "caseId": self.case_id,
            "version": UNKNOWN_VERSION if version is None else version,
            "changeType": change_type,
            "at": self.at,
            "eventId": self.event_id,
        }

    def _document(self, view: CaseView, masker: Masker, message: Json | None) -> Json:
        ticket: Json = self.data["ticket"]
        is_public = view == "public"
        change_type = _change_type(self.type, self.data)
        document = self._common_members(change_type, public=is_public)
        if view == "full" and self.data.get("actor") is not None:
            document["actor"] = self.data["actor"]
        shown = masker.mask_published_case(ticket) if view == "masked" else ticket
        row = {name: value for name, value in shown.items() if name not in MEMBERS_BESIDE_CASE}
        row["waitingSince"] = ticket.get("waitingSince")
        if is_public:  # `updatedAt` counts internal notes, but this change is one that customers see
            row["updatedAt"] = self.at
        message_is_public = message is not None and message.get("visibility") == "public"
        if message is not None and message_is_public:
            row["lastMessageAt"] = message["createdAt"]
            if message["authorType"] == "customer" and view != "masked":
                row["lastCustomerMessage"] = {"text": one_line_excerpt(message["message"]), "at": message["createdAt"]}
        document["case"] = row
        if message and view != "masked" and (message_is_public or not is_public):
            is_of_staff = is_public and message.get("authorType") in STAFF_AUTHOR_TYPES
            document["message"] = message | {"authorId": None} if is_of_staff else message
        return document


class Replay:
    """The replay of earlier changes to a principal. It shows what the principal may read of their cases now."""

    def __init__(self, principal: Principal, view: CaseView, masker: Masker) -> None:
        self._principal = principal
        self._view = view
        self._masker = masker
        self._left: set[str] = set()  # cases that the principal was told to have left its view

    def messages_that_may_have_moved(self, changes: Sequence[Change]) -> list[str]:
        """Return the ids of messages that the principal may not read any more if a split has moved them.

        Both cases of a split have one customer, and other staff see all cases.
        """
        if self._principal.role != "agent":
            return []
        return [str(change.message["id"]) for change in changes if change.message]

    def frames_of_changes(
        self, changes: Sequence[Change], owners: Mapping[str, CaseOwnership], case_of_message: Mapping[str, str]
    ) -> list[bytes]:
        """Return the frames of the next changes. `owners` are the current owners of their cases.

        `case_of_message` names the current case of `messages_that_may_have_moved`. A moved one is left out.
        """
        frames = []
        for change in changes:
            owner = owners.get(change.case_id)
            if owner is None or change.is_erased(owner) or change.case_id in self._left:
                continue
            message_id = change.message["id"] if change.message else ""
            is_here = case_of_message.get(message_id, change.case_id) == change.case_id
            frame = change.frame_for(self._principal, self._view, self._masker, owner, with_message=is_here)
            if frame is None:
                continue
            if not self._principal.may_see(owner):
                self._left.add(change.case_id)
            notification = change.notification_frame_for(self._principal, self._view, owner) if is_here else None
            frames.append((notification or b"") + frame)
        return frames


def parse_change(position: Position, event: bytes) -> Change | None:
    """Return the change that a published event reports, or None for one of a restore, which has an epoch of its own.

    Raises ValueError for anything else.
    """
    document = pydantic_core.from_json(event)
    try:
        if document["type"] == DATABASE_RESTORED:
            return None
        data = document["data"]
        ticket = data["ticket"]
        owner = CaseOwnership(ticket["customerId"], ticket["assignedAgentId"], ticket["team"])
        at = document["time"]
        return Change(
            position,
            document["id"],
            document["type"],
            at,
            datetime.fromisoformat(at).timestamp(),
            data,
            owner,
            _previous_owner(owner, data.get("previousOwner") or {}),
            _is_internal(document["type"], data),
        )
    except (KeyError, TypeError, AttributeError) as failure:
        raise ValueError(f"not an event of a case: {failure!r}") from failure


def _previous_owner(owner: CaseOwnership, changed_members: Mapping[str, Any]) -> CaseOwnership:
    return CaseOwnership(
        owner.customer_id,
        changed_members.get("assignedAgentId", owner.assigned_agent_id),
        changed_members.get("team", owner.team),
    )


def _change_type(event_type: str, data: Mapping[str, Any]) -> str:
    return str(data.get("changeType") or IMPLIED_CHANGE_TYPES.get(event_type, event_type))


def _is_internal(event_type: str, data: Mapping[str, Any]) -> bool:
    """Return whether customers must not learn of the change."""
    change_type = _change_type(event_type, data)
    if change_type in (OPENED_CHANGE_TYPE, CLOSED_CHANGE_TYPE):  # a note that came with it is left out
        return False
    if change_type not in CHANGE_TYPES_FOR_CUSTOMERS:
        return data.get("visibility") != "public"
    return any(data[part].get("visibility") == "internal" for part in PARTS_WITH_VISIBILITY if data.get(part))
