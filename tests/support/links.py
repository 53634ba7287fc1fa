"""Links between cases, and cases with an owner."""

import pytest

OWN = {"assignedAgentId": "agent-1", "customerId": "customer-1"}
FOREIGN = {"assignedAgentId": "agent-2", "team": "billing", "customerId": "customer-2"}


async def add_link(client, case, other, kind="related", *, status=201, **sent):
    body = {"kind": kind, "caseId": other["id"]}
    async with client.post(f"/support/cases/{case['id']}/links", json=body, **sent) as response:
        assert response.status == status, await response.text()
        link = await response.json()
        assert response.headers["Location"] == f"/support/cases/{case['id']}/links/{link['id']}"
        return link


@pytest.fixture
def open_owned(principals):
    """Open a case of an owner."""

    async def make(**owner):
        new = {"subject": "A parcel", "channel": "email"} | owner
        return await principals.read_json("supervisor", "POST", "/support/cases", json=new)

    return make


def link_request(principals, name, case, other, kind="related"):
    body = {"kind": kind, "caseId": other["id"]}
    return principals.request(name, "POST", f"/support/cases/{case['id']}/links", json=body)
