"""The variables of macros, and the texts that they are filled into. Pure: no I/O.

A variable is a name between two braces, such as `{{order.status}}`, with or without spaces. A variable of a service
gets its value only if the service's part of the timeline is current. Otherwise it stays in the text as it is and is
reported, so that no customer reads an outdated status.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from support_service.core.domain.references import SourceReferences, SourceStatus
from support_service.core.domain.upstream_services import SOURCES, UpstreamService

VARIABLE_PATTERN = re.compile(r"\{\{([^{}]*)\}\}")
MAX_VALUE_LENGTH = 255  # characters of a value; a longer one is not a status or a number that a customer can be told

UnfilledReason = Literal["stale", "unavailable", "off", "none"]
"""Why a variable has no value: the state of its service's part of the timeline, or `none` if there is none."""


class Variable(NamedTuple):
    """Where the value of a variable comes from: a member of the case, or of the service's entry in the timeline."""

    member: str
    service: UpstreamService | None = None


# States of a service's part in which its entries are outdated, incomplete or missing.
REASON_BY_SOURCE_STATUS: Mapping[str, UnfilledReason] = {"stale": "stale", "unavailable": "unavailable", "off": "off"}
LAST_ORDER_MEMBER = "orderId"  # not a member of the case: the order that its context mentions last
VARIABLES: Mapping[str, Variable] = {
    "customer.id": Variable("customerId"),
    "case.id": Variable("id"),
    "case.subject": Variable("subject"),
    "agent.id": Variable("assignedAgentId"),
    "order.id": Variable(LAST_ORDER_MEMBER),
} | {
    f"{source.kind}.{member}": Variable(member, source.service)
    for source in SOURCES.values()
    for member in source.variables
}


@dataclass(frozen=True, slots=True)
class CaseValues:
    """What variables are filled from: a case with the members of the API, and what the services know about it."""

    case: Mapping[str, Any]
    references: Mapping[UpstreamService, SourceReferences]
    entries: Collection[Mapping[str, Any]] = ()  # of the services, in the form of timeline entries
    sources: Mapping[UpstreamService, SourceStatus] | None = None  # None: no service was asked


@dataclass(frozen=True, slots=True)
class FilledText:
    """A text with its variables filled, and the variables that stay in it, each with the reason."""

    text: str
    unfilled: dict[str, UnfilledReason]


def variable_in_braces(name: str) -> str:
    """Return a variable as it is written in a text."""
    return f"{{{{{name}}}}}"


def find_variables(text: str) -> list[str]:
    """Return the names between two braces, known or not, in the order of their first use."""
    return list(dict.fromkeys(name.strip() for name in VARIABLE_PATTERN.findall(text)))


def has_variables_of_services(text: str) -> bool:
    """Return whether a text has a variable whose value a service knows."""
    return any(name in VARIABLES and VARIABLES[name].service for name in find_variables(text))


def fill_variables(text: str, values: CaseValues) -> FilledText:
    """Fill the variables of a text. Values are inserted as they are: braces in them are no variables."""
    found = {name: _value_or_reason(name, values) for name in find_variables(text)}

    def value_or_variable(variable: re.Match[str]) -> str:
        value, _ = found[variable[1].strip()]
        return variable[0] if value is None else value

    return FilledText(
        VARIABLE_PATTERN.sub(value_or_variable, text),
        {name: reason for name, (value, reason) in found.items() if value is None},
    )


def _value_or_reason(name: str, values: CaseValues) -> tuple[str | None, UnfilledReason]:
    """Return the value of a variable, or None and the reason."""
    variable = VARIABLES.get(name)
    if variable is None:  # a text that another release has saved
        return None, "none"
    if variable.service is None:
        is_order = variable.member == LAST_ORDER_MEMBER
        return _value_as_text(_last_order_id(values) if is_order else values.case.get(variable.member)), "none"
    status = values.sources[variable.service]["status"] if values.sources else "none"
    if reason := REASON_BY_SOURCE_STATUS.get(status):
        return None, reason
    entry = _newest_entry(values, variable.service)
    return _value_as_text(entry.get(variable.member)), "none"


def _last_order_id(values: CaseValues) -> str | None:
    ids = values.references.get("order", SourceReferences()).ids
    return ids[-1] if ids else None


def _newest_entry(values: CaseValues, service: UpstreamService) -> Mapping[str, Any]:
    """Return the entry of the object that the context mentions last, or no members.

    Of objects that the context mentions only by their order, or not at all, the newest object of the last order counts.
    """
    kind, wanted = SOURCES[service].kind, values.references.get(service, SourceReferences())
    member, ids = (f"{kind}Id", wanted.ids) if wanted.ids else ("orderId", wanted.of_orders)
    if not ids:
        return {}
    matching = (
        entry for entry in values.entries if entry.get("type") == kind and str(entry.get(member, "")) == ids[-1]
    )
    return max(matching, key=lambda entry: str(entry.get("timestamp") or ""), default={})


def _value_as_text(value: object) -> str | None:
    """Return a value as text, or None if it is no text or integer, is blank, or is longer than MAX_VALUE_LENGTH."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = str(value)
    return text if text.strip() and len(text) <= MAX_VALUE_LENGTH else None
