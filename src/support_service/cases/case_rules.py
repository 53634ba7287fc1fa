"""Rules of cases: which status may follow which, and what a role may do with a case that it sees. Pure.

Who may call a route at all is declared at the route.
"""

from collections.abc import Mapping

from support_service.cases.model.case import Message
from support_service.cases.model.requests import NewCase, NewMessage
from support_service.cases.model.vocabulary import Visibility
from support_service.core.domain.case_vocabulary import BOT, Status
from support_service.core.domain.macro_variables import VARIABLES, find_variables, variable_in_braces
from support_service.core.domain.principals import Principal
from support_service.core.errors import FieldError, SupportError, problem

# Allowed status changes. Any other status may change to closed; a closed case can only be reopened.
ALLOWED_STATUS_CHANGES: Mapping[Status, tuple[Status, ...]] = {
    "open": ("pending", "resolved", "closed"),
    "pending": ("open", "resolved", "closed"),
    "resolved": ("open", "pending", "closed"),
    "closed": ("open",),
}


def check_status_change(before: Status, after: Status) -> None:
    """Raise Conflict if a case can't change from one status to the other; an unchanged status is allowed."""
    if after != before and after not in ALLOWED_STATUS_CHANGES[before]:
        allowed = f"it can only become {' or '.join(ALLOWED_STATUS_CHANGES[before])}"
        raise problem("status_move_not_allowed", f"A {before} case can't become {after}: {allowed}.")


def check_may_write(principal: Principal, new: NewMessage) -> None:
    """Raise Forbidden if a caller names another author, or if a customer writes as another author type or internally.

    A customer sends no `sentAt` either. Services name authors.
    """
    if principal.role != "service" and new.author_id not in (None, principal.id):
        raise permission_missing("messages:write-as-others", "Leave `authorId` out: the service sets it.")
    if principal.role == "customer" and new.author_type != "customer":
        raise permission_missing("messages:write-as-others", "A customer's messages have the authorType 'customer'.")
    if principal.role == "customer" and new.visibility != "public":
        raise permission_missing("messages:write-internal", "Internal notes are for agents.")
    _check_may_date(principal, new)


def check_is_filled(message: Message, field: str) -> None:
    """Raise ValidationFailed if a customer would read a variable of macros instead of its value.

    Only public messages of agents and bots are checked. `field` is the field of the request that has the text.
    """
    if message.author_type == "customer" or message.visibility != "public":
        return
    unfilled = [variable_in_braces(name) for name in find_variables(message.message) if name in VARIABLES]
    if unfilled:
        named = ", ".join(unfilled)
        raise problem(
            "variables_unfilled",
            f"The customer would read {named}. Replace each variable with its value, or remove it, and send again.",
            [FieldError(field, f"has variables of macros without a value: {named}")],
        )


def author_of(principal: Principal, new: NewMessage, customer_id: str | None) -> str | None:
    """Return the id of the author of a new message that the principal may write, in a case of a customer."""
    if principal.role == "service" and new.author_id:
        return new.author_id
    return {"customer": customer_id, "bot": BOT, "agent": principal.id}[new.author_type]


def check_may_attach(principal: Principal, visibility: Visibility) -> None:
    """Raise Forbidden if the principal may not read files of this visibility: customers attach public ones only."""
    if principal.reads_only_public and visibility != "public":
        raise permission_missing("attachments:write-internal", "Internal files are for agents.")


def authorize_new_case(principal: Principal, new: NewCase, *, synthetic: bool, may_prioritize: bool) -> NewCase:
    """Return the new case as this principal may open it; raise Forbidden if a part of it is not allowed.

    A customer's case is about the customer, and is not assigned to an agent or a team. It has no context. This service
    does not know who owns the orders, payments and shipments that a context refers to, and the timeline would show
    their data. Service levels go by priority and tags, which a customer sets only if the operator lets customers
    prioritize. Synthetic cases are hidden, so only supervisors and services may open them.
    """
    if synthetic and principal.role not in ("supervisor", "service"):
        raise permission_missing(
            "cases:create-synthetic", f"Cases of the channel {new.channel!r} are the synthetic check's."
        )
    if new.initial_message:
        check_may_write(principal, new.initial_message)
    check_may_assign(principal, None, new.assigned_agent_id)
    if not may_prioritize and (new.priority != "normal" or new.tags):
        raise permission_missing(
            "cases:prioritize", "Agents decide on priority and tags. Leave `tags` out, and `priority` out or 'normal'."
        )
    if principal.role != "customer":
        return new
    if new.customer_id not in (None, principal.subject):
        raise permission_missing("cases:create-for-others", "A customer opens cases of their own.")
    if new.team is not None:
        raise permission_missing("cases:assign", "Agents decide which team a case goes to.")
    _check_may_date(principal, new)
    if new.context:
        raise permission_missing(
            "cases:refer", "Agents add the context, which says what a case is about. Leave `context` out."
        )
    return new.model_copy(update={"customer_id": principal.subject})


def check_may_assign(principal: Principal, before: str | None, after: str | None) -> None:
    """Raise Forbidden if the principal may not change the assigned agent from `before` to `after`.

    Agents may take unassigned cases and give up their own. Supervisors and services may assign any case.
    """
    if before == after or principal.role in ("supervisor", "service"):
        return
    if principal.role == "agent" and before in (None, principal.subject) and after in (None, principal.subject):
        return
    raise permission_missing("cases:assign", "Only a supervisor can assign a case to another agent.")


def _check_may_date(principal: Principal, new: NewCase | NewMessage) -> None:
    if principal.role == "customer" and new.sent_at is not None:
        raise permission_missing(
            "messages:backdate", "What a customer writes has the time of its arrival. Leave `sentAt` out."
        )


def permission_missing(permission: str, sentence: str) -> SupportError:
    """Return the Forbidden error for a missing permission; `sentence` explains the rule."""
    return problem("permission_missing", f"The permission {permission!r} is missing. {sentence}")
