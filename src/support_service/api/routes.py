"""All routes, in the order of the OpenAPI document."""

from support_service.api import (
    agents,
    attachments,
    audit,
    cases,
    customers,
    events,
    macros,
    oncall,
    oncall_actions,
    presence,
    service,
    sla_policies,
    stream,
    timeline,
)
from support_service.api.routing.route import Route

MODULES = (
    *(cases, timeline, attachments, customers, audit, agents, macros, sla_policies, stream, presence, events),
    *(oncall, oncall_actions, service),
)
ROUTES = tuple(route for module in MODULES for route in vars(module).values() if isinstance(route, Route))
