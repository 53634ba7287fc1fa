"""A service that requires tokens, with a principal of each role, and one valid request for each operation."""

from datetime import UTC, datetime

import pytest
import pytest_asyncio

from support_service.api.routes import ROUTES
from support_service.api.routing.route import PUBLIC
from support_service.core.domain.principals import ROLES
from support_service.platform.access.tokens import TokenEntry, edit_token_file, hash_token, new_token
from tests.support.calls import form

SUBJECTS = {"agent": "agent-1", "customer": "customer-1"}
EVENT = {
    "specversion": "1.0",
    "id": "e-1",
    "source": "/fulfillment",
    "type": "fulfillment.shipment.updated.v1",
    "data": {"orderId": "ORD-1", "shipmentId": "SHP-1", "status": "in_transit"},
}
MESSAGE = {"authorType": "customer", "message": "Hello"}
PERMISSIONS = {route.operation: route.access for route in ROUTES if route.access != PUBLIC}
# One valid request for each operation that needs a permission: method, path, keywords.
REQUESTS = {
    "open_case": ("POST", "/support/cases", {"json": {"subject": "A parcel", "channel": "email"}}),
    "list_cases": ("GET", "/support/cases", {}),
    "count_cases": ("GET", "/support/cases/count", {}),
    "get_case": ("GET", "/support/cases/{case}?includeTimeline=true", {}),
    "change_case": ("PATCH", "/support/cases/{case}", {"json": {"priority": "high"}}),
    "set_status": ("POST", "/support/cases/{case}/status?status=pending", {}),
    "close_case": ("POST", "/support/cases/{case}/close", {}),
    "delete_case": ("DELETE", "/support/cases/{case}", {}),
    "add_message": ("POST", "/support/cases/{case}/messages", {"json": MESSAGE}),
    "add_link": ("POST", "/support/cases/{case}/links", {"json": {"kind": "related", "caseId": "nobody"}}),
    "remove_link": ("DELETE", "/support/cases/{case}/links/nobody", {}),
    "refresh_timeline": ("POST", "/support/cases/{case}/timeline/refresh", {}),
    "upload": ("POST", "/support/cases/{case}/attachments", None),
    "list_attachments": ("GET", "/support/cases/{case}/attachments", {}),
    "download": ("GET", "/support/cases/{case}/attachments/{file}/note.txt", {}),
    "remove": ("DELETE", "/support/cases/{case}/attachments/{file}", {}),
    "get_customer": ("GET", "/support/customers/customer-1", {}),
    "list_audit": ("GET", "/support/cases/{case}/audit", {}),
    "workload": ("GET", "/support/agents/agent-1/workload", {}),
    "create_view": ("POST", "/support/views", {"json": {"name": "Urgent", "query": {"priority": "urgent"}}}),
    "list_views": ("GET", "/support/views", {}),
    "get_view": ("GET", "/support/views/{view}", {}),
    "change_view": ("PATCH", "/support/views/{view}", {"json": {"name": "Renamed"}}),
    "delete_view": ("DELETE", "/support/views/{view}", {}),
    "get_me": ("GET", "/support/me", {}),
    "list_macros": ("GET", "/support/macros", {}),
    "create_macro": ("POST", "/support/macros", {"json": {"name": "new", "text": "Hello"}}),
    "get_macro": ("GET", "/support/macros/late", {}),
    "put_macro": ("PUT", "/support/macros/late", {"json": {"text": "Bye"}}),
    "delete_macro": ("DELETE", "/support/macros/late", {}),
    "preview_macro": ("POST", "/support/cases/{case}/macros/late/preview", {}),
    "list_sla_policies": ("GET", "/support/sla-policies", {}),
    "get_sla_policy": ("GET", "/support/sla-policies/all", {}),
    "put_sla_policy": ("PUT", "/support/sla-policies/all", {"json": {"targets": {"resolution": "PT9H"}}}),
    "delete_sla_policy": ("DELETE", "/support/sla-policies/all", {}),
    "get_oncall": ("GET", "/support/oncall", {}),
    "set_override": ("PUT", "/support/overrides/payment", {"json": {"reason": "down", "duration": "PT30M"}}),
    "clear_override": ("DELETE", "/support/overrides/order", {}),
    "list_dead_letters": ("GET", "/support/dead-letters", {}),
    "replay_dead_letter": ("POST", "/support/dead-letters/1-0/replay", {}),
    "drop_dead_letter": ("DELETE", "/support/dead-letters/1-0", {}),
    "list_deliveries": ("GET", "/support/webhook-deliveries", {}),
    "replay_delivery": ("POST", "/support/webhook-deliveries/1/replay", {}),
    "drop_delivery": ("DELETE", "/support/webhook-deliveries/1", {}),
    "list_audit_log": ("GET", "/support/audit", {}),
    "verify_audit_log": ("GET", "/support/audit/verification", {}),
    "follow": ("GET", "/support/stream", {}),
    "put_presence": ("PUT", "/support/cases/{case}/presence", {"json": {"state": "viewing"}}),
    "receive_event": ("POST", "/support/events", {"json": EVENT}),
}


class Principals:
    """A service that requires tokens, and the tokens of its principals."""

    def __init__(self, client, path):
        self.client = client
        self._path = path
        self._tokens = {}
        self.views = {}  # the id of the saved view of a principal

    def add(self, name, role, **fields):
        """Create a token for a principal."""
        self._tokens[name] = new_token()
        digest = hash_token(self._tokens[name])
        with edit_token_file(self._path) as entries:
            entries.append(TokenEntry(name=name, sha256=digest, role=role, created=datetime.now(UTC), **fields))

    def request(self, name, method, path, headers=(), **sent):
        """Return a request of a principal."""
        headers = {"Authorization": f"Bearer {self._tokens[name]}", **dict(headers)}
        return self.client.request(method, path, headers=headers, **sent)

    async def read_json(self, name, method, path, **sent):
        """Return the JSON of a response; fail if the request is refused."""
        async with self.request(name, method, path, **sent) as response:
            assert response.status < 300, await response.text()
            return await response.json()

    async def save_view(self, name, title):
        """Save a view of a principal, which `perform` reads and changes from now on."""
        view = await self.read_json(name, "POST", "/support/views", json={"name": title, "query": {}})
        self.views[name] = view["id"]

    def perform(self, name, operation, case, file="none"):
        """Return a request for an operation on a case and its file."""
        method, path, sent = REQUESTS[operation]
        sent = {"data": form(b"hello")} if sent is None else sent
        return self.request(name, method, path.format(case=case, file=file, view=self.views.get(name)), **sent)


@pytest.fixture
async def principals(tmp_path, make_client):
    """A principal of each role, and a second agent and customer."""
    return await open_principals(make_client, tmp_path / "tokens.json")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_principals(tmp_path_factory, make_shared_client):
    """Like `principals`, of one service for all tests of the module, which must not see each other's data."""
    return await open_principals(make_shared_client, tmp_path_factory.mktemp("shared") / "tokens.json")


async def open_principals(make_client, path):
    """Start a service with a principal of each role, and a second agent and customer."""
    principals = Principals(None, path)
    for role in ROLES:
        principals.add(role, role, subject=SUBJECTS.get(role), teams=["returns"] if role == "agent" else [])
    principals.add("other-agent", "agent", subject="agent-2", teams=["billing"])
    principals.add("other-customer", "customer", subject="customer-2")
    principals.client = await make_client(SUPPORT_AUTH="token", SUPPORT_TOKENS_FILE=str(path))
    return principals
