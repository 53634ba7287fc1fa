"""Access rules: one row per operation, with its permission and the scope in which each role has it.

Scopes: `all`: every case. `own`: the cases that `Principal.may_see` allows. `masked`: every case, with customers' data
masked. A role that is missing in a row is denied. Operations in PUBLIC need no authentication.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from support_service.core.principals import ROLES, Role

Scope = Literal["all", "own", "masked"]


@dataclass(frozen=True, slots=True)
class AccessRule:
    """A permission, and its scope for each role that has it."""

    permission: str
    reach: Mapping[Role, Scope]


def _rule(permission: str, **reach: Scope) -> AccessRule:
    return AccessRule(permission, {role: reach[role] for role in ROLES if role in reach})


ACCESS_RULES: dict[str, AccessRule] = {
    "open_case": _rule("cases:create", agent="all", supervisor="all", customer="own", service="all"),
    "list_cases": _rule("cases:read", agent="own", supervisor="all", analyst="masked", customer="own"),
    "get_case": _rule("cases:read", agent="own", supervisor="all", analyst="masked", customer="own"),
    "change_case": _rule("cases:write", agent="own", supervisor="all"),
    "set_status": _rule("cases:write", agent="own", supervisor="all"),
    "close_case": _rule("cases:write", agent="own", supervisor="all"),
    "delete_case": _rule("cases:delete", supervisor="all"),
    "add_message": _rule("messages:write", agent="own", supervisor="all", customer="own"),
    "refresh_timeline": _rule("timeline:refresh", agent="own", supervisor="all"),
    "upload": _rule("attachments:write", agent="own", supervisor="all", customer="own"),
    "list_audit": _rule("audit:read", supervisor="all"),
    "list_attachments": _rule("attachments:read", agent="own", supervisor="all", analyst="masked", customer="own"),
    "download": _rule("attachments:download", agent="own", supervisor="all", customer="own"),
    "remove": _rule("attachments:delete", agent="own", supervisor="all"),
    "workload": _rule("agents:read", agent="own", supervisor="all", analyst="all"),
    "receive_event": _rule("events:send", supervisor="all", service="all"),
}
PUBLIC_OPERATIONS = frozenset({"health", "livez", "readyz", "metrics", "openapi", "asyncapi", "docs"})
