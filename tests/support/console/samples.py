"""Texts and cases that the console shows, and what the service says about them."""

from tests.support.calls import open_case, read_detail

MEGABYTE = 1_000_000
LONG_WORD = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft" * 2
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>"


def case_path(case):
    return f"/console/cases/{case['id']}"


def api_path(case):
    return f"/support/cases/{case['id']}"


async def messages(client, case):
    return [(each["message"], each["visibility"]) for each in (await read_detail(client, case))["messages"]]


async def open_waiting(client, *subjects, **fields):
    """Open cases whose customers wait, the longest-waiting first."""
    message = {"authorType": "customer", "message": "Hello"}
    return [await open_case(client, subject=subject, initialMessage=message, **fields) for subject in subjects]


async def overrides(client):
    items = (await (await client.get("/support/oncall")).json())["sources"]["items"]
    return {each["service"]: each["override"]["reason"] for each in items if each["override"]}
