"""Access rules: one row per operation, with its permission and the scope in which each role has it.

Scopes: `all`: every case. `theirs`: the cases that `Principal.sees` allows. `masked`: every case, with customers' data
masked. A role that is missing in a row is denied. Operations in PUBLIC need no authentication.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from support_service.core.principals import ROLES, Role

Scope = Literal["all", "theirs", "masked"]


@dataclass(frozen=True, slots=True)
class AccessRule:
    """A permission, and its scope for each role that has it."""

    permission: str
    reach: Mapping[Role, Scope]


def _rule(permission: str, **reach: Scope) -> AccessRule:
    return AccessRule(permission, {role: reach[role] for role in ROLES if role in reach})


ACCESS_RULES: dict[str, AccessRule] = {
    "open_case": _rule("cases:create", agent="all", supervisor="all", customer="theirs", service="all"),
    "list_cases": _rule("cases:read", agent="theirs", supervisor="all", analyst="masked", customer="theirs"),
    "get_case": _rule("cases:read", agent="theirs", supervisor="all", analyst="masked", customer="theirs"),
    "change_case": _rule("cases:write", agent="theirs", supervisor="all"),
    "set_status": _rule("cases:write", agent="theirs", supervisor="all"),
    "close_case": _rule("cases:write", agent="theirs", supervisor="all"),
    "delete_case": _rule("cases:delete", supervisor="all"),
    "add_message": _rule("messages:write", agent="theirs", supervisor="all", customer="theirs"),
    "refresh_timeline": _rule("timeline:refresh", agent="theirs", supervisor="all"),
    "upload": _rule("attachments:write", agent="theirs", supervisor="all", customer="theirs"),
    "list_audit": _rule("audit:read", supervisor="all"),
    "list_attachments": _rule(
        "attachments:read", agent="theirs", supervisor="all", analyst="masked", customer="theirs"
    ),
    "download": _rule("attachments:download", agent="theirs", supervisor="all", customer="theirs"),
    "remove": _rule("attachments:delete", agent="theirs", supervisor="all"),
    "workload": _rule("agents:read", agent="theirs", supervisor="all", analyst="all"),
    "receive_event": _rule("events:send", supervisor="all", service="all"),
}
PUBLIC_OPERATIONS = frozenset({"health", "livez", "readyz", "metrics", "openapi", "asyncapi", "docs"})
