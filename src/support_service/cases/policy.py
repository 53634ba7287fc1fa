"""What a role may do with a case that it sees, beyond what its routes say. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

from support_service.cases.model import Case, NewCase, NewMessage
from support_service.cases.vocabulary import Visibility
from support_service.core import references
from support_service.core.errors import Forbidden
from support_service.core.principals import Caller
from support_service.telemetry.labels import SYNTHETIC

TOLD = frozenset({"order", "order-event", "payment", "shipment", "conversation", "attachment"})
"""The types of a timeline's entries that services or agents stand for."""


def expect_may_say(caller: Caller, new: NewMessage) -> None:
    """A customer speaks for themselves, and to everyone; raises Forbidden."""
    if caller.role == "customer" and new.author_type != "customer":
        raise missing("messages:write-as-others", "A customer's messages have the authorType 'customer'.")
    if caller.role == "customer" and new.visibility != "public":
        raise missing("messages:write-internal", "Internal notes are for agents.")


def expect_may_attach(caller: Caller, visibility: Visibility) -> None:
    """A customer's files are for everyone; raises Forbidden."""
    if not caller.hears(visibility):
        raise missing("attachments:write-internal", "Internal files are for agents.")


def expect_may_open(caller: Caller, new: NewCase) -> NewCase:
    """The case as this caller may open it: a customer's is about themselves, and given to nobody. Raises Forbidden.

    Nor does it name an order, a payment or a shipment: nobody here knows whose those are, and the timeline would tell.
    Nor does it hold what the timeline would show as if a service or an agent had said it. A made-up case is seen by
    nobody, so it is for those who run the service.
    """
    if new.channel == SYNTHETIC and caller.role not in ("supervisor", "service"):
        raise missing("cases:create-synthetic", f"Cases of the channel {SYNTHETIC!r} are the synthetic check's.")
    if new.initial_message:
        expect_may_say(caller, new.initial_message)
    expect_may_assign(caller, None, new.assigned_agent_id)
    if caller.role != "customer":
        return new
    if new.customer_id not in (None, caller.subject):
        raise missing("cases:create-for-others", "A customer opens cases of their own.")
    if new.team is not None:
        raise missing("cases:assign", "Agents decide which team a case goes to.")
    if references.find(new.context) or _speaks_for_others(new.context):
        raise missing("cases:refer", "Agents decide which orders, payments and shipments a case is about.")
    return new.model_copy(update={"customer_id": caller.subject})


def expect_may_assign(caller: Caller, before: str | None, after: str | None) -> None:
    """Agents take cases and give up their own; who takes one from another is a supervisor. Raises Forbidden."""
    if before == after or caller.role in ("supervisor", "service"):
        return
    if caller.role == "agent" and before in (None, caller.subject) and after in (None, caller.subject):
        return
    raise missing("cases:assign", "Only a supervisor gives a case to someone else.")


def heard(caller: Caller, case: Case) -> Case:
    """The case with what a caller may read of it: to a customer no internal note is told, and no internal file."""
    if caller.role == "customer":
        case.attachments = [attachment for attachment in case.attachments if caller.hears(attachment.visibility)]
        case.messages = [message for message in case.messages if caller.hears(message.visibility)]
    return case


def _speaks_for_others(context: Iterable[Mapping[str, Any]]) -> bool:
    return any(isinstance(entry.get("type"), str) and entry["type"] in TOLD for entry in context)


def missing(permission: str, sentence: str) -> Forbidden:
    """The refusal of a caller who lacks a permission."""
    return Forbidden("permission_missing", f"The permission {permission!r} is missing. {sentence}")
