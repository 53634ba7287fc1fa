"""Each operation of the API on PostgreSQL: its statements are valid there, and no text of a client makes one fail.

What they do is shown by tests of the stores on both databases, and by tests of the API on SQLite.
"""

import pytest
from yarl import URL

from tests.support.access.principals import MESSAGE, PERMISSIONS, REQUESTS, shared_principals  # noqa: F401 - a fixture
from tests.support.calls import form

pytestmark = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
OWN = {"customerId": "customer-1", "assignedAgentId": "agent-1", "team": "returns"}
# What they name does not exist, or the role may not do it with this case.
REFUSED = {"delete_case", "add_link", "merge_case", "split_case", "remove_link", "replay_dead_letter"}
REFUSED |= {"drop_dead_letter", "replay_delivery", "drop_delivery", "remove"}
WRONG_URLS = [
    "/support/cases?customerId=%00",
    "/support/cases?channel=a%00b",
    "/support/cases?q=%00",
    "/support/cases?assignedAgentId=%FF",
    "/support/agents/%00/workload",
    "/support/customers/%00",
    "/support/customers/%ED%A0%80",
    "/support/cases/%00",
    "/support/cases/x/attachments/%00/a.txt",
]


async def open_case(principals):
    new = {"subject": "Where is the parcel?", "channel": "email", "initialMessage": MESSAGE, **OWN}
    case = await principals.read_json("supervisor", "POST", "/support/cases", json=new)
    path = f"/support/cases/{case['id']}"
    note = {"authorType": "agent", "message": "She is cross.", "visibility": "internal"}
    await principals.read_json("supervisor", "POST", f"{path}/messages", json=note)
    return case["id"], (await principals.read_json("supervisor", "POST", f"{path}/attachments", data=form(b"a")))["id"]


@pytest.mark.parametrize("role", ["supervisor", "agent", "customer"])
async def test_each_operation_of_a_role_succeeds(shared_principals, role, subtests):  # noqa: F811 - a fixture
    """Roles have statements of their own: agents for the cases of their teams, customers for what is public."""
    principals = shared_principals
    case = await open_case(principals)
    policy = {"targets": {"firstResponse": "PT1H"}, "match": {"tag": ["in no case"]}}
    for path, sent in (
        ("macros/late", {"text": "{{case.subject}}"}),
        ("agents/agent-1", {}),
        ("sla-policies/all", policy),
    ):
        await principals.read_json("supervisor", "PUT", f"/support/{path}", json=sent)
    of_other = {"subject": "A parcel", "channel": "email", "customerId": "shop-1042"}
    await principals.read_json("supervisor", "POST", "/support/cases", json=of_other)
    await principals.read_json("supervisor", "POST", "/support/customers/shop-1042/merge", json={"into": "customer-1"})
    allowed = sorted((name for name in REQUESTS if role in PERMISSIONS[name].scopes), key=_order)
    for number, operation in enumerate(allowed):
        with subtests.test(operation):
            path = REQUESTS[operation][1]
            if _is_change(operation) and "{case}" in path:
                case = await open_case(principals)
            if "{view}" in path:
                await principals.save_view(role, f"{number}")
            if "{bulk}" in path:
                await principals.make_bulk_change(role, case[0])
            async with principals.perform(role, operation, *case) as response:
                assert response.status < (500 if operation in REFUSED else 300), await response.text()


def _is_change(operation):
    return REQUESTS[operation][0] != "GET"


def _order(operation):
    return _is_change(operation), REQUESTS[operation][0] == "DELETE"


async def test_texts_that_postgresql_refuses_are_no_server_error(shared_principals):  # noqa: F811 - a fixture
    """NUL and invalid UTF-8 are refused or match nothing."""
    for path in WRONG_URLS:
        async with shared_principals.request("supervisor", "GET", URL(path, encoded=True)) as response:
            assert response.status in (200, 404, 422), path
