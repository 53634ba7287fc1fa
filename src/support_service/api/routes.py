"""All routes, in the order of the OpenAPI document."""

from types import ModuleType

from support_service.api import (
    agents,
    api_docs,
    attachments,
    audit,
    audit_log,
    case_counts,
    cases,
    customers,
    dead_letters,
    events,
    health,
    links,
    macros,
    me,
    messages,
    oncall,
    overrides,
    presence,
    sla_policies,
    stream,
    timeline,
    views,
    webhook_deliveries,
)
from support_service.api.routing.route import Route

MODULES = (
    # Counts come before the routes of one case, whose ids have another form.
    *(case_counts, cases, messages, links, timeline, attachments, customers, audit, audit_log, agents, views, me),
    *(macros, sla_policies, stream, presence, events, oncall, overrides, dead_letters, webhook_deliveries, health),
    api_docs,
)


def routes_of(module: ModuleType) -> tuple[Route, ...]:
    """Return the routes of a module in the order of their handlers."""
    return tuple(route for route in vars(module).values() if isinstance(route, Route))


ROUTES = tuple(route for module in MODULES for route in routes_of(module))
