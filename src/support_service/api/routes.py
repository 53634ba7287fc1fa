"""All routes, in the order of the OpenAPI document."""

from support_service.api import (
    agents,
    attachments,
    audit,
    bulk,
    cases,
    customers,
    events,
    macros,
    notifications,
    oncall,
    oncall_actions,
    reports,
    service,
    sla_policies,
    stream,
    views,
)
from support_service.api.routing.route import Route

MODULES = (
    *(bulk, cases, attachments, customers, audit, agents, notifications, views, macros, sla_policies, reports),
    *(stream, events, oncall, oncall_actions, service),
)
ROUTES = tuple(route for module in MODULES for route in vars(module).values() if isinstance(route, Route))
