"""A service that requires tokens, with a principal of each role, and one valid request for each operation."""

from datetime import UTC, datetime

import pytest
import pytest_asyncio

from support_service.api.openapi.descriptions import PATH_PARAMETERS
from support_service.api.openapi.schemas import first_example
from support_service.api.routes import ROUTES
from support_service.api.routing.route import PUBLIC
from support_service.core.domain.principals import ROLES
from support_service.platform.access.tokens import TokenEntry, edit_token_file, hash_token, new_token
from tests.support.calls import form

SUBJECTS = {"agent": "agent-1", "customer": "customer-1"}
MESSAGE = {"authorType": "customer", "message": "Hello"}
PERMISSIONS = {route.operation: route.access for route in ROUTES if route.access != PUBLIC}
# Parts of paths: `case`, `file`, `view` and `bulk` are those of a test, and `late` and `all` are made by it.
IDS = {
    "case_id": "{case}",
    "attachment_id": "{file}",
    "filename": "note.txt",
    "view_id": "{view}",
    "bulk_id": "{bulk}",
    "customer_id": "customer-1",
    "agent_id": "agent-1",
    "macro_name": "late",
    "policy_name": "all",
}
# What is sent in place of the example in the document, which does not fit the callers or the cases of these tests.
SENT = {
    "open_case": {"subject": "A parcel", "channel": "email"},
    "change_case": {"priority": "high"},
    "set_status": {"status": "pending"},
    "add_message": MESSAGE,
    "put_agent": {"away": True},
    "put_customer": {"name": "Anna"},
    "close_case": {},
    "create_view": {"name": "Urgent", "query": {"priority": "urgent"}},
    "change_view": {"name": "Renamed"},
}


def valid_request(route):
    """Return a valid request for an operation: method, path, keywords. A file is sent without keywords."""
    ids = {name: IDS.get(name, PATH_PARAMETERS[name].schema["examples"][0]) for name in route.path_parameters}
    query = "?includeTimeline=true" if route.query and "include_timeline" in route.query.model_fields else ""
    query = "?q=anna" if route.operation == "find_customers" else query
    sent = {} if route.body is None else {"json": SENT.get(route.operation, first_example(route.body))}
    return route.method, route.path.format(**ids) + query, None if route.is_upload else sent


REQUESTS = {route.operation: valid_request(route) for route in ROUTES if route.access != PUBLIC}


class Principals:
    """A service that requires tokens, and the tokens of its principals."""

    def __init__(self, client, path):
        self.client = client
        self._path = path
        self._tokens = {}
        self.views = {}  # the id of the saved view of a principal
        self.bulks = {}  # the id of the bulk change of a principal

    def add(self, name, role, **fields):
        self._tokens[name] = new_token()
        digest = hash_token(self._tokens[name])
        with edit_token_file(self._path) as entries:
            entries.append(TokenEntry(name=name, sha256=digest, role=role, created=datetime.now(UTC), **fields))

    def request(self, name, method, path, headers=(), **sent):
        return self.client.request(method, path, headers=self.headers(name) | dict(headers), **sent)

    def headers(self, name):
        return {"Authorization": f"Bearer {self._tokens[name]}"}

    async def read_json(self, name, method, path, **sent):
        """Return the JSON of a response; fail if the request is refused."""
        async with self.request(name, method, path, **sent) as response:
            assert response.status < 300, await response.text()
            return await response.json()

    async def save_view(self, name, title):
        """Save a view of a principal, which `perform` reads and changes from now on."""
        view = await self.read_json(name, "POST", "/support/views", json={"name": title, "query": {}})
        self.views[name] = view["id"]

    async def make_bulk_change(self, name, case):
        """Make a bulk change of a principal, which `perform` reads and undoes from now on."""
        sent = {"ids": [case], "change": {"addTags": ["bulk"]}}
        self.bulks[name] = (await self.read_json(name, "POST", "/support/cases/bulk", json=sent))["id"]

    def perform(self, name, operation, case, file="none"):
        """Return a request for an operation on a case and its file."""
        method, path, sent = REQUESTS[operation]
        sent = {"data": form(b"hello")} if sent is None else sent
        path = path.format(case=case, file=file, view=self.views.get(name), bulk=self.bulks.get(name))
        return self.request(name, method, path, **sent)


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
