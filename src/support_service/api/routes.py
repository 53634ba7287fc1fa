"""Route table: the source of the app's routes and of the OpenAPI document, in the order of the document."""

from support_service.api import (
    agents,
    api_docs,
    attachments,
    audit,
    cases,
    customers,
    events,
    health,
    links,
    macro_preview,
    macros,
    me,
    messages,
    sla_policies,
    timeline,
    views,
)

ROUTES = (
    *cases.ROUTES,
    *messages.ROUTES,
    *links.ROUTES,
    *timeline.ROUTES,
    *attachments.ROUTES,
    *customers.ROUTES,
    *audit.ROUTES,
    *agents.ROUTES,
    *views.ROUTES,
    *me.ROUTES,
    *macros.ROUTES,
    *macro_preview.ROUTES,
    *sla_policies.ROUTES,
    *events.ROUTES,
    *health.ROUTES,
    *api_docs.ROUTES,
)
