"""Rows of cases as a large installation has them: deterministic, a tenth open, a tenth pending, four messages each.

One case in a hundred is snoozed, and one is merged into another. The rows do not depend on each other.
"""

import json
import random
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from benchmarks.scale.clocks import DUE_FROM, START, clocks, first_due

MESSAGES_PER_CASE = 4
AGENTS = 200
CALLER = "anyone"  # of all requests
NOTIFICATIONS = 10_000  # of the caller
UNREAD = 200  # of these
CUSTOMERS = 200_000
MERGED_CUSTOMERS = 100  # one customer in so many is merged into the one before
TEAMS = 20
FREQUENT = "parcel"  # a word in every case
RARE = "kintsugi"  # a word in RARE_CASES cases, spread evenly
RARE_CASES = 200
ABSENT = "xylophone"
FREQUENT_TAG, RARE_TAG = "delivery", "vip"
ABSENT_TEAM = "nobody"
LATER = DUE_FROM  # of snoozes and notifications, so that none ends or expires while a service runs
CHANNELS = ("email", "chat", "phone", "web")
STATUSES = ("open", "pending", *("resolved",) * 2, *("closed",) * 6)
PRIORITIES = ("low", "normal", "normal", "high")  # `urgent` is rare: one case in a thousand
WORDS = 4000
_texts = random.Random(17)
VOCABULARY = ["".join(_texts.choices("abcdefghijklmnopqrstuvwxyz", k=_texts.randint(3, 10))) for _ in range(WORDS)]
BODIES = [" ".join(_texts.choices(VOCABULARY, k=_texts.randint(6, 30))) for _ in range(5000)]


VIEWS: dict[str, dict[str, Any]] = {  # filters of saved views by name
    "all": {},
    "open and pending": {"status": ["open", "pending"]},
    "waiting, without agent": {"sort": "waiting", "assignedAgentId": "none"},
    "waiting, urgent": {"sort": "waiting", "priority": "urgent"},
    "urgent and open": {"status": ["open"], "priority": "urgent"},
    "tag of few cases": {"tag": [RARE_TAG]},
    "two tags": {"tag": [FREQUENT_TAG, RARE_TAG]},
    "no team": {"team": ABSENT_TEAM},
    "q of a frequent word": {"q": FREQUENT},
    "snoozed": {"snoozed": True, "sort": "snoozed"},
    "open and pending, not snoozed": {"status": ["open", "pending"], "snoozed": False},
}
VIEW_IDS = {name: str(uuid.UUID(int=(0x4000 << 64) | (0xA << 60) | number)) for number, name in enumerate(VIEWS)}


def agent(number: int) -> str:
    """Return the id of the n-th agent."""
    return f"agent-{number % AGENTS}"


def agents() -> Iterator[dict[str, Any]]:
    """Yield the rows of the directory, which has every agent."""
    for number in range(AGENTS):
        yield {
            "id": agent(number),
            "display_name": f"Agent {number}",
            "teams": json.dumps([f"team-{number % TEAMS}"]),
            "away": False,
            "name_from_claims": False,
            "created_at": START,
            "updated_at": START,
            "version": 1,
        }


def notifications(case: dict[str, Any], count: int) -> Iterator[dict[str, Any]]:
    """Yield the notifications of a case: of its agent, and in some cases of the caller, who has 10,000 or fewer."""
    people = [case["assigned_agent_id"] or agent(0)]
    number, is_of_other = divmod(case["seq"], max(1, count // NOTIFICATIONS))
    if not is_of_other:
        people.append(CALLER)
    is_read = number % (NOTIFICATIONS // UNREAD) > 0
    for place, person in enumerate(people):
        yield {
            "id": f"{place:08d}{case['id'][8:]}",
            "recipient": person,
            "kind": "message",
            "case_id": case["id"],
            "actor": "customer",
            "at": LATER,
            "read_at": LATER if is_read else None,
        }


def customers(count: int) -> Iterator[dict[str, Any]]:
    """Yield the records of customers, with a name each: all, or as many as there are cases."""
    for number in range(min(count, CUSTOMERS)):
        place = number % MERGED_CUSTOMERS
        person = number - place if place < 2 else None
        yield {
            "id": f"customer-{number}",
            "name": f"Customer {number}",
            "contacts": json.dumps([{"kind": "email", "value": f"{number}@example.org", "label": None}]),
            "merged_into": f"customer-{person}" if place == 1 else None,
            "person": None if person is None else f"customer-{person}",
            "person_name": None if person is None else f"Customer {person}",
            "audit_id": f"record-{number}",
            "created_at": START,
            "updated_at": START,
            "version": 1,
        }


def customer_terms(count: int) -> Iterator[dict[str, Any]]:
    """Yield the texts by which these customers are found."""
    for number in range(min(count, CUSTOMERS)):
        for term in (f"customer {number}", f"{number} customer", f"email:{number}@example.org"):
            yield {"customer_id": f"customer-{number}", "term": term}


def customer_of(number: int, count: int) -> str:
    """Return the customer of one of `count` cases."""
    return str(case(1 + number * 7919 % count, count)["customer_id"])


def views() -> Iterator[dict[str, Any]]:
    """Yield the rows of views, which belong to a team: supervisors read them."""
    for name, query in VIEWS.items():
        yield {
            "id": VIEW_IDS[name],
            "team": "team-0",
            "name": name,
            "query": json.dumps(query),
            "created_at": START,
            "updated_at": START,
        }


def case_id(seq: int) -> str:
    """Return the id of a case."""
    return str(uuid.UUID(int=(0x4000 << 64) | (0x8 << 60) | seq))


def case(seq: int, count: int) -> dict[str, Any]:
    """Return the row of case `seq` of `count` in `tickets`."""
    shuffled = seq * 2_654_435_761 % (1 << 32)  # so that the columns do not depend on each other
    at = START + timedelta(seconds=40 * seq)
    status = STATUSES[shuffled % 10]
    subject = f"{FREQUENT} {BODIES[shuffled % 4999][:60]}"
    if seq % max(1, count // RARE_CASES) == 1:
        subject = f"{RARE} {subject}"
    customer = f"customer-{shuffled // 7 % CUSTOMERS}"
    description = BODIES[shuffled // 11 % 5000]
    own_clocks = clocks_of(seq)
    return {
        "seq": seq,
        "id": case_id(seq),
        "subject": subject,
        "description": description,
        "customer_id": customer,
        "status": status,
        "priority": "urgent" if shuffled // 13 % 1000 == 0 else PRIORITIES[shuffled // 17 % 4],
        "channel": CHANNELS[shuffled // 19 % 4],
        "assigned_agent_id": f"agent-{shuffled // 23 % AGENTS}" if shuffled // 29 % 10 else None,
        "team": f"team-{shuffled // 31 % TEAMS}" if shuffled // 37 % 50 else None,
        "context": f'[{{"type": "order", "orderId": {seq}}}]',
        "tags": json.dumps(tags(seq)),
        "search_text": f"{subject} {description} {customer.replace('-', ' ')}",
        "created_at": at,
        "updated_at": at + timedelta(hours=1 + shuffled // 41 % 500),
        "waiting_since": at if status == "open" else None,
        "answered_at": at + timedelta(minutes=30),
        "version": 1 + MESSAGES_PER_CASE,
        "conversation_bytes": 1024 * MESSAGES_PER_CASE,
        "sla_policy": own_clocks[0]["policy"] if own_clocks else None,
        "sla_due_at": first_due(own_clocks),
        "snoozed_until": LATER + timedelta(minutes=seq) if status == "pending" and seq % 20 == 3 else None,
        "followers": json.dumps([agent(shuffled // 71), agent(shuffled // 73)]) if seq % 20 == 0 else None,
    }


def result(case: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what reports know of a case that was solved: one in twenty was reopened, one in ten was late."""
    if case["status"] in ("resolved", "closed"):
        yield {
            "case_id": case["id"],
            "solved_at": case["updated_at"],
            "reopened": int(case["seq"] % 20 == 0),
            "breaches": int(case["seq"] % 10 == 0),
        }


def clocks_of(seq: int) -> list[dict[str, Any]]:
    """Return the rows of the clocks of case `seq`."""
    shuffled = seq * 2_654_435_761 % (1 << 32)
    return clocks(case_id(seq), STATUSES[shuffled % 10], START + timedelta(seconds=40 * seq), shuffled)


def original(number: int, count: int) -> int:
    """Return the seq of the n-th case that others are merged into: it is open."""
    seq = 100 + number * (count // 20)
    return next(each for each in range(seq, seq + 100) if STATUSES[each * 2_654_435_761 % (1 << 32) % 10] == "open")


def duplicate(number: int, place: int, count: int) -> int:
    """Return the seq of a case that is merged into the n-th one."""
    return original(number, count) + 1 + place


def is_merged(seq: int, count: int) -> bool:
    """Return whether case `seq` is merged into the one before it: of 60 closed cases one. None near an `original`."""
    status = STATUSES[seq * 2_654_435_761 % (1 << 32) % 10]
    return seq % 60 == 4 and status == "closed" and not 95 <= seq % max(1, count // 20) < 210


def links(seq: int, count: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of the links of case `seq`: one case in fifty is related to the one before it."""
    kinds = ["related"] * (seq % 50 == 2) + ["duplicate-of"] * is_merged(seq, count)
    for place, kind in enumerate(kinds):
        yield {
            "id": str(uuid.UUID(int=(0x4000 << 64) | (0xB << 60) | place << 40 | seq)),
            "case_id": case_id(seq),
            "kind": kind,
            "other_case_id": case_id(seq - 1),
            "previous_status": "open" if kind == "duplicate-of" else None,
            "created_at": START,
        }


def tags(seq: int) -> list[str]:
    """Return the tags of case `seq`: a quarter of the cases has a frequent one, one in a thousand a rare one."""
    shuffled = seq * 2_654_435_761 % (1 << 32)
    return [FREQUENT_TAG] * (shuffled // 43 % 4 == 0) + [RARE_TAG] * (shuffled // 47 % 1000 == 0)


def messages(seq: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of the messages of case `seq`."""
    for number in range(MESSAGES_PER_CASE):
        own = (seq - 1) * MESSAGES_PER_CASE + number + 1
        yield {
            "seq": own,
            "id": str(uuid.UUID(int=(0x4000 << 64) | (0x9 << 60) | own)),
            "ticket_id": case_id(seq),
            "author_type": ("customer", "agent")[number % 2],
            "author_id": agent(own // 7) if number % 2 else None,
            "message": BODIES[own * 7919 % 5000],
            "visibility": "public",
            "created_at": START + timedelta(seconds=40 * seq + 300 * number),
            "has_document": True,  # see `documents`
        }


def reference(seq: int) -> dict[str, Any]:
    """Return the row of the order that case `seq` is about in `ticket_references`."""
    return {"ticket_id": case_id(seq), "kind": "order", "value": str(seq)}


def documents(ticket: dict[str, Any], said: list[dict[str, Any]]) -> Iterator[tuple[int, str]]:
    """Yield (id, words) of the search documents of a case."""
    first = ticket["seq"] << 20
    yield first, ticket["search_text"]
    for number, message in enumerate(said, 1):
        yield first + number, message["message"]
