"""Texts and cases that the console shows, and what the service says about them."""

from support_service.events.broker.base import Delivery
from support_service.events.component import DEAD_LETTERS
from tests.support.calls import open_case, read_detail

MEGABYTE = 1_000_000
LONG_WORD = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft" * 2
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>"


def case_path(case):
    """Return the address of a case in the console."""
    return f"/console/cases/{case['id']}"


async def messages(client, case):
    """Return the messages of a case as (text, visibility)."""
    return [(each["message"], each["visibility"]) for each in (await read_detail(client, case))["messages"]]


async def open_waiting(client, *subjects, **fields):
    """Open cases whose customers wait, the longest-waiting first."""
    message = {"authorType": "customer", "message": "Hello"}
    return [await open_case(client, subject=subject, initialMessage=message, **fields) for subject in subjects]


async def give_up(client, *events):
    """Make dead letters of events."""
    letters = client.app[DEAD_LETTERS]
    for event in events:
        await letters._broker.backlog(letters._stream)  # creates the stream's group
        given_up = Delivery("1-1", event.encode(), 5)
        await letters._broker.move_to_dead_letters(letters._stream, given_up, HOSTILE, "2026-05-12T12:00:00+00:00")


async def overrides(client):
    """Return the overrides of services in effect, by their names."""
    items = (await (await client.get("/support/oncall")).json())["sources"]["items"]
    return {each["service"]: each["override"]["reason"] for each in items if each["override"]}
